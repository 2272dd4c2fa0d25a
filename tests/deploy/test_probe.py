"""The probes on the app's port: ours, and whose paths they leave alone."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from locktender.deploy.probe import ModelHealth, Probes, Readiness
from locktender.http.door import Door, Wire
from locktender.http.key import NOT_FOR_STRANGERS
from locktender.http.settings import DoorSettings
from locktender.wire.problem import langserve_problem

OWN = "the user's"
TROUBLE = "There is no /weights."
WIRE = Wire(langserve_problem, takes_x_api_key=True)
PATHS = ("/livez", "/readyz", "/health")


class Told(ModelHealth):
    """A model layer that says what a test has it say."""

    def __init__(self, *, is_ready: bool = True, is_leaving: bool = False) -> None:
        told = {"ours": True, "models": {"m": {"trouble": TROUBLE}}}
        self._told = Readiness(200 if is_ready else 503, told, is_leaving)

    async def ask(self) -> Readiness:
        return self._told


def own() -> str:
    return OWN


async def asked(
    app: ASGIApp,
    path: str,
    method: str = "GET",
    health: ModelHealth | None = None,
    *,
    settings: DoorSettings | None = None,  # None: there is no door
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    routes = app.routes if isinstance(app, FastAPI) else None
    probes = Probes(app, routes, health or Told(), langserve_problem)
    behind: ASGIApp = Door(probes, settings, WIRE) if settings else probes
    transport = httpx.ASGITransport(behind)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, path, headers=headers)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_app_without_probes_has_ours_and_no_routes_of_them(path: str, method: str) -> None:
    app = FastAPI()
    answer = await asked(app, path, method)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert not any(path in str(getattr(route, "path", "")) for route in app.routes)
    assert (await asked(app, f"{path}/more")).status_code == 404


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
async def test_a_probe_has_no_other_method_unless_the_user_has(path: str, method: str) -> None:
    app = FastAPI()
    for each in (app, _bare if path != "/health" else app):
        answer = await asked(each, path, method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.json()["code"] == "method_not_allowed"
    app.add_api_route(path, own, methods=[method])
    assert (await asked(app, path, method)).json() == OWN
    assert (await asked(app, path)).json() != OWN


def included(path: str) -> FastAPI:
    router, app = APIRouter(prefix=path), FastAPI()
    router.add_api_route("", own)
    app.include_router(router)
    return app


def mounted(path: str) -> FastAPI:
    inner, app = FastAPI(), FastAPI()
    inner.add_api_route(path, own)
    app.mount("/", inner)
    return app


def mounted_app(path: str) -> FastAPI:
    app = FastAPI()
    app.mount(path, PlainTextResponse(OWN))
    return app


def with_slash(path: str) -> FastAPI:
    app = FastAPI()
    app.add_api_route(f"{path}/", own)
    return app


def added_late(path: str) -> FastAPI:
    app = FastAPI()
    app.router.add_api_route(path, own)
    return app


async def _bare(scope: Scope, receive: Receive, send: Send) -> None:
    is_there = scope["path"] == "/health"
    await Response(OWN if is_there else "", 200 if is_there else 404)(scope, receive, send)


@pytest.mark.parametrize("make", [included, mounted, mounted_app, with_slash, added_late])
@pytest.mark.parametrize("path", PATHS)
async def test_a_path_of_the_users_is_the_users(make: Any, path: str) -> None:
    app = make(path)
    answer = await asked(app, path, health=Told(is_ready=False))
    if answer.status_code == 307:  # to the path with a slash at its end
        answer = await asked(app, f"{path}/")
    assert (answer.status_code, OWN in answer.text) == (200, True)


@pytest.mark.parametrize("path", PATHS)
async def test_a_head_of_a_path_of_the_users_is_answered_as_its_get(path: str) -> None:
    app = included(path)  # as FastAPI has it, for GET alone
    answer = await asked(app, path, "HEAD", health=Told(is_ready=False))
    assert (answer.status_code, answer.content) == (200, b"")
    assert "cache-control" not in answer.headers  # ours have it

    async def own_head() -> Response:
        return Response(status_code=204)

    app.add_api_route(path, own_head, methods=["HEAD"])
    assert (await asked(app, path, "HEAD")).status_code == 204


async def test_an_app_that_does_not_tell_its_routes_is_asked() -> None:
    assert (await asked(_bare, "/health")).text == OWN
    assert (await asked(_bare, "/readyz")).json()["ours"] is True


@pytest.mark.parametrize("path", PATHS)
async def test_what_stands_around_the_users_routes_does_not_answer_for_ours(path: str) -> None:
    app = FastAPI()
    app.add_api_route("/{rest:path}", own)  # a page for every path
    app.add_api_route(path, own, methods=["POST"])
    app.add_api_websocket_route(path, own)

    @app.middleware("http")
    async def login(_request: object, _call_next: object) -> Response:
        return Response(status_code=401)

    assert (await asked(app, path)).status_code == 200
    assert (await asked(app, "/elsewhere")).status_code == 401


async def test_a_readyz_of_the_users_is_overruled_while_the_service_leaves() -> None:
    leaving = Told(is_ready=False, is_leaving=True)
    for path, status in (("/readyz", 503), ("/health", 200), ("/livez", 200)):
        assert (await asked(added_late(path), path, health=leaving)).status_code == status


@pytest.mark.parametrize(
    "answers",
    [
        {},  # nobody listens
        {"content": b"no JSON"},
        {"json": ["draining"]},
        {"json": {"else": 1}},
        {"json": {"draining": False, "models": ["m"]}},
        {"json": {"draining": False, "models": {"m": {}}}},
    ],
)
async def test_a_model_layer_that_says_nothing_of_use_is_not_ready(
    answers: Mapping[str, Any],
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if not answers:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, **answers)

    readiness = await asking(answer).ask()
    assert (readiness.status, readiness.is_leaving) == (503, False)
    assert b"does not answer" in readiness.body(hides_trouble=True)


@pytest.mark.parametrize(
    ("keys", "headers", "is_told"),
    [
        ((), {}, True),
        ((), {"Host": "evil.example"}, False),  # a page, by rebinding
        (("k",), {}, False),
        (("k",), {"Authorization": "Bearer no"}, False),
        (("k",), {"X-API-Key": "k"}, True),
    ],
)
async def test_why_an_engine_left_is_told_to_those_who_could_run_something(
    keys: tuple[str, ...], headers: Mapping[str, str], *, is_told: bool
) -> None:
    settings = DoorSettings(api_keys=keys)
    answer = await asked(FastAPI(), "/readyz", settings=settings, headers=headers)
    assert answer.status_code == 200
    trouble = answer.json()["models"]["m"]["trouble"]
    assert trouble == (TROUBLE if is_told else NOT_FOR_STRANGERS)


@pytest.mark.parametrize("key", [None, "k"])
async def test_the_model_layer_is_asked_with_the_workers_key(key: str | None) -> None:
    told = {"ready": False, "draining": True, "models": {"m": {"trouble": None}}}
    keys: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("Authorization"))
        return httpx.Response(503, json=told)

    readiness = await asking(answer, key).ask()
    assert (readiness.status, readiness.is_leaving, readiness.told) == (503, True, told)
    assert json.loads(readiness.body(hides_trouble=True)) == told  # Nothing is wrong with it.
    assert keys == [key and f"Bearer {key}"]


def asking(
    answer: Callable[[httpx.Request], httpx.Response], key: str | None = None
) -> ModelHealth:
    """Return one whose peer is the test."""
    return ModelHealth("http://localhost:1", key, transport=httpx.MockTransport(answer))
