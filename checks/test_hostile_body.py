"""Bodies that are made to be slow delay nobody else, at the app's server and at the model's.

While each is sent, another process asks the same server for something small.  What it waits beyond
what it waits at an idle server is at most 100 ms in the median of three rounds, and 250 ms ever.
Run with two cores that nothing else needs: what is measured is 0.1 s.
"""

import asyncio
import io
import json
import random
import socket
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from harness.probe import Probe, probing
from harness.service import Starter

MAX_DELAY_S, LONGEST_S = 0.1, 0.25
N_ROUNDS = 3
N_GENERATED = 2_000
N_AT_ONCE = 4
APP = Path(__file__).with_name("hostile_app.py")
PRIME = 2**61 - 1  # by which Python divides a number for its hash
EXTENDED = {"X-Locktender-Extensions": "1"}
RUNS = ("invoke", "batch", "stream", "stream_log", "stream_events")


@dataclass(frozen=True, slots=True)
class Sent:
    """A hostile request."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def run(path: str, value: bytes | Any, name: str = "invoke", *, extended: bool = False) -> Sent:
    """Return a request that gives `value`, or the JSON that it is, to the runnable at `path`."""
    written = value if isinstance(value, bytes) else json.dumps(value).encode()
    body = b'{"inputs":[%b]}' if name == "batch" else b'{"input":%b}'
    return Sent(f"/{path}/{name}", body % written, EXTENDED if extended else {})


def tagged(kind: str, value: Any) -> Any:
    return {"__locktender__": kind, "value": value}


def named() -> Mapping[str, list[Sent]]:
    """Return the bodies that somebody thought of, all of one kind at once."""
    alike = [PRIME * n for n in range(1, 33_000)]
    human = [{"type": "human", "content": ""}] * 33_000
    calls = [{"name": "f", "args": '{"a"' + " " * 200_000, "id": "1", "index": 0}]
    chunk = {"type": "AIMessageChunk", "content": "", "tool_call_chunks": calls}
    return {
        "ten million lists": [run("length", b"[" + b"[]," * 10_600_000 + b"[]]")],
        "a set of one hash": [run("echo", tagged("set", alike), extended=True)],
        "a dict of one hash": [run("echo", tagged("dict", [[n, 1] for n in alike]), extended=True)],
        "sets of tuples of one hash": [
            run("echo", tagged("set", [tagged("tuple", [n]) for n in alike]), extended=True)
        ],
        "a schema's set of one hash": [run("numbers", alike)],
        "a schema's dict of one hash": [run("numbers", {n: [] for n in alike})],
        "100,000 short messages": [run("messages", [["human", ""]] * 100_000)],
        "as many as are taken": [run("messages", human), run("messages", [["ai", ""]] * 33_000)],
        "as many in a prompt": [
            run("prompt", {"history": human, "question": ""}, name) for name in RUNS
        ],
        "as many in a prompt that is told of": [
            run("noted", {"history": human, "question": ""}, name) for name in ("invoke", "batch")
        ],
        "arguments that break off": [run("messages", [chunk])],
        "errors": [run("numbers", ["x"] * 99_000), run("messages", [[]] * 49_000)],
        "an echo of much": [run("echo", [[]] * 49_000, name) for name in RUNS],
        "an echo of messages": [
            run("echo", [tagged("HumanMessage", {"content": ""})] * 20_000, name, extended=True)
            for name in ("invoke", "stream", "stream_log")
        ],
        "long numbers": [run("length", b"[" + b",".join([b"9" * 4_299] * 7_000) + b"]")],
        "letters spelt out": [run("length", b'"' + b"\\u4e2d" * 5_300_000 + b'"')],
        "line ends": [run("length", b'"' + b"\\n" * 15_900_000 + b'"')],
        "as many line ends as are taken": [run("length", b'"' + b"\\n" * 6_400_000 + b'"')],
        "a huge decimal": [run("numbers", [tagged("decimal", "1E+99999999")], extended=True)],
        "a batch of 1,000": [run("echo", b",".join([b"1"] * 1_000), "batch")],
        "a config of many keys": [
            Sent(
                "/echo/batch",
                json.dumps(
                    {
                        "inputs": [1] * 900,
                        "config": {"metadata": {f"k{n}": n for n in range(50_000)}},
                    }
                ).encode(),
            )
        ],
        "feedback": [
            Sent(
                "/echo/feedback",
                b'{"run_id":null,"key":"k","value":{"a":[%b]}}' % (b"[]," * 300_000),
            )
        ],
    }


def generated(seed: int) -> Iterator[Sent]:
    """Yield bodies without end, each of a kind, a size and a route of its own."""
    dice = random.Random(seed)
    while True:
        extended = dice.random() < 0.4
        value = _value(dice, extended=extended)
        path = dice.choice(("echo", "length", "messages", "prompt", "numbers"))
        if path == "prompt":
            value = b'{"history":%b,"question":"x"}' % value
        sent = run(path, value, dice.choice(RUNS), extended=extended)
        if dice.random() < 0.1:
            end = dice.randrange(len(sent.body))
            sent = Sent(sent.path, sent.body[:end], sent.headers)
        yield sent


def _value(dice: random.Random, *, extended: bool) -> bytes:
    """Return JSON of up to a hundred thousand bytes that is slow in one way or another."""
    n = int(10 ** dice.uniform(0, 3.8))
    deep = dice.randrange(1, 1_000)
    prime = [PRIME * each for each in range(1, n)]
    plain: list[Callable[[], Any]] = [
        lambda: [[]] * n,
        lambda: [{}] * n,
        lambda: {f"k{each}": each for each in range(n)},
        lambda: [["human", ""]] * n,
        lambda: [{"role": "user", "content": "x"}] * n,
        lambda: [{"type": dice.choice(("ai", "tool", "AIMessageChunk", "x")), "content": ""}] * n,
        lambda: ["x", 1, None, 1.5, {"a": []}] * (n // 5),
        lambda: {each: ["x"] for each in prime},
        lambda: [dice.choice("\\\"',[{é中") * 50] * (n // 10),
        lambda: b"[" * deep + b"]" * deep,
        lambda: b'"' + b"\\u00e9\\n" * n + b'"',
        lambda: {"input": [{"content": [{"type": "text", "text": ""}] * n, "type": "human"}]},
    ]
    kinds = ("set", "frozenset", "dict", "tuple")
    more: list[Callable[[], Any]] = [
        lambda: tagged(dice.choice(kinds), prime),
        lambda: tagged("dict", [[each, 1] for each in prime]),
        lambda: tagged("set", [tagged("tuple", [each, 0]) for each in prime]),
        lambda: tagged("set", [tagged("decimal", f"{each}.0") for each in prime]),
        lambda: [tagged("datetime", "2026-01-01T00:00:00+00:00")] * (n // 4),
        lambda: [tagged("int", "9" * 4_000)] * (n // 100),
        lambda: tagged("decimal", f"{dice.choice('19')}E{dice.choice('+-')}{'9' * (n % 18)}"),
        lambda: [tagged("AIMessage", {"content": "", "tool_calls": []})] * (n // 4),
        lambda: [tagged(dice.choice(("plain", "uuid", "bytes", "nothing")), "QUJD")] * (n // 4),
        lambda: tagged("Command", {"resume": [[]] * n}),
    ]
    made = dice.choice([*plain, *more] if extended else plain)()
    return made if isinstance(made, bytes) else json.dumps(made).encode()


@pytest.fixture(params=["serve", "uvicorn"])
def app_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Start the app, by our command and by the user's own."""
    if request.param == "serve":
        starter = Starter(tmp_path, None)
        yield starter.start_app(f"{APP}:app")[0]
        starter.end_all()
        return
    with _uvicorn() as url:
        yield url


