"""Read the prefix that a proxy has taken off a path, before it handed the request on.

A prefix is empty, or segments of unreserved characters (RFC 3986) with a slash before each: it gets
into links, and there is no way of spelling another host or a step upwards by it.  Pure.
"""

import re
from collections.abc import Sequence

from locktender.core.errors import InvalidRequest

__all__ = ["FORM", "HEADER", "is_prefix", "parse_prefix"]

HEADER = "X-Forwarded-Prefix"
FORM = "a path as `/api/chains`, of letters, digits and `-._~`, without a slash at its end"
_MAX_LENGTH = 512
_SEGMENTS = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")


def is_prefix(text: str) -> bool:
    """Whether `text` is one, or empty."""
    return len(text) <= _MAX_LENGTH and _SEGMENTS.fullmatch(text) is not None


def parse_prefix(values: Sequence[str]) -> str:
    """Return what the proxies have taken off together, the outermost first.

    `values` are the headers, each of which may be a list.  Raises: InvalidRequest.
    """
    parts = [part.strip().rstrip("/") for value in values for part in value.split(",")]
    prefix = "".join(parts)
    if not is_prefix(prefix):
        raise InvalidRequest(f"The header `{HEADER}` must be {FORM}.")
    return prefix
