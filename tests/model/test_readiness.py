"""Whether requests should come, as the model layer's probes say it."""

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from locktender.http.door import Door, Wire
from locktender.http.key import NOT_FOR_STRANGERS
from locktender.http.settings import DoorSettings
from locktender.model.service import ModelService, Served, ServiceSettings
from locktender.model.settings import GateSettings
from locktender.wire.problem import openai_problem

GATE = SimpleNamespace(n_waiting=0, n_running=0, n_outside=0, n_sending=0)


def service(why: str | None = None, /, **is_ready: bool) -> ModelService:
    models = {
        name: Served(
            cast("Any", GATE),
            GateSettings(),
            cast("Any", SimpleNamespace(is_ready=ready, has_given_up=False, trouble=why)),
            engine="echo",
            tokenization=cast("Any", None),  # of which no probe asks
        )
        for name, ready in is_ready.items()
    }
    return ModelService(models, ServiceSettings(), lambda _event: None)


async def asked(of: ModelService, path: str, method: str = "GET") -> httpx.Response:
    transport = httpx.ASGITransport(of.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, path)


@pytest.mark.parametrize(
    ("models", "status"),
    [
        ({"a": True}, 200),
        ({"a": False}, 503),
        ({"a": True, "b": False}, 200),  # `b` starts, or is down: `a` is served
        ({"a": False, "b": False}, 503),
        ({}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/readyz", "/health"])
async def test_it_is_ready_while_some_model_can_serve_and_says_which(
    models: dict[str, bool], status: int, path: str
) -> None:
    answer = await asked(service(**models), path)
    assert answer.status_code == status
    told = answer.json()
    assert told["ready"] is (status == 200)
    assert {name: model["ready"] for name, model in told["models"].items()} == models


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
async def test_a_probe_may_look_at_the_head_alone(path: str) -> None:
    answer = await asked(service(a=True), path, "HEAD")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    refused = await asked(service(a=True), path, "POST")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(("trouble", "hidden"), [(None, None), ("no /weights", NOT_FOR_STRANGERS)])
async def test_what_is_wrong_is_told_to_no_stranger(
    trouble: str | None, hidden: str | None
) -> None:
    of = service(trouble, a=trouble is None)
    assert (await asked(of, "/readyz")).json()["models"]["a"]["trouble"] == trouble
    stranger = Door(
        of.app(), DoorSettings(api_keys=("k",)), Wire(openai_problem, takes_x_api_key=False)
    )
    transport = httpx.ASGITransport(stranger)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        told = await client.get("/readyz")
    assert told.json()["models"]["a"]["trouble"] == hidden


async def test_one_that_leaves_is_not_ready_but_lives() -> None:
    leaving = service(a=True)
    leaving.leave()
    for path, status in (("/readyz", 503), ("/health", 503), ("/livez", 200)):
        assert (await asked(leaving, path)).status_code == status
    assert (await asked(leaving, "/readyz")).json()["draining"] is True
