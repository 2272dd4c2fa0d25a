"""Write a log, an event or a record a line, without ever holding up whom they come from.

A thread of its own writes, behind a queue of bounded length: when the reader of the log stalls,
lines are dropped, and how many is the next thing that is written.  How long a line may be is
`core.log_line`'s to say.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TextIO

from locktender.core.events import Event
from locktender.core.log_line import LineFormatter, LogFormat, instant, write_line

__all__ = ["Log", "Records", "take_records"]

_MAX_LINES = 10_000  # that wait to be written
_CLOSE_S = 2.0


class Log:
    """An observer that writes to `stream`, and whatever else is put; closed once, at the end."""

    def __init__(self, stream: TextIO, kind: LogFormat = "json") -> None:
        self.kind = kind
        self._stream = stream
        # A line, or the fields of one that is yet to be written.
        self._lines: queue.Queue[str | Mapping[str, Any] | None] = queue.Queue(_MAX_LINES)
        self._lock = threading.Lock()
        self._n_dropped = 0
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def __call__(self, event: Event, /) -> None:
        """Put `event` in line to be written."""
        fields = {name: value for name, value in asdict(event).items() if value is not None}
        self.put({"at": time.time(), "event": type(event).__name__, **fields})

    def put(self, line: str | Mapping[str, Any]) -> None:
        """Put a line, or its fields, in line to be written."""
        try:
            self._lines.put_nowait(line)
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
        while (line := self._lines.get()) is not None:
            self._write_line(line)
            with self._lock:
                dropped, self._n_dropped = self._n_dropped, 0
            if dropped:
                self._write_line({"at": time.time(), "event": "LinesDropped", "n": dropped})

    def _write_line(self, line: str | Mapping[str, Any]) -> None:
        try:
            text = line if isinstance(line, str) else write_line(_rounded(line), self.kind)
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # Its reader is gone; serving goes on without a log.


class Records(logging.Handler):
    """Puts what Python's `logging` records into a log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.setFormatter(LineFormatter(log.kind))
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line here, where the request that it is about is known, and put it."""
        try:
            self._log.put(self.format(record))
        except Exception:  # noqa: BLE001 - an argument may not be what the message asks for
            self.handleError(record)


def take_records(log: Log, loggers: Iterable[str]) -> Callable[[], None]:
    """Have `log` write what those of Python's `loggers` record, and nobody above them; "": all.

    Return what undoes it.
    """
    taken = [logging.getLogger(name) for name in loggers]
    records = Records(log)
    for logger in taken:
        logger.addHandler(records)
        logger.propagate = False

    def leave() -> None:
        for logger in taken:
            logger.removeHandler(records)
            logger.propagate = True

    return leave


def _rounded(fields: Mapping[str, Any]) -> dict[str, Any]:
    rounded = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in fields.items()
    }
    return {**rounded, "at": instant(fields["at"])}
