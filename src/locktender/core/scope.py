"""What travels with a request beside its body: its time limit and the outer request it is part of.

A value that is handed on.  The wings that cannot hand it on (a chain's inner calls) will keep it in
a ContextVar of this module.
"""

from dataclasses import dataclass

__all__ = ["Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """The circumstances of one call."""

    timeout_s: float | None = None  # from arrival to the last token; None: the model's default
    # The request, of an app layer, that this call is made for.  Room is asked once for each of
    # them: its later calls wait in line, however full the gate is.  None: a request of its own.
    outer: str | None = None
    caller_id: str | None = None  # the X-Request-Id that the caller sent; for logs only
