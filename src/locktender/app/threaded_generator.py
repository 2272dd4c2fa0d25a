"""Run a chain's plain generators in threads, so that a server can stream them.

LangChain streams a `RunnableGenerator`, or a `RunnableLambda`, over a plain generator function in
synchronous code only, and a server has none.  Here each gets an asynchronous form, whose generator
goes on in a thread: one for each that runs, since it stands still there while it waits for its next
input, and the threads that are shared would all stand still one day.  What a function returns to
have it run in its place is looked through as well, each time that it does.

The chunks that it reads are asked for by the task that reads it, so that whoever leaves cancels the
steps before it as well.  The generator is closed then; code of the user's that is under way goes on
to its next chunk, and no further.
"""

import asyncio
import inspect
import queue
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from copy import copy
from functools import wraps
from typing import Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from locktender.app.served_copy import with_stand_ins

__all__ = ["with_threaded_generators"]

_Step: TypeAlias = Runnable[Any, Any]
_Outcome: TypeAlias = tuple[str, Any]  # of a step of a generator: "yielded", "ended", "raised"

_END = object()


def with_threaded_generators(runnable: _Step) -> _Step:
    """Return `runnable`, or a copy whose plain generators can be streamed by a server."""
    return with_stand_ins(runnable, _stand_in)


def _stand_in(runnable: _Step) -> _Step:
    # A subclass may have ways of its own to be asynchronous.
    if type(runnable) is RunnableGenerator and not hasattr(runnable, "_atransform"):
        generator = copy(runnable)
        generator._atransform = _asynchronous(runnable._transform, reads_chunks=True)  # noqa: SLF001 - there is no other way in
        return generator
    if type(runnable) is RunnableLambda:
        return _with_threads(runnable)
    return runnable


def _with_threads(runnable: RunnableLambda[Any, Any]) -> _Step:
    function = copy(runnable)
    if hasattr(runnable, "afunc"):
        function.afunc = _looked_through(runnable.afunc)
    elif inspect.isgeneratorfunction(runnable.func):
        function.afunc = _asynchronous(runnable.func, reads_chunks=False)
    else:
        function.func = _looked_through(runnable.func)
    return function


def _looked_through(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, whose runnable, if it returns one, is as it is to be served."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def acall(*args: Any, **kwargs: Any) -> Any:
            return _served(await function(*args, **kwargs))

        return acall
    if inspect.isasyncgenfunction(function) or not inspect.isroutine(function):
        return function  # whatever the former yields is a chunk; a class is known by what it is

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return _served(function(*args, **kwargs))

    return call


def _served(output: Any) -> Any:
    return with_threaded_generators(output) if isinstance(output, Runnable) else output


def _asynchronous(
    function: Callable[..., Iterator[Any]], *, reads_chunks: bool
) -> Callable[..., AsyncGenerator[Any, None]]:
    """Return `function` as an asynchronous one, with the same signature.

    With `reads_chunks` its first argument is an iterator, and there an asynchronous one.
    """

    @wraps(function)
    async def generate(value: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        if "run_manager" in kwargs:
            kwargs["run_manager"] = kwargs["run_manager"].get_sync()
        chunks = _Chunks(value)
        argument = chunks if reads_chunks else value
        thread = _GeneratorThread(function(argument, *args, **kwargs), chunks)
        try:
            while (chunk := await thread.next()) is not _END:
                yield chunk
        finally:
            thread.close()

    return generate


class _Chunks:
    """An asynchronous iterator, as a generator in a thread reads it."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self.source = source
        self.ask: Callable[[], None] = lambda: None  # set when it is read by a thread
        self.answers: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.ask()
        kind, value = self.answers.get()
        if kind == "raised":
            raise value
        if kind == "ended":
            raise StopIteration
        return value


class _GeneratorThread:
    """A generator in a thread of its own, read by one task at a time."""

    def __init__(self, generator: Iterator[Any], chunks: _Chunks) -> None:
        self._generator = generator
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[_Outcome] = asyncio.Queue()
        # The caller's variables, LangChain's config among them, and what the generator makes of
        # them from one chunk to the next.
        self._context = copy_context()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="locktender-generator")
        self._is_closed = False
        chunks.ask = self._ask

    async def next(self) -> Any:
        """Return the generator's next chunk, or `_END`.  Raises what it raises."""
        self._pool.submit(self._context.run, self._advance)
        while (news := await self._news.get())[0] == "asked":
            self._chunks.answers.put(await _outcome(self._chunks.source))
        kind, value = news
        if kind == "raised":
            raise value
        return _END if kind == "ended" else value

    def close(self) -> None:
        """End the generator and the thread, as soon as the user's code lets go of it."""
        self._is_closed = True
        self._chunks.answers.put(("raised", asyncio.CancelledError()))  # if it waits for one
        with suppress(RuntimeError):  # The interpreter ends.
            if isinstance(self._generator, Generator):
                self._pool.submit(self._context.run, self._generator.close)
        self._pool.shutdown(wait=False)

    def _advance(self) -> None:
        try:
            outcome = ("yielded", next(self._generator))
        except StopIteration:
            outcome = ("ended", None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the chunk is read
            outcome = ("raised", error)
        self._tell(outcome)

    def _ask(self) -> None:
        """Have the next chunk put among the answers."""
        if self._is_closed:
            raise asyncio.CancelledError
        self._tell(("asked", None))

    def _tell(self, outcome: _Outcome) -> None:
        with suppress(RuntimeError):  # The loop has ended, and nobody reads.
            self._loop.call_soon_threadsafe(self._news.put_nowait, outcome)


async def _outcome(source: AsyncIterator[Any]) -> _Outcome:
    try:
        return "yielded", await anext(source)
    except StopAsyncIteration:
        return "ended", None
    except Exception as error:  # noqa: BLE001 - a generator may catch what the step before raises
        return "raised", error
