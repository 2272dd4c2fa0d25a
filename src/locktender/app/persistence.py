"""Decide what becomes of a call that the gate refuses, and when it comes again.

Room is asked once for each outer request.  A call that is the first of its own is refused when the
gate says so: whoever waits for it is told at once, and may come again.  But an agent's third call,
or the hundredth of a batch of which others were let in, has cost too much to be thrown away, so it
comes again for as long as its outer request may take.  With a signature the gate need not refuse it
at all; this is for deployments without a key, and for a gate that has been started anew.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from locktender.app.model_call import Call
from locktender.app.places import Places
from locktender.app.session import Session, current_session
from locktender.core.errors import CapacityError, DeadlineExceeded, QueueFull, WaitTooLong

__all__ = ["persisted"]

_Result = TypeVar("_Result")
_PAUSE_S = 1.0  # where the gate does not say when there may be room
_MAX_PAUSE_S = 30.0  # room may come sooner than the gate thinks
_JITTER = 0.5  # of a pause, added by chance, so that those who were refused do not come together
_MAX_PERSISTENCE_S = 600.0  # where neither the outer request nor the call has a time limit


async def persisted(call: Call, send: Callable[[Call, Session], Awaitable[_Result]]) -> _Result:
    """Send `call` when it has a place among those of its outer request; again, if it must be.

    Raises: what `send` does; DeadlineExceeded.
    """
    session = await current_session()
    if call.outer is None:
        return await send(call, session)
    async with _place(session, call) as places:
        limit_s = call.limit_s()
        ends_at = time.monotonic() + (_MAX_PERSISTENCE_S if limit_s is None else limit_s)
        while True:
            try:
                with places.asking():
                    return await send(call, session)
            except (QueueFull, WaitTooLong) as refusal:
                if call.gate not in call.outer.entered and not places.are_asking:
                    raise
                await _pause(refusal, ends_at)
                if call.timeout_s is not None:
                    call = replace(call, timeout_s=ends_at - time.monotonic())


@asynccontextmanager
async def _place(session: Session, call: Call) -> AsyncIterator[Places]:
    """Wait for one of the places of the outer request."""
    outer = call.outer
    if outer is None:
        message = "A call of its own has no places to wait for."
        raise ValueError(message)
    places = session.places(outer.id, call.gate, call.max_concurrency)
    try:
        async with asyncio.timeout(outer.remaining_s(time.monotonic())):
            await places.take()
    except TimeoutError as error:
        message = "The request's time limit passed while earlier calls of it were answered."
        raise DeadlineExceeded(message) from error
    try:
        yield places
    finally:
        places.give_back()


async def _pause(refusal: CapacityError, ends_at: float) -> None:
    """Wait until the gate may have room.  Raises: DeadlineExceeded if that is too late."""
    pause_s = _PAUSE_S if refusal.retry_after_s is None else refusal.retry_after_s
    pause_s = min(_MAX_PAUSE_S, pause_s)
    pause_s *= 1 + _JITTER * random.random()  # noqa: S311 - no secret
    if time.monotonic() + pause_s > ends_at:
        message = "The request's time limit would pass before there is room for its next call."
        raise DeadlineExceeded(message) from refusal
    await asyncio.sleep(pause_s)