@contextmanager
def _uvicorn() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "--log-level", "error", "--app-dir"]
        with subprocess.Popen(
            [*command, str(APP.parent), "--fd", str(listener.fileno()), "hostile_app:app"],
            pass_fds=[listener.fileno()],
        ) as process:
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(timeout=30)


@dataclass(slots=True)
class Watch:
    """What the others waited, beyond what they wait at an idle server."""

    probe: Probe
    idle_s: float = 0.0

    async def settle(self) -> None:
        """Learn what an answer takes when nothing else is asked."""
        self.probe.waits()
        await anyio.sleep(1)
        self.idle_s = statistics.median(self.probe.waits())

    async def during(self, work: AsyncIterator[None] | Any) -> float:
        """Return the longest delay of others while `work` is done."""
        self.probe.waits()
        await work
        return max(self.probe.waits()) - self.idle_s


@pytest.mark.timeout(400)
async def test_bodies_that_were_thought_of_delay_nobody(
    app_url: str, client: aiohttp.ClientSession
) -> None:
    late: dict[str, list[float]] = {}
    statuses: Counter[tuple[str, int]] = Counter()
    with probing(f"{app_url}/ping") as probe:
        watch = Watch(probe)
        await watch.settle()
        for kind, bodies in named().items():
            for _ in range(N_ROUNDS):
                sending = asyncio.gather(*(_send(client, app_url, each) for each in bodies))
                late.setdefault(kind, []).append(await watch.during(sending))
                statuses.update((kind, status) for status in sending.result())
    for kind, delays in late.items():
        told = sorted({status for each, status in statuses if each == kind})
        print(f"{kind:36} {told} {[round(1_000 * each) for each in delays]} ms")
    assert all(status < 500 for _, status in statuses)
    assert max(statistics.median(delays) for delays in late.values()) <= MAX_DELAY_S
    assert max(max(delays) for delays in late.values()) <= LONGEST_S


