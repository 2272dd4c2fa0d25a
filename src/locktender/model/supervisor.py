"""Keep the replicas of one model alive: start them, watch them, and start them again.

A replica has left when its process is gone, or when it gives no sign of progress for `hang_s`: an
engine that hangs answers no probe, but its step counter stands still.  It is started again without
an end, after pauses with a ceiling, because what is missing (descriptors, memory, a file system)
may come back.  Requests wait meanwhile; after `max_failures` starts in a row that failed they are
refused, until an engine is ready.  Only a configuration with which no engine has ever started, and
none ever can, is given up.  Which request runs where is `dispatcher`'s; it sees this module as a
`Pool`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from locktender.core.errors import (
    CapacityError,
    ConfigError,
    Draining,
    EngineStartError,
    NoReplicaReady,
)
from locktender.core.events import (
    EnginesDown,
    Observer,
    ReplicaLeft,
    ReplicaReady,
    SupervisorGaveUp,
)
from locktender.model.replica import Load, Replica
from locktender.model.settings import SupervisionSettings

__all__ = ["ReplicaFactory", "Supervisor", "backoff_s"]

# Builds a replica of a name, which calls back whenever its room has changed.
ReplicaFactory = Callable[[str, Callable[[], None]], Replica]

_log = logging.getLogger(__name__)
_GIVEN_UP_RETRY_S = 30.0  # somebody must act first
_MIN_RETRY_S = 1.0  # while an engine is being started
_STOP_S = 5.0  # for an engine to release its memory by itself before it is killed


def backoff_s(n_failures: int, settings: SupervisionSettings) -> float:
    """Return the pause before the next start, after `n_failures` in a row."""
    n_doublings = min(max(n_failures - 1, 0), 60)  # beyond that a float has no room
    return min(settings.max_backoff_s, settings.backoff_s * 2.0**n_doublings)


class Supervisor:
    """The replicas of one model.  A `Pool`; started once and stopped once."""

    def __init__(
        self,
        model: str,
        factory: ReplicaFactory,
        settings: SupervisionSettings,
        observer: Observer,
    ) -> None:
        self._model = model
        self._factory = factory
        self._settings = settings
        self._observer = observer
        self._ready: dict[str, Replica] = {}
        self._subscribers: list[Callable[[], None]] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._names = [f"{model}-{index}" for index in range(settings.replicas)]
        self._n_given_up = 0
        self._tries_at: dict[str, float] = {}  # the next start, by the replica's name
        self.trouble: str | None = None  # why the last engine left; None once one is ready
        self.config_error: ConfigError | None = None  # that keeps the engine from ever starting
        self._has_started = False
        # In a row, by the replica's name: deaths and failed starts; and of these, failed starts.
        self._n_failures: Counter[str] = Counter()
        self._n_failed_starts: Counter[str] = Counter()
        self._is_stopping = False

    def __repr__(self) -> str:
        return (
            f"<Supervisor {self._model} [replicas {len(self._ready)} ready, "
            f"of {self._settings.replicas}{' | down' if self.is_down else ''}]>"
        )

    @property
    def size(self) -> int:
        return self._settings.replicas

    @property
    def has_given_up(self) -> bool:
        """Whether no engine has ever started, and none will be tried again."""
        return self.config_error is not None

    @property
    def is_down(self) -> bool:
        """Whether no engine runs, and so many starts have failed that nobody is to wait for one."""
        if self._ready:
            return False
        n_least = min(self._n_failed_starts[name] for name in self._names)
        return self.has_given_up or n_least >= self._settings.max_failures

    def refusal(self) -> CapacityError | None:
        if self._is_stopping:
            return Draining("The service is shutting down. Try again later.")
        if self._ready or not self.is_down:  # The usual case first: each request asks thrice.
            return None
        how = " as it is configured" if self.has_given_up else ""
        message = f"The model's engine cannot be started{how}. The operator's log has the cause."
        return NoReplicaReady(message, self._retry_after_s())

    def _retry_after_s(self) -> float:
        if self.has_given_up:
            return _GIVEN_UP_RETRY_S
        now = asyncio.get_running_loop().time()
        return max(_MIN_RETRY_S, min(self._tries_at.values()) - now)

    def excuse(self, name: str) -> None:
        # Comes before the last of the deaths is counted: `_keep` adds it, and evens out.
        self._n_failures[name] = -1

    @property
    def is_ready(self) -> bool:
        """Whether an engine runs now."""
        return bool(self._ready)

    def loads(self) -> Sequence[Load]:
        return [replica.load() for replica in self._ready.values()]

    def replica(self, name: str) -> Replica:
        return self._ready[name]

    def subscribe(self, changed: Callable[[], None]) -> None:
        self._subscribers.append(changed)

    def start(self) -> None:
        """Begin to start the replicas; they come up by themselves."""
        for name in self._names:
            self._keepers.append(asyncio.create_task(self._keep(name), name=f"keep {name}"))

    async def stop(self) -> None:
        """End every replica.  Safe to call twice."""
        self._is_stopping = True
        self._changed()
        keepers, self._keepers = self._keepers, []
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self, name: str) -> None:
        """Have a replica of `name` running, for ever, unless none can start as it is configured."""
        while True:
            lived_s, reason = await self._live(name)
            if self.has_given_up:
                break
            pause_s = self._count_failure(name, reason, lived_s)
            self._tries_at[name] = asyncio.get_running_loop().time() + pause_s
            self._observer(ReplicaLeft(self._model, name, reason, pause_s))
            if self.is_down:
                self._changed()
            await asyncio.sleep(pause_s)
        self._observer(ReplicaLeft(self._model, name, reason, None))
        self._n_given_up += 1
        if self._n_given_up == self.size:
            self._observer(SupervisorGaveUp(self._model))
        self._changed()

    def _count_failure(self, name: str, reason: str, lived_s: float) -> float:
        """Count one more failure in a row; return the pause before the next start."""
        was_down = self.is_down
        if lived_s >= self._settings.stable_s:
            self._n_failures[name] = 0
        self._n_failures[name] = max(0, self._n_failures[name] + 1)
        self._n_failed_starts[name] = 0 if lived_s else self._n_failed_starts[name] + 1
        self.trouble = reason
        if self.is_down and not was_down:
            self._observer(EnginesDown(self._model, reason))
        return backoff_s(self._n_failures[name], self._settings)

    async def _live(self, name: str) -> tuple[float, str]:
        """See one replica through its life; return how long it was ready, and why it ended.

        One that never was ready was so for 0 s.
        """
        now = asyncio.get_running_loop().time
        born_at = now()
        replica: Replica | None = None
        try:
            replica = self._factory(name, self._changed)
            await replica.start()
            ready_at = now()
            self._observer(ReplicaReady(self._model, name, ready_at - born_at))
            self._ready[name] = replica
            self._has_started = True
            self.trouble = None
            self._changed()
            reason = await self._watch(replica)
        except EngineStartError as error:
            return 0.0, error.message
        except ConfigError as error:
            if not self._has_started:  # Later, it is no mistake of whoever starts the service.
                self.config_error = error
            return 0.0, error.message
        except Exception:  # noqa: BLE001 - the supervisor's loop: it is a failed start, not the end
            _log.exception("the engine %s could not be kept", name)
            return 0.0, "A fault of the service; its log has the cause."
        else:
            return now() - ready_at, reason
        finally:
            self._ready.pop(name, None)
            # One that is stopped in order gets time to release its memory; a hung one gets none.
            if replica is not None:
                await replica.stop(drain_s=_STOP_S if self._is_stopping else 0)

    async def _watch(self, replica: Replica) -> str:
        """Return when `replica` is gone or hangs, and which."""
        lost = asyncio.create_task(replica.wait_lost())
        try:
            while True:
                done, _ = await asyncio.wait([lost], timeout=self._settings.hang_s / 4)
                if done:
                    return lost.result()
                if await self._is_hung(replica):
                    return f"The engine made no progress for {self._settings.hang_s:g} s."
        finally:
            lost.cancel()

    async def _is_hung(self, replica: Replica) -> bool:
        now = asyncio.get_running_loop().time
        if now() - replica.progress_at < self._settings.hang_s:
            return False
        # It may be this loop that stood still, with the heartbeats unread: read them first.
        await asyncio.sleep(self._settings.hang_s / 20)
        return now() - replica.progress_at >= self._settings.hang_s

    def _changed(self) -> None:
        for changed in self._subscribers:
            changed()
