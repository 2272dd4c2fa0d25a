"""A gate over engines in this process, where the test decides when a token comes out."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import anyio

from locktender.core.errors import CapacityError, NoReplicaReady
from locktender.core.events import Event
from locktender.core.request import Delta, GenerationRequest, TextInput
from locktender.core.scope import Scope
from locktender.model.direct import DirectReplica
from locktender.model.dispatcher import Dispatcher
from locktender.model.engine import EngineSpec
from locktender.model.engines.echo import EchoStepper
from locktender.model.replica import Load
from locktender.model.settings import GateSettings, SupervisionSettings
from locktender.model.supervisor import Supervisor
from locktender.ops.tally import Tally

MODEL = "m"
SETTLED_TURNS = 20  # of the loop; far more than any step from one place to the next takes
# A replica that is lost comes back at once, however often.
UNDAUNTED = SupervisionSettings(backoff_s=0.0, stable_s=0.0)

_Event = TypeVar("_Event")
_ids = itertools.count(1)


def request_for(text: str, *, stream: bool = False, max_tokens: int = 30) -> GenerationRequest:
    """Return a request of its own whose answer has the words of `text`."""
    return GenerationRequest(f"r{next(_ids)}", MODEL, TextInput(text), max_tokens, stream=stream)


async def until(is_so: Callable[[], object]) -> None:
    """Let the loop turn until `is_so`, within a limit."""
    with anyio.fail_after(5):
        while not is_so():  # noqa: ASYNC110 - there is no event for whatever a test waits for
            await asyncio.sleep(0)


class Tap:
    """Lets tokens out of the engines: as many as were poured, or all while it is open."""

    def __init__(self) -> None:
        self.n_poured = 0
        self.is_open = False

    def __call__(self) -> int:
        n_tokens, self.n_poured = self.n_poured, 0
        return 1000 if self.is_open else n_tokens


@dataclass
class Gate:
    """A dispatcher, and all around it that a test looks at or moves."""

    tap: Tap = field(default_factory=Tap)
    tally: Tally = field(default_factory=Tally)
    events: list[Event] = field(default_factory=list)
    replicas: dict[str, DirectReplica] = field(default_factory=dict)  # the last of each name
    callers: list[asyncio.Task[Delta]] = field(default_factory=list)
    on: Callable[[Event], object] = field(default=lambda _: None)  # told of each event too
    idle: set[Load] = field(default_factory=set)  # what replicas report that run nothing
    dispatcher: Dispatcher = field(init=False)
    supervisor: Supervisor = field(init=False)

    def tell(self, event: Event, /) -> None:
        """Note `event`; the observer of all that stands in this gate."""
        self.events.append(event)
        self.tally(event)
        self.on(event)

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def ids(self, kind: type[Event]) -> list[str]:
        """Return the requests that events of one kind were about, in order."""
        return [getattr(event, "request_id", "") for event in self.events if type(event) is kind]

    async def answer(self, request: GenerationRequest, scope: Scope = Scope()) -> Delta:  # noqa: B008 - a frozen value
        """Have `request` answered, and return the whole answer."""
        whole = Delta()
        async with self.dispatcher.open(request, scope) as deltas:
            async for delta in deltas:
                whole += delta
        return whole

    def call(self, request: GenerationRequest, scope: Scope = Scope()) -> asyncio.Task[Delta]:  # noqa: B008 - a frozen value
        """Have a caller of its own ask for `request`."""
        caller = asyncio.create_task(self.answer(request, scope), name=request.id)
        self.callers.append(caller)
        return caller

    def add_callers(self, *texts: str) -> None:
        """Have a caller ask for each of `texts`."""
        for text in texts:
            _ = self.call(request_for(text))

    async def shows(self, *, waiting: int, running: int) -> None:
        """Wait until so many wait and so many run, and see that it stays so."""
        wanted = f"<Dispatcher {MODEL} [waiting {waiting} | running {running}]>"
        await until(lambda: repr(self.dispatcher) == wanted)
        for _ in range(SETTLED_TURNS):
            await asyncio.sleep(0)
        assert repr(self.dispatcher) == wanted

    def pour(self, n_tokens: int) -> None:
        """Let so many tokens out, over all engines."""
        self.tap.n_poured += n_tokens

    async def lose(self, name: str = f"{MODEL}-0") -> None:
        """Have the engine `name` die, with all that runs in it."""
        await self.replicas[name].stop(drain_s=0)

    async def is_up(self) -> None:
        """Wait until every replica runs."""
        # One that was lost is listed, with no context, until it is replaced.
        await until(
            lambda: sum(load.context_tokens > 0 for load in self.loads()) == self.supervisor.size
        )

    def loads(self) -> Sequence[Load]:
        """Report what the replicas do."""
        return self.supervisor.loads()

    @property
    def is_empty(self) -> bool:
        """Whether everything that was taken is back: permits, slots and tokens."""
        return (
            repr(self.dispatcher) == f"<Dispatcher {MODEL} [waiting 0 | running 0]>"
            and set(self.loads()) == self.idle
        )


class Berth:
    """A `Pool` of one engine, for which the test does what a supervisor would."""

    size = 1

    def __init__(self) -> None:
        self.has_given_up = False
        self.excused: list[str] = []
        self.tap = Tap()
        self.stale: Load | None = None  # what is reported in place of the engine's load
        self.changed: Callable[[], None] = lambda: None
        factory = partial(EchoStepper, gate=self.tap)
        self.engine = DirectReplica("m-0", EngineSpec("echo", 1), factory, self.tell)

    def tell(self) -> None:
        """Say that room may have come."""
        self.changed()

    def loads(self) -> Sequence[Load]:
        return [self.stale or self.engine.load()]

    def replica(self, name: str) -> DirectReplica:
        assert name == self.engine.name
        return self.engine

    def refusal(self) -> CapacityError | None:
        return NoReplicaReady("There is no engine.") if self.has_given_up else None

    def excuse(self, name: str) -> None:
        self.excused.append(name)

    def subscribe(self, changed: Callable[[], None]) -> None:
        self.changed = changed


@asynccontextmanager
async def open_gate(
    settings: GateSettings = GateSettings(),  # noqa: B008 - a frozen value
    supervision: SupervisionSettings = UNDAUNTED,
    *,
    context_tokens: int = 1000,
    is_started: bool = True,
) -> AsyncIterator[Gate]:
    """Give a gate whose engines run, or are never started; end its callers and engines."""
    gate = Gate()
    spec = EngineSpec("echo", settings.max_running, options=(("context_tokens", context_tokens),))

    def make(name: str, changed: Callable[[], None]) -> DirectReplica:
        replica = DirectReplica(name, spec, partial(EchoStepper, gate=gate.tap), changed)
        gate.replicas[name] = replica
        return replica

    gate.supervisor = Supervisor(MODEL, make, supervision, gate.tell)
    gate.dispatcher = Dispatcher(MODEL, settings, gate.supervisor, gate.tell)
    if is_started:
        gate.supervisor.start()
        await gate.is_up()
        gate.idle = set(gate.loads())
    try:
        yield gate
    finally:
        for caller in gate.callers:
            caller.cancel()
        await asyncio.gather(*gate.callers, return_exceptions=True)
        await gate.supervisor.stop()
