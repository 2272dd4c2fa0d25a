"""`APIHandler`: a runnable on routes of one's own."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from langchain_core.runnables import RunnableConfig, RunnableLambda

from adopt.chains.models import Echo
from locktender import APIHandler, add_routes
from locktender.deploy.examine import examine_app
from locktender.wire.lzstring import compress_to_encoded_uri_component

MODELS = (
    *("InvokeRequest", "BatchRequest", "StreamRequest", "StreamLogRequest"),
    *("StreamEventsRequest", "InvokeResponse", "BatchResponse"),
)


def show(_x: int, config: RunnableConfig) -> dict[str, Any]:
    shown = {key: config.get(key) for key in ("tags", "max_concurrency")}
    metadata = config.get("metadata") or {}
    return shown | {"metadata": {k: v for k, v in metadata.items() if k[0] != "_"}}


def app_of(handler: APIHandler, server_config: dict[str, Any] | None = None) -> FastAPI:
    app = FastAPI()

    @app.post("/mine/{name}")
    async def answer(name: str, request: Request, config_hash: str = "") -> Response:
        answer: Response = await getattr(handler, name)(request, config_hash, server_config)
        return answer

    @app.get("/mine/{name}")
    async def describe(name: str, request: Request) -> Response:
        return await answer(name, request)

    @app.get("/page/playground/{file_path:path}")
    async def page(file_path: str, request: Request) -> Response:
        return await handler.playground(file_path, request)

    return app


async def asked(app: Any, method: str, path: str, body: Any = None) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, json=body)


async def test_every_method_answers() -> None:
    app = app_of(APIHandler(RunnableLambda(show), path="/api", prefix="/v1"))
    invoked = await asked(app, "POST", "/mine/invoke", {"input": 1})
    assert invoked.json()["output"]["metadata"] == {}
    batched = await asked(app, "POST", "/mine/batch", {"inputs": [1, 2]})
    assert len(batched.json()["output"]) == 2
    for name in ("stream", "stream_log", "astream_events"):
        streamed = await asked(app, "POST", f"/mine/{name}", {"input": 1})
        assert streamed.text.endswith("event: end\r\n\r\n")
        assert name == "stream" or '"/v1/api"' in streamed.text  # which names the run
    for name in ("input_schema", "output_schema", "config_schema"):
        assert (await asked(app, "GET", f"/mine/{name}")).json()["title"].startswith("show_")


async def test_a_config_of_the_server_s_goes_before_the_caller_s_whatever_its_keys() -> None:
    handler = APIHandler(RunnableLambda(show), path="", config_keys=["tags", "metadata"])
    server = {"tags": ["server"], "metadata": {"m": "server"}, "max_concurrency": 9}
    app = app_of(handler, server)
    wish = {"tags": ["caller"], "metadata": {"m": "caller", "c": 1}, "max_concurrency": 1}
    config_hash = compress_to_encoded_uri_component(json.dumps({"tags": ["path"]}))
    answers = [
        await asked(app, "POST", f"/mine/invoke?config_hash={config_hash}", body)
        for body in ({"input": 1, "config": wish}, {"input": 1})
    ]
    batched = await asked(app, "POST", "/mine/batch", {"inputs": [1], "config": wish})
    first, second = (each.json()["output"] for each in answers)
    assert first["tags"] == ["caller", "path", "server"]
    assert first["metadata"] == {"m": "server", "c": 1}
    assert (first["max_concurrency"], second["tags"]) == (9, ["path", "server"])
    assert batched.json()["output"][0]["max_concurrency"] == 9


def test_models_are_named_after_the_path() -> None:
    handler = APIHandler(RunnableLambda(show), path="/api/mine")
    assert [getattr(handler, name).__name__ for name in MODELS] == [
        f"api_mine{name}" for name in MODELS
    ]
    body = handler.InvokeRequest.model_validate({"input": 1})
    assert body.model_dump()["input"] == 1


async def test_a_page_knows_where_its_own_route_is() -> None:
    handler = APIHandler(RunnableLambda(show), path="/api", playground_type="chat")
    page = await asked(app_of(handler), "GET", "/page/playground/")
    assert 'src="/page/playground/assets/playground.js"' in page.text
    assert handler.playground_type == "chat"


def test_a_model_in_a_handler_is_guarded_as_in_a_route() -> None:
    chain = Echo() | str
    app = FastAPI()
    app.state.chain = chain
    assert APIHandler(chain, path="").playground_type == "default"
    assert [each.plan.partition(" ")[0] for each in examine_app(app).findings] == ["Gives"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"path": "api"},
        {"path": "", "config_keys": ["run_name"]},
        {"path": "", "playground_type": "none"},
        {"path": "", "astream_events_version": "v9"},
    ],
)
def test_what_cannot_be_is_a_value_error(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`|path"):
        APIHandler(RunnableLambda(show), **parameters)


def test_only_a_runnable_can_be_handled() -> None:
    with pytest.raises(TypeError, match="Expected a Runnable, got <class 'str'>"):
        APIHandler("runnable", path="")  # type: ignore[arg-type]  # the mistake that is tested


async def test_a_handler_answers_as_its_route_does() -> None:
    app = app_of(APIHandler(RunnableLambda(show), path="/same"))
    add_routes(app, RunnableLambda(show), path="/same")
    for body in ({"input": 1}, {"input": "x"}, {}, {"input": 1, "config": 5}):
        ours, theirs = [
            await asked(app, "POST", f"{path}/invoke", body) for path in ("/mine", "/same")
        ]
        assert ours.status_code == theirs.status_code
        assert ours.json().get("output") == theirs.json().get("output")
        assert ours.json().get("detail") == theirs.json().get("detail")
