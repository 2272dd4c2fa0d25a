"""On a user's own app, served as he does, our routes have ids and his are as they were."""

import logging
from typing import Annotated, Any

import aiohttp
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from langchain_core.runnables import RunnableLambda

from harness.app_server import Serve
from locktender import add_routes
from locktender.core.scope import current_request, outer_request


def _checked(x_token: Annotated[str, Header()] = "") -> None:
    if x_token != "t":
        raise HTTPException(401, "a token, please")


def _fail(value: Any) -> Any:
    if value == "own":
        raise HTTPException(418, "own")
    raise ValueError(value)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app = FastAPI()
    add_routes(app, RunnableLambda(lambda value: value), path="/run")
    add_routes(app, RunnableLambda(_fail), path="/fail")
    guarded = APIRouter(prefix="/in")
    add_routes(
        guarded, RunnableLambda(lambda value: value), path="/side", dependencies=[Depends(_checked)]
    )
    app.include_router(guarded)
    app.add_api_route("/mine", lambda: "mine")
    return app


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/run/invoke", {"input": 1}, 200),
        ("POST", "/run/batch", {"inputs": [1]}, 200),
        ("POST", "/run/stream", {"input": 1}, 200),
        ("POST", "/run/stream_log", {"input": 1}, 200),
        ("POST", "/run/stream_events", {"input": 1}, 200),
        ("GET", "/run/input_schema", None, 200),
        ("GET", "/run/playground/", None, 200),
        ("GET", "/run/playground/no.js", None, 404),
        ("GET", "/run/invoke", None, 405),
        ("POST", "/run/invoke", {}, 422),
        ("POST", "/fail/invoke", {"input": 1}, 500),
        ("POST", "/fail/invoke", {"input": "own"}, 418),
        ("POST", "/fail/stream", {"input": 1}, 200),
        ("POST", "/in/side/invoke", {"input": 1}, 401),
        ("POST", "/in/side/c/N4XyA/stream", {"input": 1}, 401),
    ],
)
async def test_each_answer_of_our_routes_has_its_id(
    *,
    method: str,
    path: str,
    body: Any,
    status: int,
    app: FastAPI,
    serve: Serve,
    client: aiohttp.ClientSession,
) -> None:
    url = await serve(app)
    for headers in ({}, {"X-Request-Id": "mine"}):
        async with client.request(method, url + path, json=body, headers=headers) as answer:
            await answer.read()
            assert answer.status == status
            (request_id,) = answer.headers.getall("x-request-id")
            assert request_id == "mine" if headers else len(request_id) == 32


@pytest.mark.parametrize("path", ["/mine", "/nothing", "/openapi.json", "/docs"])
async def test_no_other_answer_has_one(
    path: str, app: FastAPI, serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app)
    async with client.get(url + path) as answer:
        assert "x-request-id" not in answer.headers


@pytest.mark.parametrize("endpoint", ["invoke", "stream"])
async def test_a_failure_is_one_record_with_the_id_that_the_caller_got(
    endpoint: str,
    app: FastAPI,
    serve: Serve,
    client: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = await serve(app)
    async with client.post(f"{url}/fail/{endpoint}", json={"input": "why"}) as answer:
        await answer.read()
        request_id = answer.headers["x-request-id"]
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == f"/fail/{endpoint} failed (request {request_id})"
    assert record.exc_info
    assert isinstance(record.exc_info[1], ValueError)


async def test_the_chain_and_its_log_know_the_id(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    seen: list[tuple[str, ...]] = []

    def look(value: int) -> int:  # in a thread
        outer, name = outer_request.get(), current_request.get()
        seen.append((str(outer and outer.caller_id), str(name and name.id)))
        return value

    app = FastAPI()
    add_routes(app, RunnableLambda(look), path="/run")
    url = await serve(app)
    for _ in range(2):  # on one connection
        async with client.post(f"{url}/run/invoke", json={"input": 1}) as answer:
            assert seen[-1] == (answer.headers["x-request-id"],) * 2
    assert seen[0] != seen[1]
