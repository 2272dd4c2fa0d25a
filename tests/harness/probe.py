"""Ask a server for something small again and again, and tell how long it made us wait.

Run as a program of its own, so that whatever the test does meanwhile is not in what it measures:
``probe.py HOST PORT PATH``.  For each line that it reads it prints the waits since the line before.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Probe", "probing"]

_PAUSE_S = 0.005


class Probe:
    """A probe that is running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def waits(self) -> list[float]:
        """Return how long each answer since the last call took, one at least, in seconds."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        waits: list[float] = json.loads(self._process.stdout.readline())
        return waits


@contextmanager
def probing(url: str) -> Iterator[Probe]:
    """Give a probe of `url`, which ends with the block."""
    parts = urlsplit(url)
    with subprocess.Popen(
        [sys.executable, "-S", Path(__file__), str(parts.hostname), str(parts.port), parts.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Probe(process)
        finally:
            process.kill()


def _main(host: str, port: str, path: str) -> None:
    waits: list[float] = []
    lock = threading.Lock()

    def ask() -> None:
        connection = http.client.HTTPConnection(host, int(port), timeout=100)
        pause = threading.Event()
        while True:
            began_at = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            with lock:
                waits.append(time.perf_counter() - began_at)
            pause.wait(_PAUSE_S)

    threading.Thread(target=ask, daemon=True).start()
    for _ in sys.stdin:
        n_before = len(waits)
        while len(waits) == n_before:  # one that is under way counts, too
            threading.Event().wait(_PAUSE_S)
        with lock:
            sys.stdout.write(json.dumps(waits) + "\n")
            waits.clear()
        sys.stdout.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
