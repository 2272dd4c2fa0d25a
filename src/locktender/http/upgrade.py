"""Answer a request that offers another protocol as the HTTP/1.1 that it also is, with its body.

Java's client offers h2c with each first request, and uvicorn's own protocol drops its body.
WebSocket is left to uvicorn, where an app has it.  The chunks of a body are handed on together, as
they came: one by one, each would have all that came before it copied.
"""

from collections.abc import Iterable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PlainProtocol"]

_UPGRADE = b"upgrade"


class PlainProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, which speaks HTTP/1.1 to everybody."""

    def __init__(self, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.is_offer = False  # whether the request is one of a protocol that we do not speak
        self.is_websocket = False  # whether another protocol has the transport
        self._body: list[bytes] = []  # that has come, and is not handed on

    def feed(self, data: bytes) -> None:
        """Parse to the end of what has come, or until another protocol has it."""
        rest = memoryview(data)  # A copy for each of many small requests would take its square.
        while (n_read := self._parse(rest)) is not None:
            if not self.is_offer:
                self.is_websocket = True
                self.handle_websocket_upgrade()
                return
            head = _head_without_offer(self.parser, self.url, self.headers)
            self.parser = httptools.HttpRequestParser(self)
            # As uvicorn's own: a caller may send on after a request with `Connection: close`.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._parse(head)
            rest = rest[n_read:]
        self._hand_on_body()

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the parser stops here and `feed` goes on."""
        has_upgrade = self.parser.should_upgrade()
        self.is_offer = has_upgrade and not self._should_upgrade()
        if self.is_offer:
            return
        super().on_headers_complete()
        if not has_upgrade:
            self.headers = []  # for the trailers, which nobody reads

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a body until all that has come is parsed."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if not self.is_offer:
            self._hand_on_body()
            super().on_message_complete()

    def _hand_on_body(self) -> None:
        if self._body:
            super().on_body(b"".join(self._body))
            self._body.clear()

    def _parse(self, data: bytes | memoryview) -> int | None:
        """Parse, and return after how many bytes the parser stopped at an upgrade, if it did."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            n_read: int = stopped.args[0]
            return n_read
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        return None


def _head_without_offer(
    parser: httptools.HttpRequestParser, url: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Return the head that `parser` has read last, without `Upgrade`."""
    version = parser.get_http_version().encode()
    head = [parser.get_method(), b" ", url, b" HTTP/", version, b"\r\n"]
    for name, value in headers:
        if name != _UPGRADE:
            head += [name, b": ", value, b"\r\n"]
    return b"".join([*head, b"\r\n"])
