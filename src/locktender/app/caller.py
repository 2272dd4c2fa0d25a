"""Make a request's headers the `OuterRequest` that the chain's model calls are made for.

Decides whom a request counts for.  It lets nobody in and keeps nobody out: that is the business of
the user's own dependencies.  `core.scope` says how the chain's calls find what is made here.
"""

import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping

from locktender.core.scope import OuterRequest, current_request
from locktender.wire.header import (
    REQUEST_ID,
    TENANT,
    TIMEOUT,
    TRACE_PARENT,
    parse_id,
    parse_timeout,
)

__all__ = ["outer_request_of"]

_BEARER = "bearer "
_ID_BYTES = 16  # which nobody guesses


def outer_request_of(headers: Iterable[tuple[bytes, bytes]]) -> OuterRequest:
    """Return who calls and until when, from ASGI's headers.  Raises: InvalidRequest."""
    # One pass instead of one for each name: this is done for every request.
    named = {name: value for name, value in headers if name in _READ}
    request = current_request.get()
    own_id = None if request is None else request.id
    if not named:
        return OuterRequest(secrets.token_hex(_ID_BYTES), caller_id=own_id)
    timeout_s = parse_timeout(_text(named, TIMEOUT))
    return OuterRequest(
        id=secrets.token_hex(_ID_BYTES),
        deadline_at=None if timeout_s is None else time.monotonic() + timeout_s,
        tenant=_tenant(named),
        caller_id=own_id or parse_id(_text(named, REQUEST_ID)),
        traceparent=parse_id(_text(named, TRACE_PARENT)),
    )


def _tenant(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the name that the caller gives itself, or else one that its key stands for."""
    name = parse_id(_text(headers, TENANT))
    if name is not None:
        return name
    authorization = _text(headers, "Authorization") or ""
    is_bearer = authorization.lower().startswith(_BEARER)
    key = authorization[len(_BEARER) :].strip() if is_bearer else _text(headers, "X-API-Key")
    # Short, one way: a tenant goes into logs and over the wire, and a key must not.
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:16]}" if key else None


def _text(headers: Mapping[bytes, bytes], name: str) -> str | None:
    value = headers.get(_raw(name))
    return None if value is None else value.decode("latin-1")


def _raw(name: str) -> bytes:
    return name.lower().encode("ascii")


_READ = frozenset(
    _raw(name) for name in (TENANT, TIMEOUT, REQUEST_ID, TRACE_PARENT, "Authorization", "X-API-Key")
)
