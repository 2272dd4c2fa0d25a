"""Make a batch one request, where it is not part of any: only its first call asks for room.

LangChain calls a chat model with all inputs of a batch at once; each on its own would be refused as
soon as the gate is full.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from locktender.core.scope import OuterRequest, outer_request

__all__ = ["own_request", "within"]


@contextmanager
def own_request() -> Iterator[OuterRequest]:
    """Give the outer request, or one for a batch that is not part of any; its end cancels it."""
    outer = outer_request.get()
    if outer is not None:
        yield outer
        return
    own = OuterRequest(uuid.uuid4().hex)
    try:
        yield own
    finally:
        own.cancel.set()  # When one input has failed, LangChain leaves the others running.


@contextmanager
def within(outer: OuterRequest) -> Iterator[None]:
    """Have the calls that are made here belong to `outer`."""
    token = outer_request.set(outer)
    try:
        yield
    finally:
        outer_request.reset(token)
