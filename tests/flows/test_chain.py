"""A chain behind its routes: what the gate says reaches the caller, and what the caller does it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import anyio
import psutil
import pytest

from harness.service import Service, Starter
from harness.shared_service import Shared, sharing_app

CHAINS = "chains:app"


@pytest.fixture(scope="module")
def slow_chains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The app over a model that is slower than any test."""
    table = {"options": {"tokens_per_s": 20}}
    with sharing_app(tmp_path_factory.mktemp("app"), CHAINS, table) as shared:
        yield shared


async def test_a_full_gate_is_a_503_with_a_time_to_come_again(start_service: Starter) -> None:
    table = {"max_running": 2, "max_waiting": 2, "options": {"tokens_per_s": 40}}
    url, service = start_service.serve(CHAINS, table)
    await service.until(lambda status: status["ready"])
    for route in ("invoke", "stream"):
        replies = await _ask_many(service, f"{url}/chain/{route}", ["repeat 20: on"] * 12)
        refused = [reply for reply in replies if reply[0] == 503]
        assert [reply[0] for reply in replies if reply[0] != 503] == [200] * 4
        assert len(refused) == 8
        for _, headers, body in refused:
            assert body["code"] == "queue_full"
            assert body["detail"] == body["message"]
            assert int(headers["Retry-After"]) >= 1


async def test_every_stream_asks_the_proxies_not_to_collect_it(
    slow_chains: Shared, client: aiohttp.ClientSession
) -> None:
    url, service = slow_chains.app_url, await slow_chains.lend(client)
    body = {"input": {"text": "repeat 2: on"}}
    chat = {"model": "echo", "messages": [{"role": "user", "content": "on"}], "stream": True}
    asked = {
        f"{url}/chain/{route}": body for route in ("stream", "stream_log", "stream_events")
    } | {
        f"{url}/chain/c/N4XyA/stream": body,
        f"{url}/thread/stream": {"input": "no chat"},
        f"{service.url}/chat/completions": chat,
    }
    for place, given in asked.items():
        async with client.post(place, json=given) as response:
            await response.read()
            assert response.content_type == "text/event-stream"
            assert response.headers["X-Accel-Buffering"] == "no"


async def test_a_deadline_that_passes_is_a_504(
    slow_chains: Shared, client: aiohttp.ClientSession
) -> None:
    url, service = slow_chains.app_url, await slow_chains.lend(client)
    header = {"X-Request-Timeout-Seconds": "0.5"}
    for route in ("chain", "agent", "thread", "model"):
        given = "repeat 400: on" if route != "chain" else {"text": "repeat 400: on"}
        status, _, body = await _post(
            service, f"{url}/{route}/invoke", {"input": given}, headers=header
        )
        assert (status, body["code"]) == (504, "deadline_exceeded")
    await service.until_quiet(within_s=5)


@pytest.mark.parametrize("route", ["chain/stream", "chain/invoke", "chain/batch", "thread/invoke"])
async def test_a_caller_that_leaves_frees_the_engine(
    slow_chains: Shared, client: aiohttp.ClientSession, route: str
) -> None:
    url, service = slow_chains.app_url, await slow_chains.lend(client)
    given = "repeat 4000: on" if route.startswith("thread") else {"text": "repeat 4000: on"}
    body = {"inputs": [given, given]} if route.endswith("batch") else {"input": given}
    n_calls = 2 if route.endswith("batch") else 1

    async def ask() -> None:
        await _post(service, f"{url}/{route}", body)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await service.until(lambda status: status["running"] == n_calls)
            group.cancel_scope.cancel()
    await service.until_quiet(within_s=5)
    assert await service.outcomes(n_calls) == {"cancelled": n_calls}


@pytest.mark.parametrize("n_workers", [1, 2])
async def test_a_batch_of_two_hundred_completes_on_a_small_gate(
    start_service: Starter, n_workers: int
) -> None:
    table = {"max_running": 8, "max_waiting": 16}
    url, service = start_service.serve(CHAINS, table, n_workers=n_workers)
    inputs = [{"text": f"input number {n}"} for n in range(200)]
    status, _, body = await _post(service, f"{url}/chain/batch", {"inputs": inputs})

    assert status == 200
    assert body["output"] == [f"input number {n}" for n in range(200)]
    assert await service.outcomes(200) == {"completed": 200}


async def test_an_agent_that_was_let_in_is_never_refused_later(start_service: Starter) -> None:
    table = {"max_running": 1, "max_waiting": 1, "options": {"tokens_per_s": 60}}
    url, service = start_service.serve(CHAINS, table)
    await service.until(lambda status: status["ready"])
    agents: list[tuple[int, Any]] = []

    async def run_agent() -> None:
        status, _, body = await _post(service, f"{url}/agent/invoke", {"input": "an agent"})
        agents.append((status, body["output"] if status == 200 else body))

    async def crowd() -> None:
        while len(agents) < 1:
            await _ask_many(service, f"{url}/chain/invoke", ["repeat 10: crowd"] * 6)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(run_agent)
            await service.until(lambda status: status["running"] == 1)
            group.start_soon(crowd)
    assert agents == [(200, ["an agent"] * 3)]
    assert "refused" in {event["outcome"] for event in service.events("RequestEnded")}


async def test_the_workers_of_an_app_share_the_gate(start_service: Starter) -> None:
    table = {"max_running": 4, "max_waiting": 4, "options": {"tokens_per_s": 100}}
    url, service = start_service.serve(CHAINS, table, n_workers=2)
    await service.until(lambda status: status["ready"])
    replies = await _ask_many(service, f"{url}/chain/invoke", ["repeat 20: on"] * 24)

    assert [reply[0] for reply in replies].count(200) >= 8
    assert {reply[0] for reply in replies} == {200, 503}
    assert len(service.events("ReplicaReady")) == 1


async def test_it_stops_in_order_and_leaves_nothing_behind(start_service: Starter) -> None:
    url, service = start_service.serve(CHAINS, {"options": {"tokens_per_s": 40}}, n_workers=2)
    await service.until(lambda status: status["ready"])
    replies: list[tuple[int, Mapping[str, str], Any]] = []

    async def ask() -> None:
        body = {"input": {"text": "repeat 30: on"}}
        replies.append(await _post(service, f"{url}/chain/invoke", body))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await service.until(lambda status: status["running"] == 1)
            left = service.engine_pids()
            service.process.terminate()
    assert replies[0][0] == 200
    assert service.process.wait(timeout=20) == 0
    assert len(left) == 3
    assert not [pid for pid in left if psutil.pid_exists(pid)]


async def test_a_name_that_its_module_does_not_have_is_one_sentence_and_exit_code_2(
    start_service: Starter, capfd: pytest.CaptureFixture[str]
) -> None:
    _, service = start_service.serve("chains:nothing")
    assert service.process.wait(timeout=20) == 2
    assert "There is no 'nothing' in 'chains'." in capfd.readouterr().err


async def _ask_many(
    service: Service, url: str, texts: Sequence[str]
) -> list[tuple[int, Mapping[str, str], Any]]:
    replies: list[tuple[int, Mapping[str, str], Any]] = []

    async def ask(text: str) -> None:
        replies.append(await _post(service, url, {"input": {"text": text}}))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for text in texts:
                group.start_soon(ask, text)
    return replies


async def _post(
    service: Service, url: str, body: Mapping[str, Any], **options: Any
) -> tuple[int, Mapping[str, str], Any]:
    async with service.client.post(url, json=body, **options) as response:
        if response.content_type == "application/json":
            return response.status, response.headers, await response.json()
        return response.status, response.headers, await response.read()
