"""Chains of each make and inputs of each kind: the product of both is what people send.

Knows LangChain only, and neither package: LangServe's interpreter serves them as well.
"""

import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import product
from operator import itemgetter
from typing import Any

from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import (
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.runnables.history import RunnableWithMessageHistory

CONFIG: Any = {"configurable": {"session_id": "1"}}
INPUTS: Mapping[str, Any] = {
    "dict": {"q": "hi", "key": "a", "input": "hi", "more": [1]},
    "text": "hi",
    "number": 5,
    "list": ["a", "b"],
    "message": HumanMessage("hi"),
}

# What is answered otherwise than in process, by head and input, each with its reason.
_AS_JSON = "no type says that it is a message, and without extensions a message is JSON"
_DECLARED = "what a prompt or a list declares is asked for, as by LangServe"
AS_JSON = dict.fromkeys(
    product(["branch", "fallbacks", "lambda", "map", "map_prompt"], ["message"]), _AS_JSON
)
DECLARED = {
    **dict.fromkeys(product(["prompt"], ["number", "list", "message"]), _DECLARED),
    ("history", "list"): "what is no message is refused, as by LangServe",
    **dict.fromkeys(product(["each", "each_map"], ["dict", "text", "message"]), _DECLARED),
}


def shown(value: Any) -> str:
    return f"{type(value).__name__} {value}"


def number(value: int) -> int:
    return value + 1


async def stream(values: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for value in values:
        yield value


def plain_stream(values: Iterator[Any]) -> Iterator[Any]:
    yield from values


def session(session_id: str) -> InMemoryChatMessageHistory:  # noqa: ARG001 - LangChain's name
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return InMemoryChatMessageHistory()


def history(runnable: Runnable[Any, Any], **keys: Any) -> Runnable[Any, Any]:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return RunnableWithMessageHistory(runnable, session, **keys)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def heads() -> Iterator[tuple[str, Runnable[Any, Any]]]:
    """Yield them by name; each run gives the same."""
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("past", optional=True), "{q}"])
    talk = ChatPromptTemplate.from_messages([MessagesPlaceholder("past"), "{q} {key}"])
    first: Runnable[Any, Any] = RunnableLambda(shown)
    router: Any = RouterRunnable
    yield "map", RunnableParallel(context=first, question=RunnablePassthrough())
    yield "map_prompt", {"q": first} | prompt | first
    yield "assign", RunnablePassthrough.assign(n=len)
    yield "assign_prompt", RunnablePassthrough.assign(n=len) | prompt | first
    yield "parallel", RunnableParallel(a=itemgetter("q"), b=first)
    yield "branch", RunnableBranch((is_text, first), RunnableLambda(shown))
    yield "branch_key", RunnableBranch((lambda d: d["key"] == "b", first), RunnableLambda(shown))
    yield "router", router({"a": first})
    yield "history", history(first)
    yield "history_key", history(talk | first, input_messages_key="q", history_messages_key="past")
    yield "generator", RunnableGenerator(stream)
    yield "plain_generator", RunnableGenerator(plain_stream)
    yield "fallbacks", RunnableLambda(number).with_fallbacks([first])
    yield "prompt", prompt | first
    yield "lambda", first
    yield "passthrough", RunnablePassthrough()
    yield "each", first.map()
    yield "each_map", RunnableParallel(item=first).map()


HEADS: Mapping[str, Runnable[Any, Any]] = dict(heads())


async def in_process(head: str, value: Any) -> Any:
    """Return what comes out of a chain that nobody serves.  Raises: what it does."""
    try:
        return await HEADS[head].ainvoke(value, CONFIG)
    except NotImplementedError:  # a plain generator has no asynchronous form
        return HEADS[head].invoke(value, CONFIG)


def plain(value: Any) -> Any:
    """Return what tells `value` from others once it is JSON."""
    if isinstance(value, BaseMessage):
        return [type(value).__name__, value.content]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return list(map(plain, value)) if isinstance(value, list | tuple) else value
