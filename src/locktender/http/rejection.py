"""Answer a request, or an opening WebSocket, with a problem, before an app has seen it."""

from typing import Any

from starlette.types import Scope, Send

from locktender.wire.problem import Problem

__all__ = ["reject"]

_POLICY_VIOLATION = 1008  # RFC 6455: where the handshake cannot be answered with a status


async def reject(scope: Scope, send: Send, problem: Problem) -> None:
    """Send `problem` as the whole answer."""
    headers = {**problem.headers, "content-length": str(len(problem.body))}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    kind = "http.response"
    if scope["type"] == "websocket":
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
    start: dict[str, Any] = {"type": f"{kind}.start", "status": problem.status, "headers": raw}
    await send(start)
    await send({"type": f"{kind}.body", "body": problem.body})
