"""Models that stand in for one another, in two levels, and are tried again."""

from typing import Any

from langchain_core.language_models import FakeListLLM

from adopt.chains.models import Echo, EchoChat, chat_over, pipeline, remote

__all__ = ["PLANTED", "chain"]

shared = pipeline()  # below a chat model, and by itself
third, last = EchoChat(), Echo()
first: Any = Echo()
second = chat_over(shared)
PLANTED = (first, second, shared, third, last)

inner = second.with_fallbacks([third.with_retry(), remote()])
chain = first.with_fallbacks(
    [
        inner,
        shared.with_fallbacks([FakeListLLM(responses=["a"]), last.bind(stop=["x"])]),
    ]
)
