"""Reach an engine that runs in a process of its own: the `Replica` for real engines.

The child is started with one end of a socketpair, and `model.child` runs in it; a crash of the
engine, or a step that never ends, cannot reach the service.  This module notices when the process
is gone and says so to every request in it; noticing a hang, and starting a new one, is
`supervisor`'s.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence

from locktender.core.errors import (
    ConfigError,
    EngineStartError,
    LocktenderError,
    PeerError,
    ReplicaLost,
)
from locktender.core.log_line import format_in_use
from locktender.core.request import GenerationRequest, Input
from locktender.model.desk import Desk
from locktender.model.engine import EngineSpec, Limits
from locktender.model.frames import (
    Add,
    Cancel,
    FrameReader,
    FromChild,
    Progress,
    Ready,
    Start,
    StartFailed,
    Stop,
    ToChild,
    Tokenize,
    Tokenized,
    encode,
    read_from_child,
)
from locktender.model.replica import Load, Run

__all__ = ["ProcessReplica"]

_log = logging.getLogger(__name__)

_STDERR = 2
_MAX_UNREAD_BYTES = 64 * 1024 * 1024  # of frames; far above what a full gate can send
_KILL_S = 5.0  # for the kernel to end a process; one that is stuck in a driver takes longer
_losses = itertools.count(1)


class ProcessReplica:
    """One engine process, from start to end; a restart is a new object.

    Life: `start`, any number of `run`s, and `stop`; or the process is lost in between, which ends
    every run with `ReplicaLost`.  Never leaves a process or a descriptor behind after `stop`.
    """

    def __init__(
        self,
        name: str,
        spec: EngineSpec,
        changed: Callable[[], None],
        *,
        start_timeout_s: float = 300.0,
    ) -> None:
        self._name = name
        self._spec = spec
        self._start_timeout_s = start_timeout_s
        self._desk = Desk(name, changed, self._cancel)
        self._loop = asyncio.get_running_loop()
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[Limits] = self._loop.create_future()
        self._gone: asyncio.Future[str] = self._loop.create_future()
        self._limits: Limits | None = None
        self._prompts: dict[int, asyncio.Future[Sequence[int]]] = {}  # whose tokens are asked for
        self._prompt_keys = itertools.count(1)
        self._n_steps = 0
        self.progress_at = self._loop.time()

    def __repr__(self) -> str:
        state = "gone" if self._gone.done() else "ready" if self._limits else "starting"
        return f"<ProcessReplica {self._name} [{state} | pid {self.pid}]>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def pid(self) -> int | None:
        """The engine process's id, once it has been started."""
        return self._process.pid if self._process else None

    def load(self) -> Load:
        return self._desk.load(None if self._gone.done() else self._limits)

    async def start(self) -> None:
        """Start the process and wait until its engine is loaded.

        Raises: EngineStartError; ConfigError if no other try can go better.
        """
        await self._spawn()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                self._limits = await asyncio.shield(self._ready)
        except TimeoutError as error:
            message = f"The engine was not ready after {self._start_timeout_s:g} s."
            raise EngineStartError(message) from error
        self.progress_at = self._loop.time()

    def run(self, request: GenerationRequest, tokens: int) -> Run:
        self._check_runs()
        key, run = self._desk.take(request, tokens)
        self._send(Add.of(key, request))
        return run

    async def tokenize(self, prompt: Input) -> Sequence[int]:
        self._check_runs()
        key = next(self._prompt_keys)
        tokens: asyncio.Future[Sequence[int]] = self._loop.create_future()
        self._prompts[key] = tokens
        self._send(Tokenize.of(key, prompt))
        try:
            return await tokens
        finally:
            del self._prompts[key]

    def _check_runs(self) -> None:
        if self._gone.done() or self._limits is None:
            message = "The engine is not running."
            raise ReplicaLost(message, self._name)

    async def wait_lost(self) -> str:
        return await asyncio.shield(self._gone)

    async def stop(self, *, drain_s: float) -> None:
        """End the process; what still runs in it after `drain_s` is lost."""
        process = self._process
        if process is None:
            return
        self._send(Stop())
        try:
            async with asyncio.timeout(drain_s):
                await process.wait()
        except TimeoutError:
            # Those who wait for it need not wait for its end, too.
            self.lose("The engine was stopped.")
            await _kill(process)
        finally:
            self.lose("The engine was stopped.")

    def lose(self, reason: str) -> None:
        """Give the process up: end its runs now, whatever it does."""
        if self._transport is not None:
            self._transport.abort()
        if self._gone.done():
            return
        self._gone.set_result(reason)
        if not self._ready.done():
            self._ready.set_exception(EngineStartError(reason))
            self._ready.exception()  # Seen: nobody may be waiting for it.
        self._desk.lose_all(reason, f"{self._name}#{next(_losses)}")
        for key in self._prompts:
            self._tell(key, ReplicaLost(reason))

    def receive(self, frame: FromChild) -> None:
        """Act on a frame of the child."""
        match frame:
            case Ready(limits):
                if not self._ready.done():
                    self._ready.set_result(limits)
            case StartFailed(message, is_config):
                if is_config and not self._ready.done():
                    self._ready.set_exception(ConfigError(message))
                self.lose(message)
            case Progress():
                self._note(frame)
            case Tokenized(key):
                self._tell(key, frame.outcome())

    def _note(self, progress: Progress) -> None:
        if progress.n_steps != self._n_steps or progress.n_running == 0:
            self.progress_at = self._loop.time()
        self._n_steps = progress.n_steps
        for piece in progress.pieces:
            self._desk.feed(piece.key, piece.output())

    def _tell(self, key: int, outcome: Sequence[int] | LocktenderError) -> None:
        tokens = self._prompts.get(key)
        if tokens is None or tokens.done():  # Whoever asked has left.
            return
        if isinstance(outcome, LocktenderError):
            tokens.set_exception(outcome)
        else:
            tokens.set_result(outcome)

    async def _spawn(self) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise _not_started(error) from error
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "locktender.model.child", str(theirs.fileno()), str(os.getpid())),
                format_in_use(),  # its log is this process's
                stdin=asyncio.subprocess.DEVNULL,
                stdout=_STDERR,  # An engine's chatter; standard output is the service's.
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the service's to handle.
            )
            self._transport, _ = await self._loop.create_connection(
                lambda: _Channel(self), sock=ours
            )
        except (OSError, RuntimeError) as error:  # No descriptor, memory, process or thread.
            raise _not_started(error) from error
        finally:
            theirs.close()
            if self._transport is None:
                ours.close()
        self._send(Start(self._spec, tuple(sys.path)))

    def _send(self, frame: ToChild) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(encode(frame))
        if self._transport.get_write_buffer_size() > _MAX_UNREAD_BYTES:
            self.lose("The engine does not read what it is sent.")

    def _cancel(self, key: int) -> None:
        self._send(Cancel(key))


def _not_started(error: Exception) -> EngineStartError:
    why = error.strerror if isinstance(error, OSError) else error
    return EngineStartError(f"The engine process could not be started: {why}.")


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # It ended in this very moment.
        process.kill()
    try:
        async with asyncio.timeout(_KILL_S):
            await process.wait()
    except TimeoutError:
        _log.error("the engine process %d does not die; it is left behind", process.pid)


class _Channel(asyncio.Protocol):
    """The service's end of the socketpair."""

    def __init__(self, replica: ProcessReplica) -> None:
        self._replica = replica
        self._reader = FrameReader()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                self._replica.receive(read_from_child(body))
        except PeerError as error:
            self._replica.lose(error.message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._replica.lose("The engine process ended.")
