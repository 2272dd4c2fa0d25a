"""Write events as JSON lines, one for each, without ever holding up whom they come from.

A thread of its own writes, behind a queue of bounded length: when the reader of the log stalls,
lines are dropped, and how many is the next thing that is written.
"""

import json
import queue
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TextIO

from locktender.core.events import Event

__all__ = ["JsonLog"]

_MAX_LINES = 10_000  # that wait to be written
_CLOSE_S = 2.0


class JsonLog:
    """An observer that writes to `stream`; closed once, at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue(_MAX_LINES)
        self._lock = threading.Lock()
        self._n_dropped = 0
        self._writer = threading.Thread(target=self._write, name="json log", daemon=True)
        self._writer.start()

    def __call__(self, event: Event, /) -> None:
        """Put `event` in line to be written."""
        fields = {name: value for name, value in asdict(event).items() if value is not None}
        try:
            self._lines.put_nowait({"at": time.time(), "event": type(event).__name__, **fields})
        except queue.Full:
            with self._lock:
                self._n_dropped += 1

    def close(self) -> None:
        """Write what is in line, unless the reader of the log has stalled."""
        try:
            self._lines.put(None, timeout=_CLOSE_S)
        except queue.Full:
            return
        self._writer.join(_CLOSE_S)

    def _write(self) -> None:
        while (fields := self._lines.get()) is not None:
            self._write_line(fields)
            with self._lock:
                dropped, self._n_dropped = self._n_dropped, 0
            if dropped:
                self._write_line({"at": time.time(), "event": "LinesDropped", "n": dropped})

    def _write_line(self, fields: dict[str, Any]) -> None:
        instant = datetime.fromtimestamp(fields["at"], UTC).isoformat(timespec="milliseconds")
        rounded = {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in fields.items()
        }
        try:
            self._stream.write(json.dumps({**rounded, "at": instant}) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # Its reader is gone; serving goes on without a log.
