"""A worker, started as its crew starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import httpx
import pytest

from locktender.deploy.crew import DOORS
from locktender.deploy.orders import ORDERS, Orders
from locktender.deploy.parent import DRAIN
from locktender.http.settings import ConnectionSettings, Doors, DoorSettings

APP = """
import gc
import os
import signal
import subprocess
import sys
import weakref

from fastapi import FastAPI

app = FastAPI()


class Circle:
    def __init__(self):
        self.self = self


@app.get("/collector")
def collector() -> dict[str, int]:
    return {"frozen": gc.get_freeze_count(), "young": gc.get_threshold()[0]}


@app.get("/environment")
def environment() -> list[str]:
    return list(os.environ)


@app.get("/signals")
def signals() -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    return -subprocess.run([sys.executable, "-c", kill]).returncode


@app.get("/grow_old")
def grow_old() -> None:
    circle = Circle()
    gc.collect(1)  # from now on only a full collection finds it
    weakref.finalize(circle, print, "gone", flush=True)
"""


Worker: TypeAlias = tuple[httpx.Client, IO[str]]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One that is told nothing."""
    with _serving(tmp_path_factory.mktemp("worker"), APP) as one:
        yield one


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one with doors, and a key."""
    settings = DoorSettings(api_keys=("a-key",), root_path="/api")
    doors = Doors(settings, ConnectionSettings(max_headers=20)).to_json()
    folder = tmp_path_factory.mktemp("guarded")
    with _serving(folder, APP, environment={DOORS: doors}) as (client, _):
        yield client


def test_a_worker_does_not_look_for_garbage_in_what_it_has_loaded(worker: Worker) -> None:
    told = worker[0].get("/collector").json()
    assert told["frozen"] > 10_000
    assert told["young"] == 20_000


def test_an_app_that_sets_its_own_thresholds_keeps_them(tmp_path: Path) -> None:
    with _serving(tmp_path, f"{APP}\ngc.set_threshold(4_321)") as (client, _):
        assert client.get("/collector").json()["young"] == 4_321


def test_old_garbage_goes_when_nothing_runs(worker: Worker) -> None:
    client, output = worker
    client.get("/grow_old").raise_for_status()
    assert output.readline() == "gone\n"


def test_who_may_come_in_is_read_from_the_environment_and_taken_out_of_it(
    guarded: httpx.Client,
) -> None:
    assert guarded.get("/environment").status_code == 401
    key = {"X-API-Key": "a-key"}
    assert DOORS not in guarded.get("/environment", headers=key).json()
    many = {f"X-{n}": "x" for n in range(20)}
    assert guarded.get("/environment", headers=key | many).status_code == 431


def test_a_runnable_is_served_without_extensions_if_they_are_switched_off(tmp_path: Path) -> None:
    chain = "from langchain_core.runnables import RunnableLambda\napp = RunnableLambda(len)"
    with _serving(tmp_path, chain, "--no-extensions") as (client, _):
        assert client.get("/app/extensions").status_code == 404
        assert client.get("/app/input_schema").status_code == 200


def test_no_signal_ends_a_worker_but_what_it_starts_hears_them(worker: Worker) -> None:
    client, _ = worker
    assert client.get("/signals").json() == signal.SIGTERM
    assert client.get("/livez").json() == {"alive": True}
    assert client.get("/readyz").json()["ready"] is True


def test_the_probes_and_the_app_are_found_below_a_prefix(guarded: httpx.Client) -> None:
    for prefix in ({}, {"X-Forwarded-Prefix": "/other"}):
        assert guarded.get("/readyz", headers=prefix).json()["ready"] is True
        answer = guarded.get("/collector", headers={**prefix, "X-API-Key": "a-key"})
        assert answer.status_code == 200


FAILING = """
import logging
import threading
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda
from locktender import add_routes

together = threading.Barrier(64)
app = FastAPI()

def fail(value):
    logging.getLogger("mine").warning("I was asked for %s", value)
    raise ValueError(value)

