"""LangChain's JavaScript packages, fetched once, and what their client gets of a server."""

import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from locktender.model.weights import cache_root

HERE = Path(__file__).parent
INSTALL_S = 600
RUN_S = 300


def packages_folder() -> Path:
    """Return the folder in which `npm` has put what package.json names; made when it is missing."""
    lists = [HERE / name for name in ("package.json", "package-lock.json")]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in lists)).hexdigest()[:16]
    folder = cache_root() / "compat" / f"js-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for path in lists:
                shutil.copy(path, folder)
            run([program("npm"), "ci", "--ignore-scripts", "--no-audit"], folder, INSTALL_S)
            (folder / "whole").touch()
    return folder


def found_by_client(port: int, connection: str = "keep-alive") -> dict[str, Any]:
    """Return what `client.mjs` prints of the server at `port`."""
    folder = packages_folder()
    client = [program("node"), str(HERE / "client.mjs"), f"http://127.0.0.1:{port}", str(folder)]
    found: dict[str, Any] = json.loads(run([*client, connection], folder, RUN_S).splitlines()[-1])
    return found


def program(name: str) -> str:
    path = shutil.which(name)
    assert path, f"This test runs a JavaScript client: install Node 18 or later, with `{name}`."
    return path


def run(command: list[str], folder: Path, limit_s: float) -> str:
    finished = subprocess.run(
        command, capture_output=True, check=False, cwd=folder, text=True, timeout=limit_s
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
