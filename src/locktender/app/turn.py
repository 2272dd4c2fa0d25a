"""Let the runs of a crowd begin a few at a time.

A run's first steps take a millisecond or two of the event loop.  When hundreds of callers come at
once and all take their steps in turn, none has reached its model before all have nearly done so:
the model is idle meanwhile, and the tokens of those who were there before are held.  With a few in
each turn of the loop, the first are at the model when the last begin.  Nobody waits for another's
run, and a caller who comes alone does not wait at all.
"""

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    """Who may begin in this turn of the event loop, and who in the next ones, in order."""

    def __init__(self, per_turn: int = 4) -> None:
        self._per_turn = per_turn
        self._n_begun = 0  # in this turn of the loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def take(self) -> None:
        """Return in this turn of the loop, or in the first later one that has room."""
        loop = asyncio.get_running_loop()
        if self._loop is None or self._loop.is_closed():
            self._loop, self._n_begun = loop, 0
            self._waiting.clear()
        elif self._loop is not loop:
            return  # Test clients have a loop for each request: no crowd is in one of them.
        if self._n_begun == 0:
            loop.call_soon(self._next_turn)
        elif self._n_begun >= self._per_turn:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
            return
        self._n_begun += 1

    def _next_turn(self) -> None:
        self._n_begun = 0
        while self._waiting and self._n_begun < self._per_turn:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                self._n_begun += 1
        if self._n_begun:
            asyncio.get_running_loop().call_soon(self._next_turn)
