"""Models that only functions know: closures, defaults, partials, methods and callable objects."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableGenerator, RunnableLambda

from adopt.chains.models import Echo, pipeline, remote

__all__ = ["PLANTED", "chain"]

closed, given, keyed, filled, owned, called, streamed, cached = (Echo() for _ in range(8))
wrapped = pipeline()
SAFE = remote()


def _answer_with(model: Any) -> Callable[[str], str]:
    def answer(text: str) -> str:
        return str(model.invoke(text))

    return answer


def _default(text: str, model: Any = given, *, other: Any = keyed) -> str:
    return str(other.invoke(model.invoke(text)))


def _filled(model: Any, text: str) -> str:
    return str(model.invoke(text))


@dataclass(slots=True)
class _Caller:
    model: Any

    def answer(self, text: str) -> str:
        return str(self.model.invoke(text))

    def __call__(self, text: str) -> str:
        return self.answer(text)


def _traced(function: Callable[[str], str]) -> Callable[[str], str]:
    @functools.wraps(function)
    def call(text: str) -> str:
        return function(text)

    return call


@functools.lru_cache(maxsize=1)
def _cached() -> Echo:
    return Echo(name="made once")


@_traced
def _traced_answer(text: str) -> str:
    return f"{wrapped.invoke(text)} {SAFE}"


def _stream(chunks: Iterator[str]) -> Iterator[str]:
    for chunk in chunks:
        yield from streamed.stream(chunk)


PLANTED = (closed, given, keyed, filled, owned, called, streamed, cached, wrapped, _cached())
chain = (
    RunnableLambda(_answer_with(closed))
    | _default
    | RunnableLambda(functools.partial(_filled, filled))
    | RunnableLambda(_Caller(owned).answer)
    | RunnableLambda(_Caller(called))
    | _traced_answer
    | RunnableGenerator(_stream)
    | RunnableLambda(lambda text: [cached.invoke(word) for word in [_cached().invoke(text)]])
)
