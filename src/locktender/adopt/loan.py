"""Lend an object to one who calls it in a thread of their own.

What torch is told for a thread (no gradients, another precision) counts for the calls that this
thread makes: a direct call of a model cannot be made in its owner's thread.  So it is a job that
only waits: when it has its turn, the owner's thread stands still until the object is back.
Texts that are answered together make way for it between two tokens.
"""

import threading

from locktender.adopt.call import Call
from locktender.adopt.job import Job

__all__ = ["Loan"]

_LOOK_S = 1.0  # between two looks at whether the interpreter ends


class Loan:
    """A turn of an object that is spent in the thread of who asked for it."""

    def __init__(self) -> None:
        self.job: Job[None] = Job(self._lend, is_interlude=True)
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._is_lent = False
        self._is_refused = False
        self._is_back = threading.Event()

    def wait(self) -> None:
        """Wait for the turn.  Raises: what the job has failed with, where there will be none."""
        self.job.watch(self._wake)
        self._woken.wait()  # bounded: the gate ends the job at its deadline
        with self._lock:
            self._is_refused = not self._is_lent
        if self._is_refused:
            self.job.result()

    def give_back(self) -> None:
        """Say that the turn is over; return when the gate knows, and the next one may have it."""
        self._is_back.set()
        self._woken.clear()
        self.job.watch(self._wake)
        self._woken.wait()  # bounded: by the way to the gate and back

    def _wake(self) -> None:
        if self.job.is_over:
            self._woken.set()

    def _lend(self, call: Call) -> None:
        (job,) = call
        with self._lock:
            self._is_lent = not (self._is_refused or job.has_ended or job.is_cancelled)
        if self._is_lent:
            self._woken.set()
            while not self._is_back.wait(_LOOK_S) and threading.main_thread().is_alive():
                pass
        job.end(None)