@pytest.mark.timeout(400)
async def test_2_000_generated_bodies_delay_nobody(
    app_url: str, client: aiohttp.ClientSession
) -> None:
    delays, statuses = [], Counter[int]()
    bodies = generated(seed=12)
    with probing(f"{app_url}/ping") as probe:
        watch = Watch(probe)
        await watch.settle()
        for _ in range(N_GENERATED // N_AT_ONCE):
            some = [next(bodies) for _ in range(N_AT_ONCE)]
            sending = asyncio.gather(*(_send(client, app_url, each) for each in some))
            delays.append(await watch.during(sending))
            statuses.update(sending.result())
    delays.sort()
    print(statuses, [round(1_000 * each) for each in delays[-10:]], "ms")
    assert max(statuses) < 500
    # Three in a row of the worst would be the median of three rounds of one body.
    assert delays[-3] <= MAX_DELAY_S
    assert delays[-1] <= LONGEST_S


@pytest.mark.timeout(200)
async def test_the_model_service_is_delayed_by_no_body(
    start_service: Starter, client: aiohttp.ClientSession
) -> None:
    service = start_service()
    url = service.url.removesuffix("/v1")
    late, statuses = {}, Counter[int]()
    with probing(f"{service.url}/models") as probe:
        watch = Watch(probe)
        await watch.settle()
        for kind, body in _completions().items():
            sent = [Sent("/v1/chat/completions", body)] * N_AT_ONCE
            late[kind] = []
            for _ in range(N_ROUNDS):
                sending = asyncio.gather(*(_send(client, url, each) for each in sent))
                late[kind].append(await watch.during(sending))
                statuses.update(sending.result())
    print({kind: [round(1_000 * each) for each in delays] for kind, delays in late.items()})
    assert set(statuses) <= {200, 400, 413}
    assert max(statistics.median(delays) for delays in late.values()) <= MAX_DELAY_S
    assert max(max(delays) for delays in late.values()) <= LONGEST_S


def _completions() -> Mapping[str, bytes]:
    head = b'{"model":"echo","max_tokens":1,'
    hello = b'"messages":[{"role":"user","content":"repeat 1: hi"}]'
    part = b'{"type":"text","text":""},'
    return {
        "lists": head + hello + b',"metadata":[%b[]]}' % (b"[]," * 300_000),
        "as many as are taken": head + hello + b',"metadata":[%b[]]}' % (b"[]," * 49_000),
        "keys": head + hello + b',"m":{%b"a":1}}' % b"".join(b'"%d":1,' % n for n in range(80_000)),
        "messages": head + b'"messages":[%b{}]}' % (b'{"role":"user","content":""},' * 30_000),
        "parts": head + b'"messages":[{"role":"user","content":[%b{}]}]}' % (part * 30_000),
        "deep": head + hello + b',"m":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
        "escapes": head + b'"messages":[{"role":"user","content":"%b"}]}' % (b"\\n" * 450_000),
        "numbers": head + hello + b',"m":[%b1]}' % (b"1e300," * 90_000),
    }


async def _send(client: aiohttp.ClientSession, url: str, sent: Sent) -> int:
    """Send a body; return its status, or that of the error that ends its stream."""
    headers = {**sent.headers, "Connection": "close"}  # an idle one could be closed meanwhile
    post = client.post(url + sent.path, data=io.BytesIO(sent.body), headers=headers)
    async with post as response:
        content = await response.read()
    if b'event: error\r\ndata: {"status_code": 5' in content:
        return 500
    return response.status
