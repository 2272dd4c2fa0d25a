"""A worker, started as its crew starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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


def test_a_worker_does_not_look_for_garbage_in_what_it_has_loaded(tmp_path: Path) -> None:
    with _serving(tmp_path, APP) as (client, _):
        assert client.get("/collector").json()["frozen"] > 10_000


@pytest.mark.parametrize(("line", "young"), [("", 20_000), ("gc.set_threshold(4_321)", 4_321)])
def test_an_app_that_sets_its_own_thresholds_keeps_them(
    line: str, young: int, tmp_path: Path
) -> None:
    with _serving(tmp_path, f"{APP}\n{line}") as (client, _):
        assert client.get("/collector").json()["young"] == young


def test_old_garbage_goes_when_nothing_runs(tmp_path: Path) -> None:
    with _serving(tmp_path, APP) as (client, output):
        client.get("/grow_old").raise_for_status()
        assert output.readline() == "gone\n"


def test_who_may_come_in_is_read_from_the_environment_and_taken_out_of_it(tmp_path: Path) -> None:
    doors = Doors(DoorSettings(api_keys=("a-key",)), ConnectionSettings(max_headers=20))
    with _serving(tmp_path, APP, environment={DOORS: doors.to_json()}) as (client, _):
        assert client.get("/environment").status_code == 401
        client.headers["X-API-Key"] = "a-key"
        assert DOORS not in client.get("/environment").json()
        many = {f"X-{n}": "x" for n in range(20)}
        assert client.get("/environment", headers=many).status_code == 431


def test_a_runnable_is_served_without_extensions_if_they_are_switched_off(tmp_path: Path) -> None:
    chain = "from langchain_core.runnables import RunnableLambda\napp = RunnableLambda(len)"
    with _serving(tmp_path, chain, "--no-extensions") as (client, _):
        assert client.get("/app/extensions").status_code == 404
        assert client.get("/app/input_schema").status_code == 200


def test_no_signal_ends_a_worker_but_what_it_starts_hears_them(tmp_path: Path) -> None:
    with _serving(tmp_path, APP) as (client, _):
        assert client.get("/signals").json() == signal.SIGTERM
        assert client.get("/livez").json() == {"alive": True}
        assert client.get("/readyz").json()["ready"] is True


def test_the_probes_and_the_app_are_found_below_a_prefix(tmp_path: Path) -> None:
    doors = Doors(DoorSettings(root_path="/api", api_keys=("k",)))
    with _serving(tmp_path, APP, environment={DOORS: doors.to_json()}) as (client, _):
        for prefix in ({}, {"X-Forwarded-Prefix": "/other"}):
            assert client.get("/readyz", headers=prefix).json()["ready"] is True
            answer = client.get("/collector", headers={**prefix, "X-API-Key": "k"})
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
                worker.communicate(DRAIN.decode(), timeout=30)
