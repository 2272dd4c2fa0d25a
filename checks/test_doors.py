"""Connections that are held, or filled, by who wants nothing: honest callers hardly notice."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import psutil
import pytest

from harness.service import Service, Starter

N_SLOW = 500
N_TRIES = 21
MAX_SLOWER = 3.0  # an honest caller's first token, beside them, in times of an idle server's
HEAD_BYTES = 400_000_000
MAX_GROWTH_BYTES = 60_000_000
MAX_DELAY_S = 0.25
POOL_SIZE = 10
IDLE_S = 60.0
START = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.timeout(120)
async def test_500_slow_heads_do_not_slow_an_honest_caller_down(start_service: Starter) -> None:
    service = start_service({"options": {"tokens_per_s": 2_000}})
    await service.until(lambda status: status["ready"])
    await _first_token_s(service)
    idle_s = [await _first_token_s(service) for _ in range(N_TRIES)]
    async with _slow_heads(service):
        beside_s = [await _first_token_s(service) for _ in range(N_TRIES)]
    idle, beside = statistics.median(idle_s), statistics.median(beside_s)
    print(f"\nfirst token: idle {1_000 * idle:.1f} ms, beside {N_SLOW} {1_000 * beside:.1f} ms")
    assert beside <= MAX_SLOWER * idle
    assert await service.outcomes(2 * N_TRIES + 1) == {"completed": 2 * N_TRIES + 1}


@pytest.mark.timeout(120)
async def test_slow_heads_are_gone_after_their_time(start_service: Starter) -> None:
    service = start_service(header_timeout_s=2.0)
    began_at = time.perf_counter()
    async with _slow_heads(service) as ended:
        await asyncio.wait_for(ended.wait(), 20)
    took_s = time.perf_counter() - began_at
    print(f"\n{N_SLOW} slow heads: all closed after {took_s:.1f} s")
    assert took_s <= 10


@pytest.mark.timeout(120)
async def test_400_mb_of_headers_cost_neither_memory_nor_the_neighbours(
    start_service: Starter,
) -> None:
    service = start_service()
    await service.until(lambda status: status["ready"])
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    most, longest_s = before, 0.0
    sending = [asyncio.create_task(_send_head(service, field)) for field in (b"", b"\r\nA: ")]
    while not all(task.done() for task in sending):
        began_at = time.perf_counter()
        await service.status()
        longest_s = max(longest_s, time.perf_counter() - began_at)
        most = max(most, process.memory_info().rss)
    sent = [task.result() for task in sending]
    print(
        f"\nsent {sent} bytes; memory + {(most - before) / 1e6:.0f} MB; {longest_s:.3f} s at most"
    )
    assert most - before <= MAX_GROWTH_BYTES
    assert longest_s <= MAX_DELAY_S
    assert max(sent) < HEAD_BYTES


@pytest.mark.timeout(180)
async def test_an_idle_pool_is_there_after_a_minute_on_both_servers(
    start_service: Starter,
) -> None:
    url, service = start_service.serve("chains:chain")
    places = (f"{service.url}/models", f"{url}/chain/input_schema")
    with anyio.fail_after(30):  # The workers are being started.
        pools = [[await _opened(place) for _ in range(POOL_SIZE)] for place in places]
    await anyio.sleep(IDLE_S)
    for pool in pools:
        alive = [await _is_alive(*each) for each in pool]
        for _, writer, _ in pool:
            writer.close()
        assert alive == [True] * POOL_SIZE


@asynccontextmanager
async def _slow_heads(service: Service) -> AsyncIterator[asyncio.Event]:
    """Hold heads open, a byte a second; tell when the server has closed all of them."""
    address = urlsplit(service.url)
    ended, left = asyncio.Event(), set(range(N_SLOW))

    async def hold(n: int) -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        answer = asyncio.create_task(reader.read())
        try:
            writer.write(START)
            while not (await asyncio.wait([answer], timeout=1))[0]:
                writer.write(b"a")
            await answer
        except ConnectionError:
            pass
        finally:
            answer.cancel()
            writer.close()
            left.discard(n)
            if not left:
                ended.set()

    async with anyio.create_task_group() as group:
        for n in range(N_SLOW):
            group.start_soon(hold, n)
        yield ended
        group.cancel_scope.cancel()


async def _send_head(service: Service, between: bytes) -> int:
    """Send headers until the server will have no more; return how many bytes were taken."""
    address = urlsplit(service.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    part, n_sent = between + b"a" * 100_000, 0
    try:
        writer.write(START + b"A: ")
        while n_sent < HEAD_BYTES:
            writer.write(part)
            await writer.drain()
            n_sent += len(part)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return n_sent


async def _opened(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    asked = f"GET {address.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    assert await _is_alive(reader, writer, asked)
    return reader, writer, asked


async def _is_alive(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytes
) -> bool:
    """Ask on a connection, and read the answer."""
    writer.write(asked)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return False
    (length,) = (
        int(line.split(b":")[1])
        for line in head.lower().splitlines()
        if line.startswith(b"content-length")
    )
    await reader.readexactly(length)
    return True


async def _first_token_s(service: Service) -> float:
    took_s: list[float] = []
    began_at = time.perf_counter()
    with anyio.fail_after(30):
        reply = await service.ask(
            "repeat 2: on",
            stream=True,
            on_text=lambda: took_s.append(time.perf_counter() - began_at),
        )
    assert reply.status == 200
    return took_s[0]
