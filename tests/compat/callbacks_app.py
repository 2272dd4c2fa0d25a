"""Routes that tell of their callbacks, take feedback and give tokens for it.

Run as ``python -m compat.callbacks_app PORT`` by either package, it serves the latter alone: with a
LangSmith that the environment names.
"""

import importlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from functools import partial
from itertools import cycle
from typing import Any

import uvicorn
from fastapi import FastAPI
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import AsyncCallbackManagerForChainRun, adispatch_custom_event
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    Runnable,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
)
from langchain_core.tools import tool
from pydantic import BaseModel

ALL_KEYS = ["tags", "metadata", "configurable", "run_id"]
TOKENS = {"key_configs": [{"key": "foo"}]}


def add_one(x: int) -> int:
    return x + 1


def boom(x: int) -> int:
    message = f"secret detail {x}"
    raise ValueError(message)


class Retriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:  # noqa: ARG002 - LangChain's signature
        if query == "bad":
            raise ValueError("secret detail")
        return [Document(page_content=query, id="d1", metadata={"a": 1})]


@tool
def shout(a: str) -> str:
    """Say it louder."""
    if a == "bad":
        raise ValueError("secret detail")
    return a + "!"


@tool
def give(kind: str) -> Any:
    """Return what is no text."""
    return {"int": 5, "dict": {"a": [1]}, "none": None}[kind]


@tool(response_format="content_and_artifact")
def look(at: str) -> tuple[str, dict[str, str]]:
    """Return a text and a thing."""
    return f"seen {at}", {"at": at}


class Odd(BaseModel):
    a: int = 1
    message: Any = None


VALUES: dict[str, Any] = {
    "set": {1},
    "bytes": b"ab",
    "decimal": Decimal("1.50"),
    "nan": float("nan"),
    "keys": {1: 2, (1, 2): 3},
    "big": 2**70,
    "tiny": 1e-7,
    "model": Odd(message=AIMessage("x", tool_calls=[{"name": "f", "args": {}, "id": "1"}])),
    "document": Document(page_content="x"),
    "message": AIMessage("x"),
    "object": object(),
    "function": len,
    "half_pair": "\ud800",
    "error": ValueError("secret detail"),
}


async def custom(x: int) -> int:
    await adispatch_custom_event("mine", {"x": x})
    return x


def model(*answers: AIMessage) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=cycle(answers or [AIMessage("hi there")]))


def failing(_: Any) -> Any:
    raise ValueError("secret detail")


class FailingModel(GenericFakeChatModel):
    def _generate(self, *_: Any, **__: Any) -> Any:
        raise ValueError("secret detail")


def add(app: FastAPI, add_routes: Callable[..., None]) -> None:
    """Add the routes that tell of their callbacks."""
    prompt = ChatPromptTemplate.from_messages([("system", "s"), ("user", "{q}")])
    add_two = RunnableLambda(add_one) | RunnableLambda(add_one)
    routes: dict[str, Runnable[Any, Any]] = {
        "add": RunnableLambda(add_one),
        "seq": add_two,
        "named": add_two.with_config(tags=["T"], metadata={"m": 1, "__n": 2}, run_name="named"),
        "boom": RunnableLambda(boom),
        "fallback": RunnableLambda(boom).with_fallbacks([RunnableLambda(add_one)]),
        "each": RunnableParallel(a=RunnableLambda(add_one)),
        "prompt": prompt | RunnableLambda(lambda value: value.to_string()),
        "text_prompt": PromptTemplate.from_template("a {q}"),
        "retriever": Retriever(),
        "retriever_fallback": Retriever().with_fallbacks([RunnableLambda(lambda _: [])]),
        "tool": shout,
        "tool_fallback": shout.with_fallbacks([RunnableLambda(lambda _: "calm")]),
        "tool_any": give,
        "tool_message": look,
        "custom": RunnableLambda(custom),
        "chat": prompt | model(),
        "chat_calls": model(AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])),
        "chat_fallback": FailingModel(messages=cycle([])).with_fallbacks([model()]),
        "llm": FakeListLLM(responses=["one"]),
        "agent": RunnableLambda(tell_of_agent),
    }
    for name, value in VALUES.items():
        held: Runnable[Any, Any] = RunnableLambda(partial(hold, value), name="hold")
        routes[f"value_{name}"] = held | RunnableLambda(add_one_to_nothing, name="drop")
    for name, runnable in routes.items():
        add_routes(
            app,
            runnable,
            path=f"/cb/{name}",
            include_callback_events=True,
            config_keys=ALL_KEYS,
        )


def hold(value: Any, _: Any) -> Any:
    return value


def add_one_to_nothing(_: Any) -> int:
    return 1


async def tell_of_agent(x: int, run_manager: AsyncCallbackManagerForChainRun) -> int:
    await run_manager.on_agent_action(AgentAction("f", "x", "log"))
    await run_manager.on_agent_finish(AgentFinish({"output": x}, "log"))
    return x


async def count(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
    async for x in inputs:
        for k in range(x):
            yield k
        if x < 0:
            yield x
            raise ValueError("secret detail")


def add_feedback(app: FastAPI, add_routes: Callable[..., None]) -> None:
    """Add the routes that have to do with LangSmith."""
    one: Runnable[Any, Any] = RunnableLambda(add_one)
    both = {"enable_feedback_endpoint": True, "enable_public_trace_link_endpoint": True}
    add_routes(app, one, path="/ls/off")
    add_routes(app, one, path="/ls/both", **both)
    add_routes(app, one, path="/ls/feedback", enable_feedback_endpoint=True)
    add_routes(app, one, path="/ls/link", enable_public_trace_link_endpoint=True)
    add_routes(app, one, path="/ls/named", enabled_endpoints=["feedback", "public_trace_link"])
    add_routes(app, one, path="/ls/unnamed", enabled_endpoints=["invoke"], **both)
    add_routes(app, one, path="/ls/disabled", disabled_endpoints=["feedback"], **both)
    add_routes(app, one, path="/ls/token", token_feedback_config=TOKENS, config_keys=["run_id"])
    add_routes(
        app,
        one,
        path="/ls/no_token",
        token_feedback_config=TOKENS,
        disabled_endpoints=["token_feedback"],
    )
    add_routes(app, RunnableLambda(boom), path="/ls/token_boom", token_feedback_config=TOKENS)
    add_routes(
        app,
        RunnableGenerator(count),
        path="/ls/token_count",
        token_feedback_config=TOKENS,
        input_type=int,
    )


if __name__ == "__main__":
    package = importlib.import_module(os.environ["WIRE_PACKAGE"])
    served = FastAPI()
    package.add_routes(served, RunnableLambda(add_one))
    add_feedback(served, package.add_routes)
    uvicorn.run(served, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
