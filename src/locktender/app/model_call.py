"""Describe one call of a model: what is sent, on whose behalf, and how long it may take.

Plain values.  `completion` sends them, and `persistence` says what becomes of a refusal.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from locktender.core.errors import DeadlineExceeded
from locktender.core.scope import OuterRequest
from locktender.wire.header import OUTER, REQUEST_ID, SIGNATURE, TENANT, TIMEOUT, TRACE_PARENT
from locktender.wire.inner_call import InnerCall, sign

__all__ = ["CHAT", "MAX_TIMEOUT_S", "TOKENIZE", "Call"]

CHAT = "/chat/completions"
TOKENIZE = "/tokenize"  # as vLLM has it: beside the version, and not below it
_VERSION = "/v1"
MAX_TIMEOUT_S = 86_400.0  # the longest that the service takes
_MIN_TIMEOUT_S = 0.001
# How long a signature is good for where the outer request has no deadline; each call has a new one.
_CLAIM_S = 600.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model, and on whose behalf."""

    base_url: str  # ends before "/chat/completions"
    model: str
    body: Mapping[str, Any]  # without `stream`
    path: str = CHAT
    timeout_s: float | None = None  # from the moment when it is sent; None: as the model allows
    outer: OuterRequest | None = None
    tenant: str | None = None  # of calls whose outer request names none
    api_key: str | None = None
    max_concurrency: int = 64  # calls of one outer request at once

    @property
    def url(self) -> str:
        """Return where it goes."""
        base = self.base_url.rstrip("/")
        return (base.removesuffix(_VERSION) if self.path == TOKENIZE else base) + self.path

    @property
    def lacks_version(self) -> bool:
        """Whether its address is not what services of OpenAI's protocol have."""
        return not self.base_url.rstrip("/").endswith(_VERSION)

    @property
    def gate(self) -> tuple[str, str]:
        """Return what it is that decides on it."""
        return self.base_url, self.model

    def limit_s(self) -> float | None:
        """Return how long the answer may take from now.  Raises: DeadlineExceeded."""
        remaining_s = self.outer.remaining_s(time.monotonic()) if self.outer else None
        limits_s = [limit_s for limit_s in (remaining_s, self.timeout_s) if limit_s is not None]
        limit_s = min(limits_s, default=None)
        if limit_s is not None and limit_s < _MIN_TIMEOUT_S:
            raise DeadlineExceeded("The request's time limit passed before the model was called.")
        return limit_s

    def headers(self, limit_s: float | None, key: bytes | None) -> dict[str, str]:
        """Return what the service is told beside the body, signed with `key` if there is one."""
        outer = self.outer
        named = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self.api_key}" if self.api_key else None,
            TENANT: (outer.tenant if outer else None) or self.tenant,
            TIMEOUT: None if limit_s is None else f"{min(limit_s, MAX_TIMEOUT_S):.3f}",
            OUTER: outer.id if outer else None,
            REQUEST_ID: (outer.caller_id or outer.id) if outer else None,
            TRACE_PARENT: outer.traceparent if outer else None,
        }
        headers = {name: value for name, value in named.items() if value is not None}
        if outer is not None and key is not None:
            signed = InnerCall(outer.id, headers.get(TENANT, ""), headers.get(TIMEOUT, ""))
            remaining_s = outer.remaining_s(time.monotonic())
            life_s = _CLAIM_S if remaining_s is None else min(remaining_s, MAX_TIMEOUT_S)
            headers[SIGNATURE] = sign(key, signed, expires_at=time.time() + life_s)
        return headers
