"""The names of our HTTP headers, and what may stand in them.

Standard library only, since clients read it too.
"""

import math
import re

from locktender.core.errors import InvalidRequest

__all__ = [
    "OUTER",
    "REQUEST_ID",
    "SHARE",
    "SIGNATURE",
    "TENANT",
    "TIMEOUT",
    "TRACE_PARENT",
    "parse_id",
    "parse_timeout",
]

REQUEST_ID = "X-Request-Id"
TIMEOUT = "X-Request-Timeout-Seconds"
# The request of an app layer that this call is made for.  Its calls have one share of the gate
# (`model.admission`); more than that they have only if they are signed.
OUTER = "X-Locktender-Outer-Request"
SIGNATURE = "X-Locktender-Signature"  # of an inner call (`wire.inner_call`)
# In an answer: how many calls of one outer request the gate has room for at once.
SHARE = "X-Locktender-Share"
# Whom a call is made for; never a key or another secret.
TENANT = "X-Locktender-Tenant"
TRACE_PARENT = "traceparent"  # W3C Trace Context

_MAX_TIMEOUT_S = 86_400.0
_ID = re.compile(r"[!-~]{1,128}")  # visible ASCII: it goes into logs and back into a header


def parse_id(value: str | None) -> str | None:
    """Return an id that a caller sent; None for one that we do not repeat."""
    return value if value is not None and _ID.fullmatch(value) else None


def parse_timeout(value: str | None) -> float | None:
    """Return the time limit in seconds; None where there is none.  Raises: InvalidRequest."""
    if value is None:
        return None
    try:
        # Python alone would also read "1_0" and digits of other scripts.
        timeout_s = float(value) if value.isascii() and "_" not in value else math.nan
    except ValueError:
        timeout_s = math.nan
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        message = f"`{TIMEOUT}` must be a number of seconds above 0, at most {_MAX_TIMEOUT_S:.0f}."
        raise InvalidRequest(message, TIMEOUT)
    return timeout_s
