from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableBranch,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langgraph.graph import START, StateGraph

from locktender.app.keyword_argument import is_taken_by

PROMPT = PromptTemplate.from_template("{a}")
MODEL: Any = FakeListChatModel(responses=["x"])
LLM: Any = FakeListLLM(responses=["x"])


def deaf(value: Any) -> Any:
    return value


def hearing(value: Any, stop: Any = None) -> Any:
    return value, stop


async def open_to_all(value: Any, **kwargs: Any) -> Any:
    return value, kwargs


def sums(values: Iterator[Any], stop: Any = None) -> Iterator[Any]:
    yield stop
    yield from values


async def asums(values: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for value in values:
        yield value


@pytest.mark.parametrize(
    "runnable",
    [
        MODEL,
        LLM,
        MODEL | StrOutputParser(),
        MODEL.bind(stop=["a"]),
        MODEL.with_retry() | deaf,
        MODEL.with_fallbacks([LLM]),
        MODEL.configurable_fields(responses=ConfigurableField("responses")),
        RunnableLambda(hearing),
        RunnableLambda(open_to_all),
        RunnablePassthrough(hearing),
        RunnableGenerator(sums),
        RunnableBranch((lambda _: True, MODEL), LLM),
        MODEL.map(),
    ],
)
def test_what_gets_it_and_takes_it(runnable: Runnable[Any, Any]) -> None:
    assert is_taken_by(runnable, "stop")


@pytest.mark.parametrize(
    "runnable",
    [
        PROMPT,
        PROMPT | MODEL,
        RunnablePassthrough() | MODEL,
        RunnablePassthrough.assign(a=MODEL),
        RunnableParallel(a=MODEL),
        RunnableLambda(deaf) | MODEL,
        RunnableLambda(deaf, afunc=open_to_all),
        RunnableGenerator(asums),
        StrOutputParser(),
        MODEL.with_fallbacks([PROMPT | MODEL]),
        RunnableBranch((lambda _: True, MODEL), PROMPT | MODEL),
        (PROMPT | MODEL).map(),
    ],
)
def test_what_gets_it_and_passes_it_over(runnable: Runnable[Any, Any]) -> None:
    assert not is_taken_by(runnable, "stop")


def test_a_graph_stops_at_nodes_and_not_at_words() -> None:
    builder: Any = StateGraph(dict)
    builder.add_node("deaf", deaf)
    builder.add_edge(START, "deaf")
    graph: Any = builder.compile()
    assert not is_taken_by(graph, "stop")
    assert is_taken_by(graph, "interrupt_before")


def test_a_class_of_one_s_own_is_believed() -> None:
    class Own(Runnable[Any, Any]):
        def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's signature
            return input, config, kwargs

    assert is_taken_by(Own(), "stop")
