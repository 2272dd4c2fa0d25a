"""More routes beside those that were captured: inputs, outputs, configs, dependencies, paths.

Run as ``python -m compat.further_app PORT`` by either package (see `captured_app`).
"""

import datetime as dt
import enum
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, Header, HTTPException, Request
from langchain_core.documents import Document
from langchain_core.load.serializable import Serializable
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableSerializable,
)
from pydantic import BaseModel, ConfigDict, Field, RootModel
from typing_extensions import TypedDict

from compat import callbacks_app, graph_app, leave_app, routes_app, shapes_app, streams_app
from compat.captured_app import add_one, add_routes, app, package, show_config

add_routes(app, RunnableLambda(add_one))  # at the root


def teapot(x: int) -> int:
    raise HTTPException(418, f"teapot {x}")


async def teapot_late(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
    async for x in inputs:
        yield x
        raise HTTPException(418, "teapot")


async def count(inputs: AsyncIterator[int]) -> AsyncIterator[dict[str, int]]:
    async for x in inputs:
        for k in range(x):
            yield {"k": k}


async def mixed(inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
    async for x in inputs:
        yield x
        yield [HumanMessage("x"), AIMessageChunk(content="y", id="1")]
        yield {1, 2}
        yield 4


add_routes(app, RunnableLambda(teapot), path="/teapot")
add_routes(app, RunnableGenerator(teapot_late), path="/teapot_late")
add_routes(app, RunnableGenerator(count), path="/count", input_type=int)
add_routes(app, RunnableGenerator(mixed), path="/mixed")
add_routes(app, RunnableLambda(add_one), path="/typed", input_type=str, output_type=str)


class Shown(RunnableSerializable[int, Any]):
    a: str = "A"
    b: int = 5

    def invoke(self, input: int, config: RunnableConfig | None = None, **_: Any) -> Any:  # noqa: A002 - LangChain's signature
        def show(x: int, config: RunnableConfig) -> Any:
            return {"a": self.a, "b": self.b, "config": show_config(x, config)}

        call: Any = self._call_with_config  # it takes this form, which its type does not say
        return call(show, input, config)


shown = Shown().configurable_fields(
    a=ConfigurableField(id="a"), b=ConfigurableField(id="b", name="B")
)
ALL_KEYS = ["tags", "metadata", "run_id", "max_concurrency", "recursion_limit"]
add_routes(app, shown, path="/fields")
add_routes(app, shown, path="/fields_keys", config_keys=["configurable", *ALL_KEYS])
add_routes(app, RunnableLambda(show_config), path="/keys", config_keys=ALL_KEYS)


async def spoof(config: dict[str, Any], request: Request) -> dict[str, Any] | None:
    how = request.headers.get("x-how")
    if how == "fail":
        message = "secret detail"
        raise ValueError(message)
    if how == "refuse":
        raise HTTPException(401, "no")
    if how == "nothing":
        return None
    body = await request.json()
    return {
        **config,
        "metadata": {"__langserve_endpoint": "spoofed", "n_keys": len(body)},
        "run_name": "spoofed",
        "recursion_limit": 9,
        "configurable": {"k": 1},
    }


add_routes(app, RunnableLambda(show_config), path="/mod", per_req_config_modifier=spoof)


class Known(Serializable):
    q: int


class Nested(BaseModel):
    x: int
    y: "Nested | None" = None
    messages: list[AnyMessage] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    foo: int = Field(alias="fooBar")


class ListOfNested(RootModel[list[Nested]]):
    pass


class Colour(enum.StrEnum):
    RED = "r"


class Fields(TypedDict, total=False):
    u: uuid.UUID
    d: dt.datetime
    e: Colour
    n: Nested


class Defaults(BaseModel):
    a: int = 7
    b: float = 1


def show_input(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: show_input(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(show_input, value)]
    if isinstance(value, BaseModel):
        fields = {name: show_input(getattr(value, name)) for name in type(value).model_fields}
        return {"model": type(value).__name__, **fields}
    return f"{type(value).__name__}:{value}"


INPUTS: dict[str, Any] = {
    "known": Known,
    "nested": Nested,
    "list_nested": list[Nested],
    "dict_nested": dict[str, Nested],
    "opt_nested": Nested | None,
    "union": int | Nested,
    "open": Open,
    "aliased": Aliased,
    "root": ListOfNested,
    "fields": Fields,
    "message": AnyMessage,
    "messages": list[AnyMessage],
    "document": Document,
    "documents": list[Document],
    "pair": tuple[int, Nested],
    "colour": Colour,
    "datetime": dt.datetime,
    "float": float,
    "str": str,
    "set": set[int],
    "bytes": bytes,
    "any": Any,
    "dict": dict,
}
for name, kind in INPUTS.items():
    show: Runnable[Any, Any] = RunnableLambda(show_input, name=f"show_{name}")
    add_routes(app, show.with_types(input_type=kind, output_type=Any), path=f"/in/{name}")

VALUES: dict[str, Any] = {
    "int": 1,
    "float": 2.5,
    "negative_zero": -0.0,
    "huge": 1e22,
    "tiny": 1e-7,
    "str": "s",
    "unicode": "\u2028\x7f\x07\u00e9\U0001f600\n\r",
    "half_pair": "\ud800",
    "true": True,
    "dict": {"b": 2, "a": 1},
    "empty": {},
    "extra": {"a": 1, "z": {"root": 1}},
    "nested": Nested(x=1, y=Nested(x=2)),
    "list": [1, 2],
    "calls": [AIMessage("x", tool_calls=[{"name": "f", "args": {}, "id": "1"}])],
    "message": HumanMessage("x"),
    "chunk": AIMessageChunk(content="x", id="1"),
    "iso": "2020-01-01T00:00:00Z",
}
OUTPUTS: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "any": Any,
    "defaults": Defaults,
    "nested": Nested,
    "opt_nested": Nested | None,
    "dict": dict,
    "floats": dict[str, float],
    "messages": list[AnyMessage],
    "message": AnyMessage,
    "ai": AIMessage,
    "ints": list[int],
    "union": int | str,
    "datetime": dt.datetime,
}
for name, kind in OUTPUTS.items():
    give: Runnable[Any, Any] = RunnableLambda(VALUES.__getitem__, name=f"give_{name}")
    add_routes(app, give.with_types(input_type=str, output_type=kind), path=f"/out/{name}")


async def need_token(x_token: Annotated[str, Header()]) -> None:
    if x_token != "t":
        raise HTTPException(403, "bad token")


router = APIRouter(prefix="/router")
add_routes(router, RunnableLambda(add_one), path="/add")
app.include_router(router)
add_routes(app, RunnableLambda(add_one), path="/guarded", dependencies=[Depends(need_token)])
add_routes(app, RunnableLambda(add_one), path="/of/{user}")
add_routes(app, RunnableLambda(add_one), path="/only", enabled_endpoints=["Invoke"])
add_routes(app, RunnableLambda(add_one), path="/without", disabled_endpoints=["invoke", "BATCH"])

leave_app.add(app, add_routes)
streams_app.add(app, add_routes)
routes_app.add(app, add_routes, package.APIHandler)
callbacks_app.add(app, add_routes)
callbacks_app.add_feedback(app, add_routes)
graph_app.add(app, add_routes)
shapes_app.add(app, add_routes)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
