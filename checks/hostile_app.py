"""The app that hostile bodies are sent to: routes for any value, for messages, for numbers."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from locktender import add_routes

app = FastAPI()


async def _echo(values: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for value in values:
        yield value


def _add(path: str, runnable: Any, **parameters: Any) -> None:
    add_routes(app, runnable, path=path, guard="off", **parameters)


_open = {"config_keys": ["configurable", "tags", "metadata"], "enable_feedback_endpoint": True}
_prompt = ChatPromptTemplate([MessagesPlaceholder("history"), ("human", "{question}")])
_add("/echo", RunnableGenerator(_echo).with_types(input_type=Any, output_type=Any), **_open)
_add("/length", RunnableLambda(lambda value: len(str(value)[:100])), input_type=Any)
_add(
    "/messages",
    RunnableLambda(lambda _: 1),
    input_type=FakeListChatModel(responses=["x"]).InputType,
)
_add("/prompt", _prompt | (lambda value: len(value.messages)))
_add("/noted", _prompt | (lambda value: len(value.messages)), include_callback_events=True)
_add("/numbers", RunnableLambda(len), input_type=list[int] | set[int] | dict[int, list[str]])


@app.get("/ping")
async def ping() -> str:
    """Answer at once: the other route, whose callers are not to notice anything."""
    return "pong"