add_routes(app, RunnableLambda(fail), path="/fail")
add_routes(app, RunnableLambda(lambda _: together.wait(30) >= 0), path="/wait")
"""
BODY = {"input": "why", "inputs": ["why"]}


def test_a_chain_that_fails_is_one_line_of_json_and_64_that_wait_do_so_together(
    tmp_path: Path,
) -> None:
    endpoints = ("invoke", "batch", "stream", "stream_log", "stream_events")
    log = tmp_path / "log"
    with log.open("w") as stream, _serving(tmp_path, FAILING, log=stream) as (client, _):
        ids = [
            client.post(f"/fail/{endpoint}", json=BODY).headers["x-request-id"]
            for endpoint in endpoints
        ]
        with ThreadPoolExecutor(64) as callers:
            asked = [callers.submit(client.post, "/wait/invoke", json=BODY) for _ in range(64)]
        # Each waits for all of the others: with a thread too few none would end.
        assert [each.result().status_code for each in asked] == [200] * 64
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for own, failure, endpoint, request_id in zip(
        lines[::2], lines[1::2], endpoints, ids, strict=True
    ):
        assert (own["logger"], own["message"]) == ("mine", "I was asked for why")
        assert failure["request_id"] == own["request_id"] == request_id
        assert failure["route"] == f"/fail/{endpoint}"
        assert failure["exception"] == "ValueError: why"
        assert "in fail" in failure["traceback"]


ENDLESS = """
import asyncio
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from locktender import add_routes

app = FastAPI()

async def words(_input):
    while True:
        yield "on "
        await asyncio.sleep(0.01)

add_routes(app, RunnableGenerator(words), path="/words")
add_routes(app, RunnableLambda(lambda _: print("inside", flush=True)) | words, path="/invoked")
app.add_api_route("/own", lambda: StreamingResponse(words(None)))
"""


def test_what_takes_longer_than_the_drain_ends_with_an_error_that_says_so(tmp_path: Path) -> None:
    have_begun = threading.Barrier(3)

    def read(method: str, url: str) -> str:
        chunks: list[str] = []
        try:
            with httpx.stream(method, url, json=BODY, timeout=30) as answer:
                for chunk in answer.iter_text():
                    if not chunks:
                        have_begun.wait(30)
                    chunks.append(chunk)
        except httpx.RemoteProtocolError:
            chunks.append("cut off")
        return "".join(chunks)

    with ThreadPoolExecutor(3) as callers:
        with _serving(tmp_path, ENDLESS) as (client, output):
            url = str(client.base_url)
            invoking = callers.submit(httpx.post, f"{url}/invoked/invoke", json=BODY, timeout=30)
            assert output.readline() == "inside\n"
            streaming = callers.submit(read, "POST", f"{url}/words/stream")
            sending = callers.submit(read, "GET", f"{url}/own")
            have_begun.wait(30)
        invoked = invoking.result()
    assert (invoked.status_code, invoked.json()["code"]) == (503, "draining")
    assert invoked.headers["retry-after"]
    end = streaming.result().rpartition("event: error")[2].strip()
    assert json.loads(end.removeprefix("data: "))["code"] == "draining"
    assert sending.result().endswith("cut off")  # The form of its end is its author's.


def test_a_worker_writes_as_it_is_told_and_an_app_keeps_the_log_that_it_has_set_up(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    app = f"import logging\nlogging.basicConfig(level=10, format='mine: %(message)s')\n{FAILING}"
    told = {ORDERS: Orders(log_format="text", access_log=True).to_json()}
    with (
        log.open("w") as stream,
        _serving(tmp_path, app, log=stream, environment=told) as (client, _),
    ):
        client.get("/fail/input_schema?key=secret")
        client.post("/fail/invoke", json=BODY)
    text = log.read_text()
    assert "\nmine: I was asked for why\n" in text
    assert " error locktender.app.answer /fail/invoke failed " in text
    assert "\nTraceback (most recent call last):\n" in text
    assert "mine: /fail" not in text
    assert "GET /fail/input_schema 200" in text
    assert "secret" not in text


def test_an_app_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text("raise OSError('no disk')")
    with subprocess.Popen(
        [*_COMMAND, "0", f"{tmp_path / 'served.py'}:app", "1"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stderr
        (line,) = worker.stderr.read().splitlines()
        assert worker.wait(timeout=60) == 1
    assert json.loads(line)["exception"] == "OSError: no disk"


_COMMAND = (sys.executable, "-P", "-m", "locktender.deploy.worker")


@contextmanager
def _serving(
    folder: Path,
    app: str,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    log: IO[str] | None = None,
) -> Iterator[tuple[httpx.Client, IO[str]]]:
    """Serve `app`; give a client of it, and what it prints."""
    (folder / "served.py").write_text(app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        with subprocess.Popen(
            [*_COMMAND, str(descriptor), f"{folder / 'served.py'}:app", "1", *flags],
            stdin=subprocess.PIPE,  # its end would end the worker
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=[descriptor],
            env={**os.environ, **(environment or {})},
            text=True,
        ) as worker:
            try:
                port = listener.getsockname()[1]
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                    assert worker.stdout
                    yield client, worker.stdout
            finally:
                assert worker.stdin
                worker.stdin.write(DRAIN.decode())
                worker.stdin.flush()  # and it stays open: its end would cut the drain off
                worker.wait(timeout=30)
