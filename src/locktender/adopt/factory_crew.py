"""Own the processes that run one factory's models, and the gate in front of them.

The gate and the supervisor are the model layer's, on the event loop that all callers of the process
share, where no code of users runs: what a call asks and what is answered are text here.  The
processes are started by the first call, or by `start`, and anew in a forked process; they end when
the crew is collected, and with the interpreter.  `factory` has the models whose calls come here.
"""

import asyncio
import logging
import os
import sys
import uuid
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Self

from locktender.adopt.factory_stepper import read_error
from locktender.adopt.job import Job
from locktender.adopt.wait import aiterate, iterate, reported, scope_of
from locktender.app.background import background
from locktender.core.errors import (
    ConfigError,
    EngineFailed,
    EngineStartError,
    NoReplicaReady,
    RequestTooLarge,
)
from locktender.core.events import EnginesDown, Event, ReplicaLeft, SupervisorGaveUp
from locktender.core.request import GenerationRequest, TextInput
from locktender.core.scope import Scope, outer_request
from locktender.model.dispatcher import Dispatcher
from locktender.model.engine import EngineSpec
from locktender.model.process import ProcessReplica
from locktender.model.settings import GateSettings, SupervisionSettings
from locktender.model.supervisor import Supervisor

__all__ = ["Crew", "CrewSettings"]

_log = logging.getLogger(__name__)

_STEPPER = "locktender.adopt.factory_stepper:FactoryStepper"
_CHILD = "locktender.model.child"
_MAX_CALL_CHARACTERS = 32 * 1024 * 1024  # half of what a frame may hold
_AMPLE_TOKENS = 1 << 40  # calls are bounded by their number here


@dataclass(frozen=True, slots=True)
class CrewSettings:
    """How many processes there are, what each of them makes, and the bounds of their gate."""

    source: str  # of the factory: "module:name" or "file.py:name"
    kind: str
    replicas: int
    max_waiting: int = 64
    max_wait_s: float = 60.0
    timeout_s: float = 600.0
    start_timeout_s: float = 300.0

    @property
    def name(self) -> str:
        """The factory's name."""
        return self.source.rpartition(":")[2]

    def gate(self) -> GateSettings:
        """Return the gate's part of them.  Raises: ConfigError."""
        return GateSettings(
            max_running=1,
            max_waiting=self.max_waiting,
            max_wait_s=self.max_wait_s,
            timeout_s=self.timeout_s,
            max_gate_tokens=_AMPLE_TOKENS,
        )

    def supervision(self) -> SupervisionSettings:
        """Return the supervisor's part of them.  Raises: ConfigError."""
        return SupervisionSettings(replicas=self.replicas, start_timeout_s=self.start_timeout_s)


@dataclass(frozen=True, slots=True)
class _Gate:
    """What a crew has on one event loop."""

    loop: asyncio.AbstractEventLoop
    supervisor: Supervisor
    dispatcher: Dispatcher
    news: asyncio.Event  # a process is ready, or gone


class Crew:
    """The processes of one factory.

    Copies of the model that it serves share it; pickled, it is what it was made from, and starts
    processes of its own.  Raises, where an answer is waited for: QueueFull, WaitTooLong,
    NoReplicaReady, DeadlineExceeded, ReplicaLost, PoisonedRequest, and what the model fails with.
    """

    def __init__(self, settings: CrewSettings) -> None:
        settings.gate()  # They say now what is wrong with them.
        settings.supervision()
        self.settings = settings
        self._gate: _Gate | None = None

    def __repr__(self) -> str:
        state = self._gate.supervisor if self._gate else "at rest"
        return f"<Crew of {self.settings.source} {state}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)

    def start(self) -> None:
        """Start the processes and wait until each has its model.

        Raises: ConfigError if the factory cannot work, NoReplicaReady, EngineStartError.
        """
        background.run(self._start())

    def iterate(self, call: str, *, is_stream: bool) -> Generator[str, None, None]:
        """Yield the lines of the answer; leaving ends the call."""
        job = Job[None](_elsewhere)
        with self._under_way(job, call, is_stream=is_stream):
            for piece in iterate(job):
                yield from _lines(piece)

    async def aiterate(self, call: str, *, is_stream: bool) -> AsyncGenerator[str, None]:
        """Yield the lines of the answer; leaving ends the call."""
        job = Job[None](_elsewhere)
        with self._under_way(job, call, is_stream=is_stream):
            async with aclosing(aiterate(job)) as pieces:
                async for piece in pieces:
                    for line in _lines(piece):
                        yield line

    @contextmanager
    def _under_way(self, job: Job[None], call: str, *, is_stream: bool) -> Iterator[None]:
        """Have `call` answered into `job` while the block lasts."""
        request, scope = _circumstances(self.settings.name, call, is_stream=is_stream)
        visit = background.submit(self._see_through(job, request, scope))
        try:
            yield
        finally:
            visit.cancel()  # Nothing happens to one that is over.

    async def _see_through(self, job: Job[None], request: GenerationRequest, scope: Scope) -> None:
        with reported(job):
            gate = self._gate_here()
            with _raised_as_theirs(gate):
                async with gate.dispatcher.open(request, scope) as deltas:
                    async for delta in deltas:
                        if delta.text:
                            job.put(delta.text)
            job.end(None)

    async def _start(self) -> None:
        gate, settings = self._gate_here(), self.settings
        try:
            async with asyncio.timeout(settings.start_timeout_s):
                while len(gate.supervisor.loads()) < settings.replicas:
                    if gate.supervisor.config_error is not None:
                        raise gate.supervisor.config_error
                    refusal = gate.supervisor.refusal()
                    if refusal is not None:
                        raise refusal
                    await gate.news.wait()
                    gate.news.clear()
        except TimeoutError as error:
            message = f"Not every model was ready after {settings.start_timeout_s:g} s."
            raise EngineStartError(message) from error

    def _gate_here(self) -> _Gate:
        """Return the gate, made now if there is none.  Raises: ConfigError."""
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate.loop is not loop:  # in a forked process there is none
            _refuse_nesting()
            self._gate = gate = _opened(loop, self.settings)
            weakref.finalize(self, _end, gate.supervisor, loop, os.getpid())
        return self._gate


