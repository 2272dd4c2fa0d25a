"""A chain's text parser does on the event loop what LangChain's does in a thread."""

import threading
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_core.tracers.context import collect_runs

from locktender.app.text_parser import with_direct_text_parsers

TEXT = "one two three"


def model() -> Runnable[Any, Any]:
    return GenericFakeChatModel(messages=iter(lambda: AIMessage(TEXT), None))


CHAINS: dict[str, Runnable[Any, Any]] = {
    "sequence": model() | StrOutputParser(),
    "in the middle": model() | StrOutputParser() | RunnableLambda(str.upper),
    "binding": (model() | StrOutputParser(name="words")).with_config(tags=["a"]),
    "parallel": RunnableParallel(a=model() | StrOutputParser(), b=model()) | RunnableLambda(str),
    "alone": StrOutputParser(),
    "other": model() | RunnableLambda(lambda message: message.content),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_chain_is_the_same_to_everybody_who_looks(name: str) -> None:
    chain, direct = CHAINS[name], with_direct_text_parsers(CHAINS[name])
    assert repr(direct) == repr(chain)
    assert dumpd(direct)["name"] == dumpd(chain)["name"]
    assert direct.get_graph().to_json() == chain.get_graph().to_json()
    assert direct.get_output_jsonschema() == chain.get_output_jsonschema()
    assert direct.get_input_jsonschema() == chain.get_input_jsonschema()


@pytest.mark.parametrize("name", ["sequence", "in the middle", "binding", "alone"])
async def test_the_answers_are_the_same(name: str) -> None:
    chain, direct = CHAINS[name], with_direct_text_parsers(CHAINS[name])
    assert await direct.ainvoke("x") == await chain.ainvoke("x")
    assert direct.invoke("x") == chain.invoke("x")
    assert [piece async for piece in direct.astream("x")] == [
        piece async for piece in chain.astream("x")
    ]
    assert list(direct.stream("x")) == list(chain.stream("x"))


async def test_the_callbacks_are_told_the_same() -> None:
    told = []
    for chain in (CHAINS["sequence"], with_direct_text_parsers(CHAINS["sequence"])):
        with collect_runs() as runs:
            assert [piece async for piece in chain.astream("x")]
        told.append(
            [(run.name, run.run_type, run.outputs) for run in runs.traced_runs[0].child_runs[1:]]
        )
    assert told[0] == told[1]


async def test_the_parser_leaves_the_event_loop_only_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    parse = StrOutputParser.parse

    def noted(self: StrOutputParser, text: str) -> str:
        threads.append(threading.current_thread())
        return parse(self, text)

    monkeypatch.setattr(StrOutputParser, "parse", noted)
    chain = CHAINS["sequence"]
    assert [piece async for piece in chain.astream("x")]
    assert threading.current_thread() not in threads
    threads.clear()
    direct = with_direct_text_parsers(chain)
    assert [piece async for piece in direct.astream("x")]
    assert await direct.ainvoke("x") == TEXT
    assert set(threads) == {threading.current_thread()}


def test_the_chain_that_was_given_is_left_as_it_is() -> None:
    parser = StrOutputParser()
    chain = model() | parser
    assert with_direct_text_parsers(chain) is not chain
    assert chain.steps[-1] is parser  # type: ignore[attr-defined] # a sequence
    assert type(parser) is StrOutputParser


def test_a_chain_without_one_is_not_copied() -> None:
    assert with_direct_text_parsers(CHAINS["other"]) is CHAINS["other"]


async def test_a_parser_of_another_class_keeps_its_thread() -> None:
    threads: list[threading.Thread] = []

    class Slow(StrOutputParser):
        def parse(self, text: str) -> str:
            threads.append(threading.current_thread())
            return text

    direct = with_direct_text_parsers(model() | Slow())
    assert [piece async for piece in direct.astream("x")]
    assert threading.current_thread() not in threads
