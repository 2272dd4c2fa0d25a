"""The app that LangServe's recorded exchanges were made with.

Run as a program, by either package: the environment variable WIRE_PACKAGE names the one whose
`add_routes` serves it.  `further_app` adds more routes to it.  Left out are the routes that take
their time (a local model's, a stream of five seconds): `leave_app` has those, without the waiting.
"""

import datetime as dt
import decimal
import importlib
import os
import uuid
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

from fastapi import FastAPI, Request
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    ConfigurableField,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
)
from langchain_core.tools import tool
from pydantic import BaseModel, field_validator

package = importlib.import_module(os.environ.get("WIRE_PACKAGE", "locktender"))
add_routes: Any = package.add_routes
CustomUserType: Any = package.CustomUserType

app = FastAPI(title="compat")


def add_one(x: int) -> int:
    return x + 1


add_routes(app, RunnableLambda(add_one), path="/add_one")
add_routes(
    app,
    RunnableLambda(add_one),
    path="/add_one_keys",
    config_keys=["tags", "metadata", "configurable", "run_id", "max_concurrency"],
)


def fake_model() -> GenericFakeChatModel:
    answer = AIMessage(
        content="Hello big world",
        usage_metadata={"input_tokens": 3, "output_tokens": 5, "total_tokens": 8},
        response_metadata={"model": "m"},
    )
    return GenericFakeChatModel(messages=cycle([answer]))


prompt = ChatPromptTemplate.from_messages([("system", "You are a cat."), ("user", "{question}")])
add_routes(app, prompt | fake_model(), path="/chat")
add_routes(app, prompt | fake_model() | StrOutputParser(), path="/str")
add_routes(app, fake_model(), path="/model")


def boom(x: int) -> int:
    message = f"secret detail {x}"
    raise ValueError(message)


