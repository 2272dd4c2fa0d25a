"""A LangSmith on loopback, as far as feedback, tokens, links and the tracing of runs go.

It answers what the real client of LangSmith asks, remembers what it was asked, and can be told to
refuse, or to hold back its tokens until a test lets them go.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["EXPIRES_AT", "LangSmithTwin", "langsmith_twin"]

EXPIRES_AT = "2030-01-01T00:00:00+00:00"
_TOKEN = "00000000-0000-0000-0000-0000000000ff"
_HOLD_S = 30  # a test that forgets its tokens is not to keep its server from stopping


@dataclass
class LangSmithTwin:
    """What the server was asked, and how it is to answer."""

    url: str
    asked: list[tuple[str, str, Any]] = field(default_factory=list)  # method, path, body
    refused: Mapping[str, int] = field(default_factory=dict)  # the start of a path: its status
    may_give_tokens: threading.Event = field(default_factory=threading.Event)
    may_give_links: threading.Event = field(default_factory=threading.Event)

    def environment(self) -> dict[str, str]:
        """Return the variables with which a process takes this for LangSmith."""
        return {
            "LANGSMITH_ENDPOINT": self.url,
            "LANGSMITH_API_KEY": "nobody",
            "LANGSMITH_TRACING": "true",
            "LANGCHAIN_TRACING_V2": "true",
        }

    def of(self, path: str) -> list[Any]:
        """Return the bodies that were sent to a path."""
        return [body for _, asked, body in self.asked if asked == path]

    def status_of(self, path: str) -> int:
        return next(
            (status for start, status in self.refused.items() if path.startswith(start)), 200
        )


@contextmanager
def langsmith_twin() -> Iterator[LangSmithTwin]:
    """Serve a LangSmith; what it gives it gives at once, unless a test clears `may_give_...`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    twin = LangSmithTwin(f"http://127.0.0.1:{server.server_port}")
    twin.may_give_tokens.set()
    twin.may_give_links.set()
    server.twin = twin  # type: ignore[attr-defined]  # where each answer finds it
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield twin
    finally:
        twin.may_give_tokens.set()
        twin.may_give_links.set()
        server.shutdown()
        server.server_close()
        thread.join(_HOLD_S)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(self._body())

    def do_PUT(self) -> None:
        self._answer(self._body())

    def do_PATCH(self) -> None:
        self._answer(self._body())

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _body(self) -> Any:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            return json.loads(raw)
        except ValueError:
            return raw  # traces come compressed

    def _answer(self, body: Any) -> None:
        twin: LangSmithTwin = self.server.twin  # type: ignore[attr-defined]  # set above
        twin.asked.append((self.command, self.path, body))
        status = twin.status_of(self.path)
        if self.path == "/feedback/tokens":
            twin.may_give_tokens.wait(_HOLD_S)
        if self.path.endswith("/share"):
            twin.may_give_links.wait(_HOLD_S)
        written = json.dumps(_told(self.path, body)).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)


def _told(path: str, body: Any) -> Any:
    if path == "/info":
        return {"version": "0.1.0", "batch_ingest_config": {"use_multipart_endpoint": False}}
    if path == "/feedback/tokens":
        url = f"http://127.0.0.1/feedback/tokens/{body['run_id']}"
        return {"id": _TOKEN, "url": url, "expires_at": EXPIRES_AT}
    if path.endswith("/share"):
        return {"share_token": body["share_token"] if body else _TOKEN}
    return {}
