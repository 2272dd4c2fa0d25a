"""Write and read server-sent events, as the WHATWG's HTML standard defines them.

Holds the framing and nothing of what the frames mean: OpenAI's chunks are made in
`wire.openai_reply`.  Pure: bytes in, events out, no socket.

The decoder takes its bytes in any pieces and holds no more of them than one event may have.  It
departs from the standard once: an event that has a name but no data is given out as well, because
LangServe ends its streams with one.  The `retry` field is not used by us and is skipped.
"""

import re
from dataclasses import dataclass

from locktender.core.errors import PeerError

__all__ = ["ServerSentEvent", "SseDecoder", "encode_comment", "encode_event"]

# The standard's three; `str.splitlines` knows more of them and would tear text apart.
_LINE_END = re.compile(r"\r\n|\r|\n")
_LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")
_NOT_IN_A_FIELD = re.compile(r"[\r\n\0]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event as a reader sees it."""

    data: str
    event: str = "message"  # the standard's name for an event that names none
    id: str = ""  # the last one that the stream has given; it stays until another comes


def encode_event(
    data: str,
    *,
    event: str = "",
    id: str = "",  # noqa: A002 - the field's own name
    line_end: str = "\n",
) -> bytes:
    """Return one frame; line breaks within `data` arrive as LF.

    Raises: ValueError for an `event` or `id` that would break out of its line.
    """
    if _NOT_IN_A_FIELD.search(event + id):
        message = "The event and id of a frame cannot hold a line break or a NUL."
        raise ValueError(message)
    lines = [f"event: {event}"] if event else []
    lines += [f"id: {id}"] if id else []
    lines += [f"data: {line}" for line in _LINE_END.split(data)]
    return (line_end.join(lines) + 2 * line_end).encode()


def encode_comment(text: str, *, line_end: str = "\n") -> bytes:
    """Return a frame that readers skip; it keeps a quiet connection open."""
    lines = [f": {line}" for line in _LINE_END.split(text)]
    return (line_end.join(lines) + 2 * line_end).encode()


class SseDecoder:
    """The events of one stream, however its bytes are cut.

    An event that the stream's end cuts off is never given out, as the standard wants it.
    """

    def __init__(self, *, max_event_bytes: int = 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()  # the start of a line whose end has not come
        self._data: list[str] = []
        self._data_bytes = 0
        self._event = ""
        self._id = ""
        self._is_after_cr = False  # a CR ended the last piece: an LF that follows belongs to it
        self._is_first_line = True

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that they complete.

        Raises: PeerError, after which the stream is not to be read further.
        """
        if not piece:
            return []
        if self._is_after_cr:
            piece = piece.removeprefix(b"\n")
        self._is_after_cr = piece.endswith(b"\r")
        *line_ends, rest = _LINE_END_BYTES.split(piece)
        events = []
        for line_end in line_ends:
            self._grow_line(line_end)
            event = self._take_line()
            if event is not None:
                events.append(event)
        self._grow_line(rest)
        return events

    def _grow_line(self, piece: bytes) -> None:
        self._line += piece
        if self._data_bytes + len(self._line) > self._max_event_bytes:
            message = f"An event of the stream is larger than {self._max_event_bytes} bytes."
            raise PeerError(message)

    def _take_line(self) -> ServerSentEvent | None:
        line = bytes(self._line)
        self._line.clear()
        if self._is_first_line:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._is_first_line = False
        if not line:
            return self._take_event()
        # A comment has an empty name and is skipped like any field that is unknown.
        name, _, value = line.decode("utf-8", "replace").partition(":")
        self._take_field(name, value.removeprefix(" "), n_bytes=len(line) + 1)
        return None

    def _take_field(self, name: str, value: str, *, n_bytes: int) -> None:
        if name == "data":
            self._data.append(value)
            self._data_bytes += n_bytes
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def _take_event(self) -> ServerSentEvent | None:
        data, event = self._data, self._event
        self._data, self._data_bytes, self._event = [], 0, ""
        if not data and not event:
            return None
        return ServerSentEvent("\n".join(data), event or "message", self._id)
