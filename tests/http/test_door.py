"""Who may come in, asked of the whole stack that both servers are behind."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from locktender.http.door import Door, Wire
from locktender.http.settings import Doors, DoorSettings
from locktender.http.stack import server_config
from locktender.wire.problem import langserve_problem, openai_problem

KEY = "a-key-of-ours"
LANGSERVE = Wire(langserve_problem, takes_x_api_key=True)


async def seen(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    """Answer with the path, and with the caller's address."""
    body = json.dumps([scope["path"], scope["client"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def asked(
    settings: DoorSettings,
    method: str = "POST",
    path: str = "/run",
    headers: Mapping[str, str] | None = None,
    *,
    wire: Wire = LANGSERVE,
    peer: str = "192.0.2.7",
) -> httpx.Response:
    config = server_config(seen, Doors(settings), wire, ws="none")
    config.load()
    transport = httpx.ASGITransport(config.loaded_app, client=(peer, 1))
    url = "http://localhost:8000"
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        return await client.request(method, path, headers=headers)


async def test_who_has_no_key_is_told_so_in_each_wires_form() -> None:
    settings = DoorSettings(api_keys=(KEY,))
    answer = await asked(settings)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "invalid_api_key"
    assert "X-API-Key" in answer.json()["detail"]
    answer = await asked(settings, wire=Wire(openai_problem, takes_x_api_key=False))
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert "X-API-Key" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}], ids=["bearer", "x"]
)
async def test_who_has_it_comes_in(headers: Mapping[str, str]) -> None:
    answer = await asked(DoorSettings(api_keys=(KEY,)), headers=headers)
    assert answer.json()[0] == "/run"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/healthz"])
async def test_health_is_free_whatever_the_host(path: str) -> None:
    headers = {"Host": "evil.example"}
    settings = DoorSettings(api_keys=(KEY,))
    assert (await asked(settings, "GET", path, headers)).status_code == 200
    assert (await asked(settings, "POST", path, headers)).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        *("/livez/", "//livez", "/livez/../run", "/LIVEZ", "/livez%2f..%2frun", "/run%3f/livez"),
        *("/run?/livez", "/run/livez", "/livez;/run", "/"),
    ],
)
async def test_no_way_of_spelling_a_path_is_free(path: str) -> None:
    assert (await asked(DoorSettings(api_keys=(KEY,)), "GET", path)).status_code == 401


async def test_a_page_is_free_and_knows_that_a_key_is_wanted() -> None:
    scopes: list[Scope] = []

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await seen(scope, receive, send)

    wire = Wire(langserve_problem, takes_x_api_key=True, is_free=lambda _: True)
    door = Door(page, DoorSettings(api_keys=(KEY,), hosts=None), wire)
    transport = httpx.ASGITransport(door)
    async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
        await client.get("/page")
        await client.get("/page", headers={"X-API-Key": KEY})
    assert [scope.get("locktender.key_is_wanted") for scope in scopes] == [True, None]


async def test_another_host_is_refused_by_name_and_told_of_the_setting() -> None:
    answer = await asked(DoorSettings(), "GET", headers={"Host": "evil.example:8000"})
    assert answer.status_code == 403
    assert "`evil.example:8000`" in answer.json()["detail"]
    assert "allowed_hosts" in answer.json()["detail"]
    assert answer.json()["code"] == "forbidden"


@pytest.mark.parametrize("hosts", [("evil.example",), ("*",), None])
async def test_an_allowed_host_comes_in(hosts: tuple[str, ...] | None) -> None:
    settings = DoorSettings(hosts=hosts)
    assert (await asked(settings, headers={"Host": "evil.example"})).status_code == 200


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        ("POST", "http://localhost:8000", 200),
        ("POST", "https://localhost:8000", 200),
        ("POST", "http://localhost:3000", 403),
        ("POST", "http://evil.example", 403),
        ("PUT", "null", 403),
        ("GET", "http://evil.example", 200),
    ],
)
async def test_only_a_page_of_ours_runs_something(method: str, origin: str, status: int) -> None:
    answer = await asked(DoorSettings(), method, headers={"Origin": origin})
    assert answer.status_code == status
    if status == 403:
        assert "cors_origins" in answer.json()["detail"]


@pytest.mark.parametrize(("peer", "status"), [("127.0.0.1", 200), ("192.0.2.7", 403)])
async def test_a_trusted_proxy_says_which_host_a_page_is_of(peer: str, status: int) -> None:
    headers = {
        "Origin": "https://chains.example",
        "X-Forwarded-Host": "chains.example",
        "X-Forwarded-For": "198.51.100.1",
    }
    answer = await asked(DoorSettings(), headers=headers, peer=peer)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()[1][0] == "198.51.100.1"


PAGES = DoorSettings(api_keys=(KEY,), cors_origins=("https://page.example",))


async def test_a_browser_is_told_who_may_call_without_a_key() -> None:
    headers = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = await asked(PAGES, "OPTIONS", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    answer = await asked(PAGES, "OPTIONS", headers={**headers, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_a_page_that_is_let_in_runs_something_with_the_key_and_reads_refusals() -> None:
    origin = {"Origin": "https://page.example"}
    answer = await asked(PAGES, headers={**origin, "X-API-Key": KEY})
    assert answer.status_code == 200
    assert "retry-after" in answer.headers["access-control-expose-headers"].lower()
    answer = await asked(PAGES, headers=origin)
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://page.example"


@pytest.mark.parametrize("has_extension", [True, False])
async def test_a_websocket_without_the_key_is_refused(*, has_extension: bool) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("Nothing is read of who may not come in.")

    door = Door(seen, DoorSettings(api_keys=(KEY,), hosts=None), LANGSERVE)
    extensions: dict[str, Any] = {"websocket.http.response": {}} if has_extension else {}
    scope = {"type": "websocket", "path": "/livez", "headers": [], "extensions": extensions}
    await door(scope, receive, send)
    if has_extension:
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 401
    else:
        assert sent == [{"type": "websocket.close", "code": 1008}]
