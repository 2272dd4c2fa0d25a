"""A piece of work for a heavy object: what is to be run, and the way back to who waits for it.

A job is made by its caller, run by the one thread that owns the object, and read by its caller.  It
ends once, with a result or an error; whatever comes after that is dropped.  Its reader is let go
when the gate has its place back, so that a caller is never in its own way.  Pieces that the reader
is slow to take are kept, and merged when they are many: the thread never waits for a reader.
`owner` sees to when a job is run.
"""

import inspect
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import Context, copy_context
from traceback import walk_tb
from typing import Any, Generic, TypeVar

__all__ = ["Job", "Work"]

_Result = TypeVar("_Result")
_MAY_GO_ON = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_MAX_PIECES = 4096  # unread; later ones are added to the last

Work = Callable[[Any], None]  # of a `Call`


class Job(Generic[_Result]):
    """One call of a heavy object.

    `work` is called with the job, as a `Call`, which jobs of an equal `key` may join.  It calls
    `put` for each piece and `end` or `fail` once for each job.
    """

    def __init__(
        self,
        work: Work,
        *,
        payload: Any = None,
        key: Hashable | None = None,
        prompt: str = "",
        max_tokens: int = 1,
        is_interlude: bool = False,
    ) -> None:
        self.work = work
        self.payload = payload  # what `work` needs to know of this job
        self.key = key  # jobs of equal keys may join one another's call; None: it is alone
        self.is_interlude = is_interlude  # it may be run between two tokens of any call with a key
        self.prompt = prompt  # what the job is charged for, with `max_tokens`
        self.max_tokens = max_tokens
        self.prompt_tokens: int | None = None  # as counted
        self.n_tokens = 0  # new ones, as counted
        self.is_running = False  # in a thread, whether or not it has ended
        self.failure: type[BaseException] | None = None  # of what it has failed with
        self.context: Context = copy_context()  # of the caller
        self._wake: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._pieces: deque[Any] = deque()
        self._end: tuple[_Result | None, BaseException | None] | None = None
        self._is_cancelled = False
        self._is_over = False

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits any more: whoever runs the job stops at the next token."""
        return self._is_cancelled

    @property
    def has_ended(self) -> bool:
        """Whether there is a result or an error."""
        return self._end is not None

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, and its reader may go."""
        return self._is_over

    def cancel(self) -> None:
        """Have the job stopped as soon as it can be.  From any thread."""
        self._is_cancelled = True

    def put(self, piece: Any) -> None:
        """Give the next piece of the answer; pieces can be added to one another."""
        with self._lock:
            if self._end is not None or self._is_cancelled:
                return
            if len(self._pieces) < _MAX_PIECES:
                self._pieces.append(piece)
            else:
                self._pieces[-1] += piece
        self._wake()

    def end(self, result: _Result) -> None:
        """End well."""
        self._settle((result, None))

    def fail(self, error: BaseException) -> None:
        """End with `error`, which is raised where the job is waited for."""
        _forget_locals(error)
        self._settle((None, error))

    def let_go(self) -> None:
        """Let the reader of a job that has ended have the result."""
        self._is_over = True
        self._wake()

    def watch(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, in any thread, whenever `take` may have something new."""
        self._wake = wake
        wake()

    def take(self) -> list[Any]:
        """Return the pieces that have come since."""
        with self._lock:
            pieces, self._pieces = list(self._pieces), deque()
        return pieces

    def result(self) -> _Result:
        """Return the result of a job that has ended.  Raises: what it failed with."""
        if self._end is None:
            message = "The job has not ended."
            raise RuntimeError(message)
        result, error = self._end
        if error is not None:
            self._end = (None, None)  # The error knows frames that know the job: no circle.
            raise error
        return result  # type: ignore[return-value] # without an error there is a result

    def _settle(self, end: tuple[_Result | None, BaseException | None]) -> None:
        with self._lock:
            if self._end is not None:
                return
            self._end = end
            self.failure = type(end[1]) if end[1] is not None else None
        self._wake()


def _forget_locals(error: BaseException) -> None:
    """Let go of what the model held when it failed; on a device, that may be all of its memory."""
    for frame, _ in walk_tb(error.__traceback__):
        if not frame.f_code.co_flags & _MAY_GO_ON:
            with suppress(RuntimeError):  # It is being executed.
                frame.clear()