async def gen_err(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
    async for _ in inputs:
        yield 1
        yield 2
        message = "secret detail"
        raise ValueError(message)


async def gen_none(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
    async for _ in inputs:
        pass
    return
    yield


add_routes(app, RunnableLambda(boom), path="/boom")
add_routes(app, RunnableGenerator(gen_err), path="/gen_err")
add_routes(app, RunnableGenerator(gen_none), path="/gen_none")


class Out(BaseModel):
    a: int


class Person(BaseModel):
    name: str
    age: int


class OutParent(BaseModel):
    pass


class OutChild(OutParent):
    z: int


def root_out(x: int) -> dict:  # type: ignore[type-arg]  # the bare type is what was captured
    return {"root": x, "other": 2}


def wrong_out(x: int) -> int:
    return f"abc{x}"  # type: ignore[return-value]  # the point of this route


def extra_out(x: int) -> Out:
    return {"a": 1, "b": x}  # type: ignore[return-value]  # the point of this route


def sub_out(x: int) -> OutParent:
    return OutChild(z=x)


def tup(x: tuple[int, str]) -> tuple[int, str]:
    assert isinstance(x, tuple)
    return x


add_routes(app, RunnableLambda(root_out), path="/root_out")
add_routes(app, RunnableLambda(wrong_out), path="/wrong_out")
add_routes(app, RunnableLambda(extra_out), path="/extra_out")
add_routes(app, RunnableLambda(sub_out), path="/sub_out")
add_routes(app, RunnableLambda(tup), path="/tup")


def types_out(kind: str) -> Any:
    return {
        "set": {1, 2},
        "bytes": b"ab",
        "decimal": decimal.Decimal("1.5"),
        "nan": float("nan"),
        "intkeys": {1: 2},
        "tuple": (1, 2),
        "dt": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        "uuid": uuid.UUID(int=1),
        "person": Person(name="a", age=1),
        "doc": Document(page_content="x", metadata={"a": 1}),
        "none": None,
        "big": 2**70,
        "dictmsg": {"type": "human", "content": "a plain dict that looks like a message"},
        "gen": ChatPromptTemplate.from_template("{q}").invoke({"q": "hi"}),
        "pv": PromptTemplate.from_template("{q}").invoke({"q": "hi"}),
        "exc": ValueError("x"),
        "toolcall": AIMessage(content="", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c1"}]),
        "multimodal": HumanMessage(
            content=[
                {"type": "text", "text": "x"},
                {"type": "image_url", "image_url": {"url": "data:..."}},
            ]
        ),
    }[kind]


add_routes(app, RunnableLambda(types_out), path="/types")


class Foo(CustomUserType):  # type: ignore[misc]  # the class is the served package's
    bar: int


def foo(f: Foo) -> str:
    return type(f).__name__


class Plain(BaseModel):
    bar: int
    inner: Foo | None = None


def plain(f: Plain) -> str:
    value: Any = f  # a dict, when it comes over a route
    inner = type(value["inner"]).__name__ if isinstance(value, dict) else "-"
    return f"{type(f).__name__}:{inner}"


add_routes(app, RunnableLambda(foo), path="/cut")
add_routes(app, RunnableLambda(plain), path="/plain")

template = PromptTemplate.from_template("say {name}").configurable_fields(
    template=ConfigurableField(id="template", name="Template", description="The template")
)
add_routes(app, template, path="/conf")
add_routes(app, template, path="/conf_no", config_keys=["tags"])


def show_config(_x: int, config: RunnableConfig) -> dict:  # type: ignore[type-arg]  # as captured
    shown = {key: value for key, value in config.items() if key != "callbacks"}
    return {key: str(value) if key == "run_id" else value for key, value in shown.items()}


def modifier(config: dict[str, Any], request: Request) -> dict[str, Any]:
    return {
        **config,
        "tags": ["from-modifier"],
        "metadata": {"who": request.headers.get("x-user")},
    }


add_routes(app, RunnableLambda(show_config), path="/cfg")
add_routes(app, RunnableLambda(show_config), path="/cfg_mod", per_req_config_modifier=modifier)


class Valid(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def is_positive(cls, value: int) -> int:
        if value < 0:
            message = "must be positive"
            raise ValueError(message)
        return value


def one(_: Any) -> int:
    return 1


def opt(x: int | None) -> int | None:
    return x


class Retriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:  # noqa: ARG002 - LangChain's signature
        return [Document(page_content=query, id="d1")]


@tool
def multiply(a: int, b: int) -> int:
    """Multiply."""
    return a * b


add_routes(app, RunnableLambda(one).with_types(input_type=Valid), path="/valid")
add_routes(
    app, ChatPromptTemplate.from_messages([("system", "s"), ("user", "{q}")]), path="/cprompt"
)
add_routes(app, RunnableLambda(opt), path="/opt")
add_routes(app, Retriever(), path="/ret")
add_routes(app, multiply, path="/tool")


add_routes(
    app,
    RunnableLambda(add_one),
    path="/add_one_cb",
    include_callback_events=True,
    config_keys=["tags", "metadata", "configurable", "run_id", "max_concurrency"],
)
add_routes(app, RunnableLambda(boom), path="/boom_cb", include_callback_events=True)
add_routes(app, Retriever(), path="/ret_cb", include_callback_events=True)
add_routes(app, multiply, path="/tool_cb", include_callback_events=True)
add_routes(
    app, prompt | fake_model() | StrOutputParser(), path="/chat_cb", include_callback_events=True
)
add_routes(
    app,
    RunnableLambda(add_one),
    path="/fb",
    enable_feedback_endpoint=True,
    enable_public_trace_link_endpoint=True,
)
add_routes(app, RunnableLambda(add_one), path="/allow", stream_log_name_allow_list=["/allow"])
add_routes(app, fake_model(), path="/chatpg", playground_type="chat")


@app.post("/echo/{what}")
async def echo(what: str, request: Request) -> dict[str, Any]:
    """Show a client what it sends."""
    told = {"what": what, "body": await request.json(), "headers": dict(request.headers)}
    return {"output": {**told, "path": request.url.path}}
