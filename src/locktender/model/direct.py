"""Step an engine on the event loop that uses it: the `Replica` without a process.

It proves that the seam needs no process, and lets a test hold time still.  Not for an engine whose
step takes long: the loop stands still for as long.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence

from locktender.core.errors import EngineFailed, LocktenderError, ReplicaLost
from locktender.core.request import GenerationRequest, Input
from locktender.model.desk import Desk
from locktender.model.engine import EngineSpec, Stepper, StepperFactory, token_ids
from locktender.model.replica import Load, Run

__all__ = ["DirectReplica"]

_log = logging.getLogger(__name__)
_losses = itertools.count(1)


class DirectReplica:
    """An engine stepped on the event loop that uses it; for quick engines and for tests."""

    def __init__(
        self,
        name: str,
        spec: EngineSpec,
        factory: StepperFactory,
        changed: Callable[[], None],
    ) -> None:
        self._name = name
        self._spec = spec
        self._factory = factory
        self._stepper: Stepper | None = None
        self._desk = Desk(name, changed, self._cancel)
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stepping: asyncio.Task[None] | None = None
        self._stepped_at = asyncio.get_running_loop().time()

    @property
    def name(self) -> str:
        return self._name

    @property
    def progress_at(self) -> float:
        is_idle = self._stepping is None or self._stepping.done()
        return asyncio.get_running_loop().time() if is_idle else self._stepped_at

    def load(self) -> Load:
        return self._desk.load(self._stepper.limits if self._stepper else None)

    async def start(self) -> None:
        self._stepper = self._factory(self._spec)

    def run(self, request: GenerationRequest, tokens: int) -> Run:
        stepper = self._stepper
        if stepper is None:
            message = "The engine has stopped."
            raise ReplicaLost(message)
        key, run = self._desk.take(request, tokens)
        try:
            stepper.add(key, request)
        except LocktenderError as error:
            self._desk.feed(key, error)
        except Exception:  # noqa: BLE001 - a boundary: a fault in one request must not end the others
            _log.exception("the engine failed to take a request")
            self._desk.feed(key, EngineFailed("The engine failed to take this request."))
        if self._stepping is None or self._stepping.done():
            self._stepped_at = asyncio.get_running_loop().time()
            self._stepping = asyncio.create_task(self._step_while_busy(stepper))
        return run

    async def tokenize(self, prompt: Input) -> Sequence[int]:
        if self._stepper is None:
            message = "The engine has stopped."
            raise ReplicaLost(message)
        return token_ids(self._stepper, prompt)

    async def wait_lost(self) -> str:
        return await asyncio.shield(self._lost)

    async def stop(self, *, drain_s: float) -> None:  # noqa: ARG002 - nothing outlives a step
        if self._stepping is not None:
            self._stepping.cancel()
        self._lose("The engine was stopped.")

    def _lose(self, reason: str) -> None:
        stepper, self._stepper = self._stepper, None
        if stepper is None:
            return
        stepper.close()
        self._lost.set_result(reason)
        self._desk.lose_all(reason, f"{self._name}#{next(_losses)}")

    def _cancel(self, key: int) -> None:
        if self._stepper is not None:
            self._stepper.cancel(key)

    async def _step_while_busy(self, stepper: Stepper) -> None:
        try:
            while stepper.has_work():
                for key, output in stepper.step():
                    self._desk.feed(key, output)
                self._stepped_at = asyncio.get_running_loop().time()
                await asyncio.sleep(0)
        except Exception:  # noqa: BLE001 - a boundary: an engine that breaks is a lost one
            _log.exception("the engine failed in a step")
            self._lose("The engine failed.")
