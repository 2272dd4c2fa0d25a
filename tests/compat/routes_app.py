"""Routes for the outside of a server: routes of one's own, names of models, the page."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableConfig,
    RunnableLambda,
    RunnableSerializable,
)
from pydantic import BaseModel

ALL_KEYS = ["tags", "metadata", "run_id", "max_concurrency", "recursion_limit", "configurable"]
SERVER = {"tags": ["server"], "metadata": {"s": 1, "m": "server"}, "max_concurrency": 9}


class Telling(RunnableSerializable[int, Any]):
    """Tells what it was configured with."""

    a: str = "A"
    b: str = "B"

    def invoke(self, input: int, config: RunnableConfig | None = None, **_: Any) -> Any:  # noqa: A002 - LangChain's signature
        def tell(x: int, config: RunnableConfig) -> Any:
            return {"a": self.a, "b": self.b, "config": show_config(x, config)}

        call: Any = self._call_with_config  # it takes this form, which its type does not say
        return call(tell, input, config)


class Tree(BaseModel):
    """A model that has itself within."""

    leaf: int
    trees: list["Tree"] = []


class PromptInput(BaseModel):
    """A model with a name that LangChain gives its own."""

    prompt: int


def show_config(_x: int, config: RunnableConfig) -> dict:  # type: ignore[type-arg]  # the schema is of the bare type
    shown = {key: value for key, value in config.items() if key != "callbacks"}
    return {key: str(value) if key == "run_id" else value for key, value in shown.items()}


def grow(tree: Tree) -> Tree:
    return tree


def turn(pair: tuple[int, str]) -> tuple[str, int]:
    number, text = pair
    return text, number


def read(prompt: PromptInput) -> Any:
    return prompt


def add(app: FastAPI, add_routes: Any, handler: Any) -> None:
    """Add the routes; `handler` is the served package's `APIHandler`."""
    telling = Telling().configurable_fields(
        a=ConfigurableField(id="a"), b=ConfigurableField(id="b")
    )
    show: Runnable[Any, Any] = RunnableLambda(show_config)
    add_routes(app, telling, path="/telling", config_keys=ALL_KEYS)
    add_routes(app, show, path="/tags", config_keys=["tags"])
    _add_names(app, add_routes)
    add_routes(app, show, path="/no_hash", disabled_endpoints=["config_hashes"])
    add_routes(app, show, path="/only_hash", enabled_endpoints=["invoke", "config_hashes"])
    add_routes(app, show, path="/page", enabled_endpoints=["playground"])
    add_routes(app, show, path="/hash_page", enabled_endpoints=["playground", "config_hashes"])
    inner = FastAPI()
    add_routes(inner, show, path="/in")
    app.mount("/mounted", inner)
    router = APIRouter(prefix="/v9")
    add_routes(router, telling, path="/telling")
    app.include_router(router, prefix="/outer")
    _add_handlers(app, handler(show, path="/api", config_keys=ALL_KEYS), "/api", SERVER)
    configured = {"configurable": {"a": "S"}, "tags": ["s"]}
    _add_handlers(app, handler(telling, path="/api/telling"), "/api/telling", configured)


def _add_names(app: FastAPI, add_routes: Any) -> None:
    prompt = PromptTemplate.from_template("say {it}")
    add_routes(app, prompt, path="/names/one")
    add_routes(app, PromptTemplate.from_template("say {it}"), path="/names/like-one")
    add_routes(app, prompt, path="/names/same.as.one")
    other = ChatPromptTemplate.from_messages([("human", "{other}")])
    add_routes(app, other, path="/names/other")
    add_routes(app, RunnableLambda(read), path="/names/model")
    add_routes(app, RunnableLambda(grow), path="/names/tree")
    add_routes(app, RunnableLambda(turn), path="/names/pair")
    nameless: Runnable[Any, Any] = RunnableLambda(lambda value: value)
    add_routes(app, nameless, path="/names/nameless")


def _add_handlers(app: FastAPI, handler: Any, path: str, server_config: dict[str, Any]) -> None:
    def served(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            config_hash = request.path_params.get("config_hash", "")
            answer: Response = await getattr(handler, name)(
                request, config_hash=config_hash, server_config=server_config
            )
            return answer

        return serve

    async def page(file_path: str, request: Request) -> Response:
        answer: Response = await handler.playground(file_path, request)
        return answer

    async def schema(name: str) -> Any:
        model = getattr(handler, name)
        return {"name": model.__name__, "fields": list(model.model_fields)}

    hidden: dict[str, Any] = {"include_in_schema": False}
    for name in ("invoke", "batch", "stream", "stream_log", "astream_events"):
        for place in (f"{path}/{name}", f"{path}/c/{{config_hash}}/{name}"):
            app.add_api_route(place, served(name), methods=["POST"], **hidden)
    for name in ("input_schema", "output_schema", "config_schema"):
        app.add_api_route(f"{path}/{name}", served(name), methods=["GET"], **hidden)
    app.add_api_route(f"{path}/playground/{{file_path:path}}", page, methods=["GET"], **hidden)
    app.add_api_route(f"{path}/model/{{name}}", schema, methods=["GET"], **hidden)
