"""What an operator reads of a service that was started as users start it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.service import APPS, ENGINES

_OWN = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
TABLE = "[models.echo]\nengine = 'faulty:FaultyStepper'\n"


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[tuple[str, str]]:
    """Serve the chains over the engine that fails; give both URLs.  The log is in `folder`."""
    (folder / "locktender.toml").write_text(TABLE)
    program = str(Path(sys.executable).with_name("locktender"))
    ports = ("--port", "0", "--model-port", "0")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, "serve", "chains:app", *ports, *flags],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ENGINES, APPS, *_OWN)))},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout
        yield process.stdout.readline().split()[-1], process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(url: str, text: str, **headers: str) -> httpx.Response:
    body = {"input": {"text": text}}
    return httpx.post(f"{url}/chain/invoke", json=body, headers=headers, timeout=60)


def test_a_request_has_one_id_from_the_app_to_the_engine_and_back(tmp_path: Path) -> None:
    with serving(tmp_path, "--access-log") as (url, model_url):
        own = ask(url, "please fail", **{"X-Request-Id": "mine"})
        given = ask(url, "please refuse")
        unknown = httpx.delete(f"{model_url}/models", timeout=60)
    assert own.headers["x-request-id"] == "mine"
    assert (unknown.status_code, unknown.headers["allow"]) == (405, "GET")
    log = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]  # nothing else is in it
    for answer, exception in (
        (own, "ZeroDivisionError: in step"),
        (given, "ZeroDivisionError: in add"),
    ):
        assert answer.status_code == 500
        request_id = answer.headers["x-request-id"]
        received = _only(lines, event="RequestReceived", caller_id=request_id)
        engine = _only(lines, logger="locktender.engine", request_id=received["request_id"])
        assert exception in engine["traceback"]
        failure = _only(lines, logger="locktender.app.answer", request_id=request_id)
        assert failure["route"] == "/chain/invoke"
        visits = _all(lines, logger="locktender.access", request_id=request_id)
        routes = [(each["route"], each["status"]) for each in visits]
        assert sorted(routes) == [("/chain/invoke", 500), ("/v1/chat/completions", 500)]
    named = unknown.headers["x-request-id"]
    assert _only(lines, logger="locktender.access", request_id=named)["status"] == 405


@pytest.mark.parametrize(
    ("setting", "arguments", "sentence"),
    [
        ("engine = 'openvinoo'", "model", "There is no engine 'openvinoo'"),
        ("preset = 'exactly'", "model", "There is no preset 'exactly': use one of exact, fast."),
        ("backoff_s = -1", "model", "`backoff_s` must be a number of seconds"),
        ("engine = 'echo'", "model --log .", "The file '.' of --log cannot be written"),
        ("engine = 'echo'", "serve no.py:chain", "There is no file 'no.py'."),
        ("engine = 'echo'", "serve nowhere:chain", "There is no module 'nowhere' here"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_is_said_to_be(
    setting: str, arguments: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "locktender.toml").write_text(f"[models.smollm2]\n{setting}\n")
    program = str(Path(sys.executable).with_name("locktender"))
    refused = subprocess.run(
        [program, *arguments.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert sentence in refused.stderr


def _all(lines: list[dict[str, Any]], **fields: object) -> list[dict[str, Any]]:
    return [line for line in lines if fields.items() <= line.items()]


def _only(lines: list[dict[str, Any]], **fields: object) -> dict[str, Any]:
    (found,) = _all(lines, **fields)
    return found
