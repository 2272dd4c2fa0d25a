"""Keep the workers of an app alive: start them on one listener, start them again, end them.

The parent binds the listener and never accepts from it, so a connection that comes while a worker
is being replaced waits in the kernel for the next.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping, Sequence

from locktender.core.errors import ConfigError
from locktender.deploy.parent import DRAIN

__all__ = ["API_KEY", "BASE_URL", "CONFIG_EXIT", "DOORS", "HEALTH", "NO_EXTENSIONS", "Crew"]

# In a worker's environment.  The first two say where it finds the model layer, and with what key;
# `ChatLocktender` reads them.
BASE_URL = "LOCKTENDER_BASE_URL"
API_KEY = "LOCKTENDER_API_KEY"
DOORS = "LOCKTENDER_WORKER_DOORS"  # as JSON
# Flags of `worker`.
NO_EXTENSIONS = "--no-extensions"  # for a runnable; an app has its own settings
HEALTH = "--health="  # the URL of the model layer, which tells whether requests should come
CONFIG_EXIT = 2  # of a worker whose app cannot be served as it is; a new one would end the same way

_PAUSE_S = 0.5  # before a worker that ended is replaced
_MAX_EARLY_ENDS = 5  # in a row, of workers that lived less than `_STABLE_S`
_STABLE_S = 60.0
_KILL_S = 2.0  # beyond the drain, for a worker to end


class Crew:
    """The workers that serve one target."""

    def __init__(
        self,
        target: str,
        listener: socket.socket,
        environment: Mapping[str, str],
        *,
        n_workers: int,
        drain_s: float,
        flags: Sequence[str] = (),
    ) -> None:
        self._target = target
        self._listener = listener
        self._environment = {**os.environ, **environment}
        self._n_workers = n_workers
        self._drain_s = drain_s
        self._flags = flags  # of `worker`
        self._processes: set[asyncio.subprocess.Process] = set()
        self._is_stopping = False

    async def run(self) -> None:
        """Keep the workers running until `stop`.

        Raises: ConfigError if the app cannot be served, or its workers keep ending.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.stop, hurry=True)
            keepers = [asyncio.create_task(self._keep()) for _ in range(self._n_workers)]
            for keeper in keepers:
                stack.callback(keeper.cancel)
            await asyncio.gather(*keepers)

    async def stop(self, *, hurry: bool = False) -> None:
        """End the workers: they finish what they have, for `drain_s` at most, unless hurried."""
        self._is_stopping = True
        processes = list(self._processes)
        for process in processes:
            if hurry:
                _kill(process)
            else:
                _drain(process)
        if processes:
            waits = [asyncio.create_task(process.wait()) for process in processes]
            _, late = await asyncio.wait(waits, timeout=self._drain_s + _KILL_S)
            if late:
                for process in processes:
                    _kill(process)
                await asyncio.wait(late)
        self._listener.close()  # Who comes now is told so, instead of waiting for nobody.

    async def _keep(self) -> None:
        n_early = 0
        loop = asyncio.get_running_loop()
        while not self._is_stopping:
            started_at = loop.time()
            process = await self._spawn()
            self._processes.add(process)
            if self._is_stopping:  # It was being started when the others were told.
                _drain(process)
            code = await process.wait()
            self._processes.discard(process)
            if self._is_stopping:
                return
            n_early = n_early + 1 if loop.time() - started_at < _STABLE_S else 0
            if code == CONFIG_EXIT or n_early >= _MAX_EARLY_ENDS:
                message = f"{self._target!r} cannot be served: its worker ended with code {code}."
                raise ConfigError(message)
            await asyncio.sleep(_PAUSE_S)

    async def _spawn(self) -> asyncio.subprocess.Process:
        descriptor = self._listener.fileno()
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "locktender.deploy.worker"),
            *(str(descriptor), self._target, str(self._drain_s), *self._flags),
            stdin=asyncio.subprocess.PIPE,  # as `parent` says
            pass_fds=[descriptor],
            start_new_session=True,  # Ctrl-C is the parent's to handle, which says in what order
            env=self._environment,
        )


def _drain(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(DRAIN)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # It ended in this very moment.
        process.kill()
