"""Have a model's own code run in its owner's thread, and its callbacks run where the caller is.

For models that are only known as LangChain objects: the plain method is called as it is, with a
callback manager that notes what it is told.  The notes come out, in their order, beside the chunks,
and are told to the real manager by the caller's side, in its thread or on its loop: callbacks are
the user's code, which may take its time or call the same model again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from locktender.adopt.job import Job
from locktender.adopt.owner import Owner

__all__ = ["agenerated", "astreamed", "generated", "streamed"]

# A plain method that wants nothing more than a callback manager.
Plain = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Note:
    """A call of the callback manager."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


class _Notes:
    """A callback manager, as a model sees it, that passes on what it is told."""

    def __init__(self, run_manager: Any, note: Callable[[_Note], None]) -> None:
        self._run_manager = run_manager
        self._note = note

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return getattr(self._run_manager, name)
        return lambda *arguments, **options: self._note(_Note(name, arguments, options))


def _note_in(job: Job[Any]) -> Callable[[_Note], None]:
    def note(note: _Note) -> None:
        if job.is_cancelled:
            raise asyncio.CancelledError  # A model that tells of its tokens can be stopped there.
        job.put([note])

    return note


def generated(owner: Owner, plain: Plain, run_manager: Any, prompt: str) -> Any:
    """Return what `plain` returns."""
    if owner.turn() is not None:
        return plain(run_manager)
    job = _job(plain, run_manager, prompt)
    _listen(owner, job, run_manager)
    return job.result()


def _listen(owner: Owner, job: Job[Any], run_manager: Any) -> None:
    for note in _items(owner.iterate(job)):
        getattr(run_manager, note.name)(*note.arguments, **note.options)


async def agenerated(owner: Owner, plain: Plain, run_manager: Any, prompt: str) -> Any:
    """Return what `plain` returns."""
    job = _job(plain, run_manager, prompt)
    async with aclosing(owner.aiterate(job)) as pieces:
        async for notes in pieces:
            for note in notes:
                await getattr(run_manager, note.name)(*note.arguments, **note.options)
    return job.result()


def streamed(owner: Owner, plain: Plain, run_manager: Any, prompt: str) -> Iterator[Any]:
    """Yield what `plain` yields."""
    if owner.turn() is not None:
        for chunk in plain(run_manager):
            owner.turn()  # raises if nobody waits any more
            yield chunk
        return
    job = _job(plain, run_manager, prompt, is_stream=True)
    for item in _items(owner.iterate(job)):
        if isinstance(item, _Note):
            getattr(run_manager, item.name)(*item.arguments, **item.options)
        else:
            yield item


async def astreamed(
    owner: Owner, plain: Plain, run_manager: Any, prompt: str
) -> AsyncIterator[Any]:
    """Yield what `plain` yields."""
    job = _job(plain, run_manager, prompt, is_stream=True)
    async with aclosing(owner.aiterate(job)) as pieces:
        async for items in pieces:
            for item in items:
                if isinstance(item, _Note):
                    await getattr(run_manager, item.name)(*item.arguments, **item.options)
                else:
                    yield item


def _items(pieces: Any) -> Iterator[Any]:
    with closing(pieces):
        for items in pieces:
            yield from items


def _job(plain: Plain, run_manager: Any, prompt: str, *, is_stream: bool = False) -> Job[Any]:
    def work(jobs: Sequence[Job[Any]]) -> None:
        (job,) = jobs
        notes = _Notes(run_manager, _note_in(job)) if run_manager else None
        result = plain(notes)
        if not is_stream:
            job.end(result)
            return
        with closing(result):
            for chunk in result:
                if job.is_cancelled:
                    break
                job.put([chunk])
        job.end(None)

    return Job(work, prompt=prompt)
