"""Say on a connection why it is closed, and read on for a moment, so that it is heard.

To close a connection on which bytes wait unread resets it, and what was sent last is lost.  So the
sending side alone is closed, and what still comes is thrown away, within bounds.
"""

import asyncio
import http
import uuid
from asyncio import Transport

from locktender.http.access import tell
from locktender.http.request_name import ID_HEADER
from locktender.wire.problem import Problem

__all__ = ["Refusal"]

_LINGER_S = 1.0
_MAX_DISCARDED_BYTES = 16 * 1024 * 1024


class Refusal:
    """The end of one connection; it begins when it is made."""

    def __init__(
        self,
        transport: Transport,
        loop: asyncio.AbstractEventLoop,
        answer: bytes | None,  # None: nothing can be said any more
        *,
        may_linger: bool,
    ) -> None:
        self._transport = transport
        self._n_discarded = 0
        self._timer: asyncio.TimerHandle | None = None
        if answer is not None:
            transport.write(answer)
        if answer is None or not may_linger or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        self._timer = loop.call_later(_LINGER_S, transport.close)

    def discard(self, n_bytes: int) -> None:
        """Throw away what has come, unless it is too much."""
        self._n_discarded += n_bytes
        if self._n_discarded > _MAX_DISCARDED_BYTES:
            self._transport.abort()

    def end(self) -> None:
        """Hear that the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()

    @staticmethod
    def answer(problem: Problem, status: int, client: tuple[str, int] | None) -> bytes:
        """Return the whole answer that says `problem`, and write it into the access log."""
        request_id = uuid.uuid4().hex
        tell(
            f"a connection was refused {status}",
            request_id=request_id,
            status=status,
            bytes=len(problem.body),
            client=client[0] if client else None,
        )
        headers = {
            **problem.headers,
            "content-length": str(len(problem.body)),
            "connection": "close",
            ID_HEADER: request_id,
        }
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + problem.body
