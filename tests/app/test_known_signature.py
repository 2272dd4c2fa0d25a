"""A chain's functions say at once what LangChain asks for at each run, and do what they did."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel

from locktender.app.known_signature import with_known_signatures

FACTOR = 3


def plain(value: int) -> int:
    """Multiply."""
    return value * FACTOR


async def with_config(value: int, config: RunnableConfig, *, more: int = 1) -> str:
    return f"{value + more} {config['metadata']['who']}"


def closed_over(step: int) -> Callable[[int], int]:
    def add(value: int, default: int = 10) -> int:
        return value + step + default

    return add


def returning_a_runnable(value: int) -> Any:
    return RunnableLambda(plain) if value else RunnableLambda(closed_over(1))


async def in_async_pieces(value: int) -> AsyncIterator[int]:
    for n in range(value):
        yield n


class Step:
    def __call__(self, value: int) -> int:
        return value - 1

    def method(self, value: int) -> int:
        return value - 2


FUNCTIONS: dict[str, Any] = {
    "plain": RunnableLambda(plain),
    "coroutine with config": RunnableLambda(with_config),
    "both": RunnableLambda(plain, afunc=with_config),
    "closure": RunnableLambda(closed_over(5)),
    "lambda": RunnableLambda(lambda value: value),
    "runnable": RunnableLambda(returning_a_runnable),
    "asynchronous generator": RunnableLambda(in_async_pieces),
    "object": RunnableLambda(Step()),
    "method": RunnableLambda(Step().method),
    "partial": RunnableLambda(functools.partial(plain)),
    "built in": RunnableLambda(abs),
    "chain": RunnableParallel(a=plain, b=RunnableLambda(with_config)) | RunnableLambda(str),
}
CONFIG = RunnableConfig(metadata={"who": "somebody"})


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_a_run_is_the_same(name: str) -> None:
    chain, served = FUNCTIONS[name], with_known_signatures(FUNCTIONS[name])
    assert await served.ainvoke(4, CONFIG) == await chain.ainvoke(4, CONFIG)
    assert [piece async for piece in served.astream(4, CONFIG)] == [
        piece async for piece in chain.astream(4, CONFIG)
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_chain_is_the_same_to_everybody_who_looks(name: str) -> None:
    chain, served = FUNCTIONS[name], with_known_signatures(FUNCTIONS[name])
    assert repr(served) == repr(chain)
    assert served.get_graph().to_json() == chain.get_graph().to_json()
    assert served.get_input_jsonschema() == chain.get_input_jsonschema()
    assert served.get_output_jsonschema() == chain.get_output_jsonschema()


def test_a_signature_is_worked_out_once() -> None:
    served = with_known_signatures(RunnableLambda(plain, afunc=with_config))
    assert isinstance(served, RunnableLambda)
    for function, own in ((served.func, plain), (served.afunc, with_config)):
        assert inspect.signature(function) is inspect.signature(function)
        assert inspect.signature(function) == inspect.signature(own)


def test_the_user_s_own_function_is_left_as_it_is() -> None:
    before = dict(vars(plain))
    chain = RunnableLambda(plain)
    served = with_known_signatures(chain)
    assert served is not chain
    assert chain.func is plain
    assert vars(plain) == before
    assert isinstance(served, RunnableLambda)
    assert served.func.__doc__ == "Multiply."
    assert inspect.getsource(served.func) == inspect.getsource(plain)


def test_a_subclass_keeps_its_function() -> None:
    class Own(RunnableLambda[int, int]):
        pass

    own = Own(plain)
    assert with_known_signatures(own) is own
