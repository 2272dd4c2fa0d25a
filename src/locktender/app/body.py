"""Read a request's body, within bounds of size and time.

What it means is `wire.langserve`'s to say.  Above it, `endpoint` says how long the caller may take.
"""

import asyncio

from starlette.requests import Request

from locktender.core.errors import InvalidRequest, RequestTooLarge

__all__ = ["read_body"]


async def read_body(request: Request, *, max_bytes: int, timeout_s: float) -> bytes:
    """Return the body; `request` keeps it as well, so that a modifier may read it again.

    Raises: RequestTooLarge, InvalidRequest when it does not arrive, starlette's ClientDisconnect.
    """
    chunks: list[bytes] = []
    n_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                n_bytes += len(chunk)
                if n_bytes > max_bytes:
                    raise RequestTooLarge(f"The body is longer than {max_bytes:,} bytes.")
                chunks.append(chunk)
    except TimeoutError as error:
        raise InvalidRequest(f"The body did not arrive within {timeout_s:g} s.") from error
    body = b"".join(chunks)
    request._body = body  # noqa: SLF001 - where starlette's own `body()` keeps and finds it
    return body
