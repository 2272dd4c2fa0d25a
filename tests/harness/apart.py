"""An app under uvicorn, started by itself, that calls a model service which was started before."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil

from harness.ending import still_running
from harness.service import APPS, END_S, Service

__all__ = ["keyless", "uvicorn_app"]

START_S = 60.0  # of several workers on a busy machine


def keyless(folder: Path) -> Mapping[str, str]:
    """Return the environment of a process that has no place to keep a key."""
    (folder / "a file").touch()
    return {"XDG_STATE_HOME": str(folder / "a file" / "state")}


@asynccontextmanager
async def uvicorn_app(
    target: str, service: Service, *, n_workers: int, environment: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Serve `target` with `uvicorn --workers`, and give its address once it answers."""
    process, address = _start(
        target, n_workers, {"LOCKTENDER_BASE_URL": service.url, **(environment or {})}
    )
    try:
        with anyio.fail_after(START_S):
            while not await _answers(service, address):
                await anyio.lowlevel.checkpoint()
        yield address
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(END_S)
        assert not still_running(children, within_s=END_S)


def _start(
    target: str, n_workers: int, environment: Mapping[str, str]
) -> tuple["subprocess.Popen[bytes]", str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    flags = ["--port", str(port), "--workers", str(n_workers), "--log-level", "warning"]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", target, *flags],
        cwd=APPS,
        env={**os.environ, **environment},
    )
    return process, f"http://127.0.0.1:{port}"


async def _answers(service: Service, address: str) -> bool:
    try:
        async with service.client.get(f"{address}/openapi.json") as response:
            return response.status == 200
    except OSError:
        return False
