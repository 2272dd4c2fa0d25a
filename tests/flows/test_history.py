"""Histories of messages behind routes: each caller has its own, or is told what is missing."""

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import aiohttp
import pytest
from fastapi import FastAPI
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    chain,
)
from langchain_core.runnables.history import RunnableWithMessageHistory

from harness.app_server import Serve, serve
from locktender import add_routes

__all__ = ["serve"]

Talks: TypeAlias = dict[str, InMemoryChatMessageHistory]

ASKED = {"ask": "hi", "tongue": "Latin"}  # `tongue` stands in no schema that LangChain infers
MISSING = [{"type": "missing", "loc": ["configurable", "session_id"]}]
NAMELESS: tuple[dict[str, Any], ...] = ({}, {"configurable": {}})
ENDPOINTS = ("invoke", "batch", "stream")


def texts(prompt: Any) -> str:
    return " / ".join(str(message.content) for message in prompt.to_messages())


def talk(talks: Talks) -> Runnable[Any, Any]:
    """Return LangChain's own example, with a model that says what it is asked."""

    def session(session_id: str) -> InMemoryChatMessageHistory:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return talks.setdefault(session_id, InMemoryChatMessageHistory())

    prompt = ChatPromptTemplate.from_messages(
        [("system", "Speak {tongue}."), MessagesPlaceholder("past"), ("human", "{ask}")]
    )
    keys: Any = {"input_messages_key": "ask", "history_messages_key": "past"}
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return RunnableWithMessageHistory(prompt | texts, session, **keys)


def by_function(talks: Talks) -> Runnable[Any, Any]:
    """Return a runnable whose schema of a config knows no session."""
    kept = {"talk": talk(talks)}

    @chain
    def ask(_: dict[str, str]) -> Runnable[Any, Any]:
        return kept["talk"]

    return ask


MAKES: dict[str, Callable[[Talks], Runnable[Any, Any]]] = {
    "talk": talk,
    "function": by_function,
    "assign": lambda talks: RunnablePassthrough.assign(said=talk(talks)) | (lambda d: d["said"]),
    "map": lambda talks: RunnableParallel(said=talk(talks)) | (lambda d: d["said"]),
    "branch": lambda talks: RunnableBranch(
        (lambda d: d["ask"] == "bye", RunnableLambda(lambda _: "bye")), talk(talks)
    ),
}


async def posted(
    client: aiohttp.ClientSession, url: str, endpoint: str, config: Any, value: Any = ASKED
) -> tuple[int, Any]:
    """Return the status and the output, the text of a stream, or the body of a refusal."""
    key, given = ("inputs", [value]) if endpoint == "batch" else ("input", value)
    async with client.post(f"{url}/{endpoint}", json={key: given, "config": config}) as response:
        if response.status != 200:
            return response.status, await response.json()
        if endpoint == "stream":
            return 200, await response.text()
        output = (await response.json())["output"]
        return 200, output[0] if endpoint == "batch" else output


@pytest.mark.parametrize("make", MAKES)
async def test_each_session_has_its_own_history(
    make: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    talks: Talks = {}
    app = FastAPI()
    add_routes(app, MAKES[make](talks), path="/talk")
    url = f"{await serve(app)}/talk"
    ann, bob = ({"configurable": {"session_id": each}} for each in ("ann", "bob"))
    assert await posted(client, url, "invoke", ann) == (200, "Speak Latin. / hi")
    again = "Speak Latin. / hi / Speak Latin. / hi / hi"
    assert await posted(client, url, "batch", ann) == (200, again)
    status, told = await posted(client, url, "stream", bob)
    assert (status, "Speak Latin. / hi" in told) == (200, True)
    assert talks.keys() == {"ann", "bob"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("make", ["talk", "assign", "map"])
async def test_a_missing_session_is_named_and_nobody_gets_the_nameless_one(
    make: str, endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    talks: Talks = {}
    app = FastAPI()
    add_routes(app, MAKES[make](talks), path="/talk")
    url = f"{await serve(app)}/talk"
    for wish in (*NAMELESS, {"tags": ["t"]}, {"configurable": {"user": "ann"}}):
        status, told = await posted(client, url, endpoint, wish)
        assert status == 422
        assert [{key: each[key] for key in ("type", "loc")} for each in told["detail"]] == MISSING
    assert talks == {}


async def test_a_session_is_asked_of_nobody_whose_run_needs_none(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    talks: Talks = {}
    bound = talk(talks).with_config(configurable={"session_id": "ours"})
    app = FastAPI()
    add_routes(app, MAKES["branch"](talks), path="/branch")
    add_routes(app, bound, path="/bound")
    url = await serve(app)
    bye = {"ask": "bye", "tongue": "Latin"}
    for wish in NAMELESS:
        assert await posted(client, f"{url}/branch", "invoke", wish, bye) == (200, "bye")
        assert (await posted(client, f"{url}/branch", "invoke", wish))[0] == 500
        assert (await posted(client, f"{url}/bound", "invoke", wish))[0] == 200
    assert talks.keys() == {"ours"}
