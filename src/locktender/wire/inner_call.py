"""Sign the calls that an app layer makes for a request of its caller, and verify what is signed.

Whoever signs holds the key that the processes of one deployment share; so a gate that finds the
signature good may believe what the headers beside it say.  HMAC-SHA256 (RFC 2104) over the outer
request's id, its tenant, its time limit and the instant at which all of it expires.

Standard library only, since clients sign; no clock: time is an argument, in seconds since 1970.
"""

import hashlib
import hmac
import math
import re
from dataclasses import dataclass

__all__ = ["InnerCall", "sign", "verify"]

_SKEW_S = 30.0  # by which the clocks of two hosts may differ
_MAX_LIFE_S = 86_400.0  # no signature is good for longer, whatever it says
_PURPOSE = b"locktender inner call v1"  # the key may come to sign other things
_SIGNATURE = re.compile(r"v1 ([0-9]{1,12}) ([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class InnerCall:
    """What is signed, as the headers have it; empty where there is none."""

    outer: str
    tenant: str
    timeout: str


def sign(key: bytes, call: InnerCall, *, expires_at: float) -> str:
    """Return the header that makes `call` believed until `expires_at`, rounded up to a second."""
    expiry = str(math.ceil(expires_at))
    return f"v1 {expiry} {_digest(key, call, expiry)}"


def verify(key: bytes, call: InnerCall, signature: str, *, now: float) -> float | None:
    """Return for how many seconds `signature` is still good for `call`; None if it is not."""
    parts = _SIGNATURE.fullmatch(signature)
    if parts is None:
        return None
    expiry, digest = parts.groups()
    if not hmac.compare_digest(_digest(key, call, expiry), digest):
        return None
    left_s = int(expiry) - now + _SKEW_S
    return left_s if 0 < left_s <= _MAX_LIFE_S + 2 * _SKEW_S else None


def _digest(key: bytes, call: InnerCall, expiry: str) -> str:
    # Each field behind its length, so that no two calls are written alike.
    fields = [field.encode() for field in (call.outer, call.tenant, call.timeout, expiry)]
    written = b"".join(b"%d:%b," % (len(field), field) for field in (_PURPOSE, *fields))
    return hmac.new(key, written, hashlib.sha256).hexdigest()
