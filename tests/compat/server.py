"""LangServe 0.3.3 beside us: an environment of its own, and both packages as servers.

LangServe is run and never imported or read: requests go in, answers come out.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx

import locktender
from locktender.model.weights import cache_root

TESTS = Path(__file__).parents[1]
SOURCE = Path(locktender.__file__).parents[1]  # which need not be what the interpreter would find
INSTALL_S = 600
START_S = 60
# The ground that both stand on must be the same, or the exchanges would compare that.
SHARED = (
    *("fastapi", "jsonpatch", "langchain-core", "orjson", "pydantic", "starlette", "uvicorn"),
    *("httpx", "langchain", "langgraph"),
)


def langserve_python() -> Path:
    """Return the interpreter of LangServe's environment, which is made when it is missing."""
    versions = _shared_versions()
    key = "-".join(version.split("==")[1] for version in versions)
    folder = cache_root() / "compat" / f"langserve-0.3.3-{sys.version_info.minor}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            _install(folder / "bin" / "python", versions)
            (folder / "whole").touch()
    return folder / "bin" / "python"


@contextmanager
def serving(
    python: Path | str,
    package: str,
    log: Path,
    app: str = "compat.further_app",
    more: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Serve the module `app` by `package` on loopback; give its port.

    `more` are variables of its environment.
    """
    with starting(python, package, log, app, more) as ready:
        yield ready()


@contextmanager
def starting(
    python: Path | str,
    package: str,
    log: Path,
    app: str = "compat.further_app",
    more: Mapping[str, str] | None = None,
) -> Iterator[Callable[[], int]]:
    """Begin to serve as `serving` does; give what waits until it does, and returns the port."""
    port = _free_port()
    environment = {
        **os.environ,
        "WIRE_PACKAGE": package,
        "PYTHONPATH": search_path(package),
        "LANGSMITH_TRACING": "false",
        "LANGCHAIN_TRACING_V2": "false",
        **(more or {}),
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(python), "-m", app, str(port)],
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            yield lambda: _ready_port(process, port, log)
        finally:
            process.terminate()
            process.wait(timeout=START_S)


def search_path(package: str) -> str:
    """Return where a process of `package` looks for modules first."""
    folders = [TESTS, SOURCE] if package == "locktender" else [TESTS]
    return os.pathsep.join(map(str, folders))


def _install(python: Path, versions: list[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    finished = subprocess.run(
        [*command, "langserve[all]==0.3.3", *versions],
        capture_output=True,
        check=False,
        text=True,
        timeout=INSTALL_S,
    )
    assert finished.returncode == 0, finished.stderr


def _shared_versions() -> list[str]:
    return [f"{name}=={version(name)}" for name in SHARED]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ready_port(process: subprocess.Popen[bytes], port: int, log: Path) -> int:
    """Return `port` when the server answers there."""
    give_up_at = time.monotonic() + START_S
    with httpx.Client(timeout=START_S) as client:
        while _lives(process) and time.monotonic() < give_up_at:
            try:
                client.get(f"http://127.0.0.1:{port}/config_schema").raise_for_status()
            except httpx.ConnectError:
                continue
            return port
    # Without what is indented: a traceback would show LangServe's source.
    told = [line for line in log.read_text().splitlines() if not line.startswith(" ")]
    raise AssertionError("\n".join(told))


def _lives(process: subprocess.Popen[bytes]) -> bool:
    """Return whether it still runs after a moment."""
    try:
        process.wait(timeout=0.1)
    except subprocess.TimeoutExpired:
        return True
    return False
