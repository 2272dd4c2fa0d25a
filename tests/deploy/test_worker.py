"""A worker, started as its crew starts it."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx

APP = """
import gc

from fastapi import FastAPI

app = FastAPI()


@app.get("/collector")
def collector() -> dict[str, int]:
    return {"frozen": gc.get_freeze_count(), "young": gc.get_threshold()[0]}
"""


def test_a_worker_looks_for_garbage_seldom_and_not_in_what_it_has_loaded(tmp_path: Path) -> None:
    assert _collector(tmp_path, APP)["frozen"] > 10_000


def test_an_app_that_sets_its_own_thresholds_keeps_them(tmp_path: Path) -> None:
    assert _collector(tmp_path, APP)["young"] == 50_000
    assert _collector(tmp_path, f"{APP}\ngc.set_threshold(4_321)")["young"] == 4_321


def _collector(folder: Path, app: str) -> dict[str, int]:
    """Serve `app` and return what it says of its garbage collector."""
    (folder / "served.py").write_text(app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        command = [sys.executable, "-P", "-m", "locktender.deploy.worker", str(descriptor)]
        with subprocess.Popen(
            [*command, f"{folder / 'served.py'}:app", "1"],
            stdin=subprocess.PIPE,  # its end would end the worker
            pass_fds=[descriptor],
        ) as worker:
            try:
                port = listener.getsockname()[1]
                answer = httpx.get(f"http://127.0.0.1:{port}/collector", timeout=30)
            finally:
                worker.terminate()
                worker.wait(timeout=30)
    collector: dict[str, int] = answer.raise_for_status().json()
    return collector
