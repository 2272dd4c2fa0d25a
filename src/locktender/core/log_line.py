"""Write one line of a log, as JSON or to be read, and never a longer one than `MAX_LINE_BYTES`.

What Python's `logging` records and what the core tells as events become fields first, and a line
after that.  A record has the name of the request that it was written for.  Standard library only,
since engine processes write their logs with it, too.
"""

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from locktender.core.scope import current_request

__all__ = [
    "MAX_LINE_BYTES",
    "LineFormatter",
    "LogFormat",
    "format_in_use",
    "instant",
    "write_line",
]

LogFormat: TypeAlias = Literal["text", "json"]

MAX_LINE_BYTES = 16_000  # Docker breaks a longer one in two, journald at 48 KiB
_FEWEST_CHARACTERS = 64  # of a text that is cut
_AT_THE_END = 0.7  # of a text that is cut: the end of a traceback says what happened
_HEAD = ("at", "level", "logger", "event", "message")
_LAST = ("traceback",)
_OWN = "locktender"  # the logger above all of ours


class LineFormatter(logging.Formatter):
    """Writes the records of `logging`; those of ours may have more `fields` (``extra=``)."""

    def __init__(self, kind: LogFormat) -> None:
        super().__init__()
        self.kind = kind

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`, in which a traceback is a field like another."""
        return write_line(_fields(record), self.kind)


def format_in_use() -> LogFormat:
    """Return the form of this process's lines; "text" where an app has set up a log of its own."""
    handlers = [*logging.getLogger(_OWN).handlers, *logging.getLogger().handlers]
    ours = (each.formatter for each in handlers if isinstance(each.formatter, LineFormatter))
    return next((formatter.kind for formatter in ours), "text")


def instant(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as logs have it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def write_line(fields: Mapping[str, Any], kind: LogFormat) -> str:
    """Return `fields` as one line; the longest texts are cut in the middle until it fits.

    In a text a traceback stands below its line, as people read them; all else is on it, whatever
    a caller has written into a path.
    """
    write = _json if kind == "json" else _text
    texts = {name: text for name, text in fields.items() if isinstance(text, str)}
    rooms = {name: min(len(text), MAX_LINE_BYTES) for name, text in texts.items()}
    while True:
        cut = {name: _cut(text, rooms[name]) for name, text in texts.items()}
        line = write({**fields, **cut})
        longest = max(rooms, key=lambda name: rooms[name], default=None)
        is_short = len(line.encode("utf-8", "backslashreplace")) <= MAX_LINE_BYTES
        if is_short or longest is None or rooms[longest] <= _FEWEST_CHARACTERS:
            return line
        rooms[longest] //= 2


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    request = current_request.get()
    named = {} if request is None else {"request_id": request.id, "route": request.route}
    known = {**named, **vars(record).get("fields", {})}
    fields = {
        "at": instant(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
        **{name: value for name, value in known.items() if value is not None},
    }
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        fields["exception"] = "".join(traceback.format_exception_only(error)).strip()
        fields["traceback"] = "".join(traceback.format_exception(error)).rstrip()
    return fields


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, default=str)  # in ASCII, so that no letter can end a line


def _text(fields: Mapping[str, Any]) -> str:
    head = [_shown(fields[name]) for name in _HEAD if name in fields]
    named = [
        f"{name}={_shown(value)}"
        for name, value in fields.items()
        if name not in _HEAD and name not in _LAST and name != "exception"
    ]
    below = [
        "\n".join(map(_shown, str(fields[name]).split("\n"))) for name in _LAST if name in fields
    ]
    return "\n".join([" ".join([*head, *named]), *below])


def _shown(value: object) -> str:
    """Write a value on one line, and without what a terminal would obey."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _cut(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    n_last = int(room * _AT_THE_END)
    left_out = f" ... {len(text) - room} characters left out ... "
    return text[: room - n_last] + left_out + text[len(text) - n_last :]
