"""Below which prefix an app finds itself, asked of the whole stack that both servers are behind."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda
from starlette.requests import Request

from locktender import add_routes
from locktender.core.errors import ConfigError
from locktender.http.door import Wire
from locktender.http.settings import Doors, DoorSettings
from locktender.http.stack import server_config
from locktender.wire.problem import langserve_problem

PROXY, STRANGER = "127.0.0.1", "192.0.2.7"
WIRE = Wire(langserve_problem, takes_x_api_key=True)


def length(text: str) -> int:
    return len(text)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app, inner = FastAPI(), FastAPI()
    add_routes(app, RunnableLambda(length), path="/chain")
    inner.add_api_route("/seen", seen)
    app.add_api_route("/seen", seen)
    app.add_api_route("/slash/", seen)
    app.mount("/inner", inner)
    return app


def seen(request: Request) -> Mapping[str, Any]:
    return {"root": request.scope["root_path"], "url": request.url.path, "raw": _raw(request)}


def _raw(request: Request) -> str:
    raw: bytes = request.scope["raw_path"]
    return raw.decode()


async def got(
    app: FastAPI,
    path: str,
    forwarded: str | None = None,
    *,
    peer: str = PROXY,
    method: str = "GET",
    **settings: Any,
) -> httpx.Response:
    config = server_config(app, Doors(DoorSettings(**settings)), WIRE, ws="none")
    config.load()
    transport = httpx.ASGITransport(config.loaded_app, client=(peer, 1))
    headers = {} if forwarded is None else {"X-Forwarded-Prefix": forwarded}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        body = {"input": "four"} if method == "POST" else None
        return await client.request(method, path, headers=headers, json=body)


@pytest.mark.parametrize(
    ("root_path", "forwarded", "peer", "prefix"),
    [
        ("", None, PROXY, ""),
        ("/api", None, STRANGER, "/api"),
        ("", "/api", PROXY, "/api"),
        ("", "/api/", PROXY, "/api"),
        ("", "/", PROXY, ""),
        ("", "/outer, /inner", PROXY, "/outer/inner"),
        ("", "/chain", PROXY, "/chain"),  # as a route begins, too
        ("/api", "/newer", PROXY, "/newer"),
        ("/api", "/newer", STRANGER, "/api"),
        ("/api", "", PROXY, "/api"),
        ("/api", " ", PROXY, "/api"),
        ("/api", "/", PROXY, ""),
        ("", "/api", STRANGER, ""),
    ],
)
async def test_what_a_proxy_has_taken_off_comes_before_the_path_again(
    app: FastAPI, root_path: str, forwarded: str | None, peer: str, prefix: str
) -> None:
    ways: dict[str, Any] = {"forwarded": forwarded, "peer": peer, "root_path": root_path}
    told = (await got(app, "/seen", **ways)).json()
    assert told == {"root": prefix, "url": f"{prefix}/seen", "raw": f"{prefix}/seen"}
    told = (await got(app, "/inner/seen", **ways)).json()
    assert (told["root"], told["url"]) == (f"{prefix}/inner", f"{prefix}/inner/seen")
    answer = await got(app, "/chain/invoke", method="POST", **ways)
    assert answer.json()["output"] == 4
    page = await got(app, "/chain/playground/", **ways)
    assert f'"{prefix}/chain/playground/' in page.text
    document = (await got(app, "/openapi.json", **ways)).json()
    assert document.get("servers", []) == ([{"url": prefix}] if prefix else [])
    assert f"'{prefix}/openapi.json'" in (await got(app, "/docs", **ways)).text
    sent_on = (await got(app, "/slash", **ways)).headers["location"]
    assert sent_on == f"http://localhost{prefix}/slash/"


@pytest.mark.parametrize(
    "forwarded",
    [
        "api",
        "//evil.example",
        "/a/../b",
        "/.",
        "/a b",
        "/a?b",
        "/%2e%2e",
        '/"><script>',
        "/x" * 300,
    ],
)
async def test_a_prefix_that_is_none_is_refused_by_name(app: FastAPI, forwarded: str) -> None:
    answer = await got(app, "/seen", forwarded)
    assert answer.status_code == 422
    assert "X-Forwarded-Prefix" in json.dumps(answer.json())
    assert (await got(app, "/seen", forwarded, peer=STRANGER)).status_code == 200


@pytest.mark.parametrize("root_path", ["api", "/", "/api/", "/a//b", "http://host/api"])
def test_a_root_path_that_is_none_is_a_mistake_of_the_operators(root_path: str) -> None:
    with pytest.raises(ConfigError, match="`root_path` is a path as"):
        DoorSettings(root_path=root_path)


async def test_the_key_and_the_probes_are_as_without_a_prefix(app: FastAPI) -> None:
    settings: dict[str, Any] = {"api_keys": ("k",), "root_path": "/api"}
    assert (await got(app, "/readyz", **settings)).status_code == 404  # let in: the app has none
    assert (await got(app, "/api/readyz", **settings)).status_code == 401
    assert (await got(app, "/seen", **settings)).status_code == 401