def _opened(loop: asyncio.AbstractEventLoop, settings: CrewSettings) -> _Gate:
    spec = EngineSpec(
        engine=_STEPPER,
        max_running=1,
        source=settings.source,
        options=(("kind", settings.kind),),
        canary=False,  # a call of the user's model is the user's to make
    )
    supervisor = Supervisor(
        settings.name,
        lambda name, changed: ProcessReplica(
            name, spec, changed, start_timeout_s=settings.start_timeout_s
        ),
        settings.supervision(),
        _note,
    )
    dispatcher = Dispatcher(settings.name, settings.gate(), supervisor, _note)
    news = asyncio.Event()
    supervisor.subscribe(news.set)
    supervisor.start()
    return _Gate(loop, supervisor, dispatcher, news)


def _refuse_nesting() -> None:
    """Raises: ConfigError in an engine process, which would start more of its like without end."""
    main = sys.modules.get("__main__")
    if getattr(getattr(main, "__spec__", None), "name", None) == _CHILD:
        message = (
            "The module of a factory calls its model when it is imported: put what is to run "
            "once under `if __name__ == '__main__':`."
        )
        raise ConfigError(message)


def _end(supervisor: Supervisor, loop: asyncio.AbstractEventLoop, owner_pid: int) -> None:
    """End the processes, of this process and not of the one that it was forked from."""
    if os.getpid() != owner_pid:
        return
    stopping = supervisor.stop()
    try:
        asyncio.run_coroutine_threadsafe(stopping, loop)
    except RuntimeError:  # The loop is closed, and ended them.
        stopping.close()


@contextmanager
def _raised_as_theirs(gate: _Gate) -> Iterator[None]:
    """Give an error that has crossed its own class again, and a refusal its cause."""
    try:
        yield
    except EngineFailed as error:
        raised = read_error(error)
        raise raised from raised.__cause__
    except NoReplicaReady as error:
        raise error from gate.supervisor.config_error


def _circumstances(name: str, call: str, *, is_stream: bool) -> tuple[GenerationRequest, Scope]:
    """Return the request that `call` is.  Raises: RequestTooLarge."""
    if len(call) > _MAX_CALL_CHARACTERS:
        message = f"A call of {len(call)} characters is too long for another process."
        raise RequestTooLarge(message)
    source = TextInput(call)
    request = GenerationRequest(uuid.uuid4().hex, name, source, max_tokens=1, stream=is_stream)
    return request, scope_of(outer_request.get())


def _elsewhere(_jobs: Sequence[Job[Any]]) -> None:
    """Do nothing: a process does the work, and the job is the way back."""


def _lines(piece: str) -> Iterator[str]:
    # Pieces are whole lines, one or several of them.
    return filter(None, piece.split("\n"))


def _note(event: Event, /) -> None:
    match event:
        case ReplicaLeft(model, replica, reason, retry_in_s):
            again = "is not started again" if retry_in_s is None else "is started again"
            _log.warning("a process of %s, %s, %s: %s", model, replica, again, reason)
        case EnginesDown(model, reason):
            _log.error("no process of %s starts; calls are refused meanwhile: %s", model, reason)
        case SupervisorGaveUp(model):
            _log.error("no process of %s can start, and none is tried again", model)
        case _:
            pass
