"""Every loop has a client that ends with it; one that no loop used is closed when it is let go."""

import asyncio
import contextlib
import functools
import gc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from locktender.app.client_http import LoopClients, keyed

make = functools.partial(
    httpx.AsyncClient, transport=httpx.MockTransport(lambda _: httpx.Response(200))
)


def in_a_loop(call: Callable[[], Awaitable[httpx.AsyncClient]]) -> httpx.AsyncClient:
    async def go() -> httpx.AsyncClient:
        return await call()

    return asyncio.run(go())


def test_the_first_loop_gets_the_first_client_and_closes_it() -> None:
    clients = LoopClients(make)
    assert in_a_loop(lambda: clients.find(clients.first)) is clients.first
    assert clients.first.is_closed


def test_a_second_loop_gets_a_client_of_its_own_with_the_same_settings() -> None:
    clients = LoopClients(make)
    first = in_a_loop(lambda: clients.find(clients.first))
    first.headers["x-mine"] = "1"
    second = in_a_loop(lambda: clients.find(first))
    assert second is not first
    assert second.headers["x-mine"] == "1"
    third = in_a_loop(lambda: clients.find(second))
    assert third not in (first, second)


async def test_within_a_loop_the_client_stays_the_same() -> None:
    clients = LoopClients(make)
    assert await clients.find(clients.first) is await clients.find(clients.first)


async def test_a_client_of_the_user_s_is_left_alone() -> None:
    clients, mine = LoopClients(make), make()
    assert await clients.find(mine) is mine
    del clients
    gc.collect()
    assert not mine.is_closed
    await mine.aclose()


def test_an_unused_client_is_closed_outside_of_a_loop() -> None:
    clients = LoopClients(make)
    clients.close()
    assert clients.first.is_closed
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


async def test_an_unused_client_is_closed_within_a_loop() -> None:
    clients = LoopClients(make)
    clients.close()
    assert clients.first.is_closed


class Watched(asyncio.SelectorEventLoop):
    """A loop that tells, once, of being asked whether it has ended."""

    on_question: Callable[[], None] | None = None

    def is_closed(self) -> bool:
        tell, self.on_question = self.on_question, None
        if tell is not None:
            tell()
        return super().is_closed()


def test_a_loop_may_begin_in_another_thread_while_ended_ones_are_looked_for() -> None:
    clients = LoopClients(make)

    def find() -> httpx.AsyncClient:
        return in_a_loop(lambda: clients.find(clients.first))

    def find_in_another_thread() -> None:
        with ThreadPoolExecutor() as threads:
            threads.submit(find).result(60)

    with contextlib.closing(Watched()) as first:
        first.run_until_complete(clients.find(clients.first))
        first.on_question = find_in_another_thread
        assert find() is not clients.first
        assert first.on_question is None
        first.run_until_complete(first.shutdown_asyncgens())


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("LOCKTENDER_API_KEY", raising=False)
    return monkeypatch


def test_a_key_is_sent_beside_the_users_headers(no_key: pytest.MonkeyPatch) -> None:
    assert keyed({"A": "a"}, None, None) == {"A": "a"}
    assert keyed({"A": "a"}, "given", None) == {"A": "a", "Authorization": "Bearer given"}
    no_key.setenv("LOCKTENDER_API_KEY", "outside")
    assert keyed(None, None, None)["Authorization"] == "Bearer outside"
    assert keyed(None, "given", None)["Authorization"] == "Bearer given"
    assert keyed(None, "", None) is None


@pytest.mark.parametrize(
    ("headers", "auth"),
    [({"authorization": "Basic x"}, None), ({"X-API-KEY": "x"}, None), (None, ("ann", "x"))],
)
def test_what_the_user_sends_himself_goes_before_the_environments_key(
    headers: dict[str, str] | None, auth: object, no_key: pytest.MonkeyPatch
) -> None:
    no_key.setenv("LOCKTENDER_API_KEY", "outside")
    assert keyed(headers, None, auth) is headers
