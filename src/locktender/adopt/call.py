"""Hold the jobs of one call of a heavy object, and let others join while it runs.

The call's work reads it as a sequence: the jobs that it begins with.  Work that can take more, at
the boundary of two tokens say, asks for those that have `joined`, says of each when it is `done`
with it, and ends only when the call could be `close`d: a job that has joined is never left behind.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, overload

from locktender.adopt.job import Job

__all__ = ["Call"]


class Call(Sequence[Job[Any]]):
    """The jobs of one call.  Made and joined on the gate's loop, run in the object's thread."""

    def __init__(
        self,
        jobs: Sequence[Job[Any]],
        left: Callable[[Job[Any]], None] | None = None,
        *,
        is_open: bool = False,
    ) -> None:
        self._jobs = jobs
        self._left = left
        self._lock = threading.Lock()
        self._joined: list[Job[Any]] = []
        self._is_open = is_open

    def __len__(self) -> int:
        return len(self._jobs)

    @overload
    def __getitem__(self, index: int) -> Job[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Job[Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._jobs[index]

    def join(self, job: Job[Any]) -> bool:
        """Add `job`, unless the call is closed; return whether it was added."""
        with self._lock:
            if self._is_open:
                self._joined.append(job)
            return self._is_open

    def joined(self) -> list[Job[Any]]:
        """Return those that have joined since this was asked before."""
        with self._lock:
            joined, self._joined = self._joined, []
        for job in joined:
            job.is_running = True
        return joined

    def done(self, job: Job[Any]) -> None:
        """Say that nothing more is done for `job`, which has ended: its place is free."""
        job.is_running = False
        if self._left is not None:
            self._left(job)

    def close(self) -> bool:
        """Let nobody join any more, unless somebody has meanwhile; return whether it is closed."""
        with self._lock:
            self._is_open = self._is_open and bool(self._joined)
            return not self._is_open

    def abandon(self) -> list[Job[Any]]:
        """Let nobody join any more; return those that have, and whom nobody has looked at."""
        with self._lock:
            self._is_open = False
        return self.joined()
