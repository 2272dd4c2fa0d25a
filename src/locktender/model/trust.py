"""Decide what of a call's headers is believed.

What a caller says of himself can only make his own place smaller: a time limit shortens the gate's,
an outer request's id groups his calls into one share.  More is believed of a call that is signed
with the deployment's key (`wire.inner_call`): that its outer request, once let in, has a claim to a
place until the signature expires.

Time is an argument.  Above it, `service` has the headers; `dispatcher` acts by the `Scope`.
"""

import logging
from collections.abc import Mapping

from locktender.core.scope import Scope
from locktender.wire.header import OUTER, SIGNATURE, TENANT, TIMEOUT, parse_id, parse_timeout
from locktender.wire.inner_call import InnerCall, verify

__all__ = ["Trust"]

_log = logging.getLogger(__name__)


class Trust:
    """Reads headers, with the deployment's key where there is one."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._has_complained = False

    def scope(self, headers: Mapping[str, str], caller_id: str | None, *, now: float) -> Scope:
        """Return the circumstances of a call; `now` is in seconds since 1970.

        Raises: InvalidRequest for a time limit that is none.
        """
        outer = parse_id(headers.get(OUTER))
        return Scope(
            timeout_s=parse_timeout(headers.get(TIMEOUT)),
            outer=outer,
            outer_s=None if outer is None else self._signed_s(outer, headers, now),
            caller_id=caller_id,
            tenant=parse_id(headers.get(TENANT)),
        )

    def _signed_s(self, outer: str, headers: Mapping[str, str], now: float) -> float | None:
        """Return for how long `outer` is signed for; None if it is not."""
        signature = headers.get(SIGNATURE)
        if signature is None:
            return None
        call = InnerCall(outer, headers.get(TENANT, ""), headers.get(TIMEOUT, ""))
        signed_s = verify(self._key, call, signature, now=now) if self._key else None
        if signed_s is None and not self._has_complained:
            self._has_complained = True  # Once: anybody may send what is not good.
            _log.warning(
                "a call is signed with another key than this service's, or its clock is wrong: "
                "it is served as a stranger's (set LOCKTENDER_SHARED_KEY alike on both hosts)"
            )
        return signed_s
