"""LangServe 0.3.3 in an environment of its own, and app servers that are started alike.

The environment has what ours has, in the same versions, as far as both use it: what is compared is
the two packages, and not two versions of uvicorn.  LangServe is run and never imported or read.

A second environment has torch and transformers too.  They are ours: it looks there for what it has
not, so that gigabytes lie on the disk only once, and in no other version.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import psutil

from locktender.model.weights import cache_root

__all__ = ["APPS", "free_port", "langserve_python", "serving", "uvicorn_command"]

APPS = Path(__file__).parent / "apps"
START_S = 60
_SHARED = (
    *("fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools"),
    *("langchain-core", "langchain-openai", "openai", "httpx", "orjson"),
)
_MODELS = ("langchain-huggingface", "tokenizers", "torch", "transformers")


def langserve_python(*, has_models: bool = False) -> Path:
    """Return the interpreter of LangServe's environment, which is made when it is missing."""
    wanted = ["langserve[all]==0.3.3", *(f"{name}=={version(name)}" for name in _SHARED)]
    if has_models:
        wanted += [f"{name}=={version(name)}" for name in _MODELS]
    name = "langserve-0.3.3-models" if has_models else "langserve-0.3.3"
    found_at = sysconfig.get_path("purelib") if has_models else ""
    recipe = "\n".join([*wanted, found_at]).strip()
    # One for each recipe: who measures on two sets of libraries in turns makes each only once.
    name += f"-python-3.{sys.version_info.minor}-{sha256(recipe.encode()).hexdigest()[:8]}"
    folder = cache_root() / "benchmarks" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    made_of = folder / "made-of"
    python = folder / "bin" / "python"
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made_of.exists() or made_of.read_text() != recipe:
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            if found_at:
                _look_also_in(found_at, folder)
            subprocess.run([python, "-m", "pip", "install", "-qq", *wanted], check=True)
            made_of.write_text(recipe)
    return python


def _look_also_in(packages: str, folder: Path) -> None:
    own = sysconfig.get_path("purelib", vars={"base": str(folder)})
    # What is there only by reference, as we are, is not found this way.
    Path(own, "also.pth").write_text(f"{packages}\n")


def uvicorn_command(
    python: Path | str, app: str, port: int, *, is_plain: bool = False
) -> list[str]:
    """Return the command of a server that is the same for all, but for its interpreter and app.

    A plain one has what ``pip install uvicorn`` brings: neither uvloop nor httptools.
    """
    loop, http = ("asyncio", "h11") if is_plain else ("uvloop", "httptools")
    return [
        *(str(python), "-m", "uvicorn", app, "--app-dir", str(APPS), "--port", str(port)),
        *("--loop", loop, "--http", http, "--no-access-log", "--log-level", "warning"),
    ]


@contextmanager
def serving(
    command: list[str],
    port: int,
    environment: Mapping[str, str],
    folder: Path,
    start_s: float = START_S,
) -> Iterator[psutil.Process]:
    """Run a server in `folder` from the moment when it takes connections at `port`; end it."""
    environment = {**os.environ, "LANGSMITH_TRACING": "false", **environment}
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("w") as output:
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            _wait_until_open(process, port, log, start_s)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=START_S)


def free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_open(process: psutil.Popen, port: int, log: Path, start_s: float) -> None:
    give_up_at = time.monotonic() + start_s
    while process.poll() is None and time.monotonic() < give_up_at:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
            continue
        return
    message = f"A server did not start:\n{log.read_text()}"
    raise RuntimeError(message)
