"""Chains of each make give over HTTP what they give in process, or a difference that is listed.

Twelve heads with five inputs each, the product of both.  What a chain fails at in process may fail
over HTTP; what it answers must be answered the same.
"""

import warnings
from collections.abc import Iterator
from itertools import product
from operator import itemgetter
from typing import Any

import pytest
from fastapi import FastAPI
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import HumanMessage
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

from harness.app_server import Serve, serve
from locktender import RemoteRunnable, add_routes

__all__ = ["serve"]

CONFIG: Any = {"configurable": {"session_id": "1"}}


def shown(value: Any) -> str:
    return f"{type(value).__name__} {value}"


async def stream(values: Any) -> Any:
    async for value in values:
        yield value


def session(session_id: str) -> InMemoryChatMessageHistory:  # noqa: ARG001 - LangChain's name
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return InMemoryChatMessageHistory()


def number(value: int) -> int:
    return value + 1


PROMPT: Any = ChatPromptTemplate.from_messages([MessagesPlaceholder("past", optional=True), "{q}"])
FIRST: Runnable[Any, Any] = RunnableLambda(shown)
NUMBER: Runnable[Any, Any] = RunnableLambda(number)


def heads() -> Iterator[tuple[str, Any]]:
    router: Any = RouterRunnable
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        history = RunnableWithMessageHistory(FIRST, session)
    yield "map", RunnableParallel(context=FIRST, question=RunnablePassthrough())
    yield "assign", RunnablePassthrough.assign(n=len)
    yield "parallel", RunnableParallel(a=itemgetter("q"), b=FIRST)
    yield "branch", RunnableBranch((lambda v: isinstance(v, str), FIRST), RunnableLambda(shown))
    yield "router", router({"a": FIRST})
    yield "history", history
    yield "generator", RunnableGenerator(stream)
    yield "fallbacks", NUMBER.with_fallbacks([FIRST])
    yield "prompt", PROMPT | FIRST
    yield "lambda", FIRST
    yield "passthrough", RunnablePassthrough()
    yield "each", FIRST.map()


HEADS = dict(heads())
INPUTS: dict[str, Any] = {
    "dict": {"q": "hi", "key": "a", "input": "hi", "more": [1]},
    "text": "hi",
    "number": 5,
    "list": ["a", "b"],
    "message": HumanMessage("hi"),
}

# By head and input, each with its reason.
_AS_JSON = "no type says that it is a message, and without extensions a message is JSON"
_DECLARED = "what a prompt or a list declares is asked for, as by LangServe"
PLAIN = dict.fromkeys(product(["branch", "fallbacks", "lambda", "map"], ["message"]), _AS_JSON)
BOTH = {
    **dict.fromkeys(product(["prompt"], ["number", "list", "message"]), _DECLARED),
    ("history", "list"): "what is no message is refused, as by LangServe",
    **dict.fromkeys(product(["each"], ["dict", "text", "message"]), _DECLARED),
}


async def told(runnable: Any, value: Any) -> Any:
    """Return what comes out, or None for an error of whatever kind."""
    try:
        return await runnable.ainvoke(value, CONFIG)
    except Exception:  # noqa: BLE001 - in process and over HTTP they differ
        return None


@pytest.mark.parametrize("extensions", [False, True])
async def test_what_runs_in_process_runs_over_http(serve: Serve, extensions: bool) -> None:
    app = FastAPI()
    for name, runnable in HEADS.items():
        add_routes(app, runnable, path=f"/{name}")
    address = await serve(app)
    found = {}
    for head, kind in product(HEADS, INPUTS):
        remote: Runnable[Any, Any] = RemoteRunnable(f"{address}/{head}", extensions=extensions)
        here, there = await told(HEADS[head], INPUTS[kind]), await told(remote, INPUTS[kind])
        if here is not None and here != there:
            found[head, kind] = (here, there)
    assert found.keys() == (BOTH if extensions else {**BOTH, **PLAIN}).keys()
