"""What the gate costs a request, by how many others wait.

    python benchmarks/gate_cost.py [--against FOLDER [--rounds 9]]

One replica with one place is always taken, and so many requests wait.  In each turn the one that
runs ends, the front of the line is assigned, and a new one comes to its end: between them the whole
way of one request through the gate, from `open` to the permit's return, with the line as long as
ever.  Everything is the product's but the engine's process: `Dispatcher`, `Line`, `Supervisor`,
`Desk` and `Tally`, on uvloop.  The cost is processor time.

Beside it stands what asyncio alone takes for the same turn: a task that waits for a future with a
time limit, and then for an event with a time limit, while so many others do.  The rest is ours.

With --against the gate in another checkout takes turns with this one, each round of each in a
process of its own; the ratios are made within a round.

The exit status is 1 if a turn with 10,000 waiting costs more than 100 us (against another checkout:
more than 4.0 times asyncio's, or 1.15 times the other's), or if the cost grows faster than the
logarithm of their number.
"""

import argparse
import asyncio
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import uvloop
from checkout import HERE, Checkout
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from locktender.core.request import ChatInput, Delta, FinishReason, GenerationRequest, Message
from locktender.core.scope import Scope
from locktender.model.desk import Desk
from locktender.model.dispatcher import Dispatcher
from locktender.model.engine import Limits
from locktender.model.replica import Load, Run
from locktender.model.settings import GateSettings, SupervisionSettings
from locktender.model.supervisor import Supervisor
from locktender.ops.tally import Tally

WAITING = (100, 1_000, 10_000)
MAX_US = 100.0  # of a turn with the longest line
MAX_OF_BARE, MAX_OF_THAT = 4.0, 1.15  # likewise
N_BATCHES = 41
N_TURNS = 250  # in a batch
ANSWER = Delta("word", 1, 100, FinishReason.STOP)
CONTENT = "How long does a boat wait at the lock when others have come before it? " * 7
REQUEST = GenerationRequest(
    id="the gate does not compare ids",
    model="model",
    input=ChatInput((Message("user", CONTENT),)),
    max_tokens=64,
    stream=True,
)


class OnePlace:
    """A replica with one place; `answer` ends what runs there."""

    progress_at = math.inf  # it never hangs

    def __init__(self, name: str, changed: Callable[[], None]) -> None:
        self.name = name
        self._desk = Desk(name, changed, lambda _: None)
        self._running: deque[int] = deque()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def load(self) -> Load:
        return self._desk.load(Limits(max_running=1, context_tokens=8_192, kv_tokens=8_192))

    def run(self, request: GenerationRequest, tokens: int) -> Run:
        key, run = self._desk.take(request, tokens)
        self._running.append(key)
        return run

    def answer(self) -> None:
        """Give the one that runs its whole answer."""
        self._desk.feed(self._running.popleft(), ANSWER)

    async def start(self) -> None: ...

    async def stop(self, *, drain_s: float) -> None: ...

    async def wait_lost(self) -> str:
        return await self._lost


class Crowd(Protocol):
    """Callers, one of whom is served while the others wait."""

    async def fill(self, n_waiting: int) -> None:
        """Have one be served and `n_waiting` wait."""
        ...

    async def turn(self) -> None:
        """Let one more come, and the first one go."""
        ...

    async def empty(self) -> None:
        """See all to their end."""
        ...


class Gate:
    """Callers in front of a gate whose one place is taken."""

    def __init__(self, max_waiting: int) -> None:
        settings = GateSettings(
            max_running=1, max_waiting=max_waiting, max_wait_s=600, max_gate_tokens=1 << 40
        )
        self._places: list[OnePlace] = []
        self._tally = Tally()
        self._pool = Supervisor("model", self._build, SupervisionSettings(), self._tally)
        self._dispatcher = Dispatcher("model", settings, self._pool, self._tally)
        self._callers: deque[asyncio.Task[None]] = deque()

    async def fill(self, n_waiting: int) -> None:
        self._pool.start()
        for _ in range(n_waiting + 1):
            self._callers.append(asyncio.create_task(self._call()))
        await _settle()
        if self._dispatcher.n_waiting != n_waiting:
            message = f"It is not {n_waiting} that wait: {self._dispatcher}."
            raise RuntimeError(message)

    async def turn(self) -> None:
        self._callers.append(asyncio.create_task(self._call()))
        self._places[-1].answer()
        await self._callers.popleft()

    async def empty(self) -> None:
        while self._callers:
            self._places[-1].answer()
            await self._callers.popleft()
        await self._pool.stop()

    def _build(self, name: str, changed: Callable[[], None]) -> OnePlace:
        self._places.append(OnePlace(name, changed))
        return self._places[-1]

    async def _call(self) -> None:
        async with self._dispatcher.open(REQUEST, Scope()) as deltas:
            async for _ in deltas:
                pass


class Bare:
    """As many callers with asyncio alone: the waits of a `Gate`'s, and nothing to decide."""

    def __init__(self) -> None:
        self._turns: deque[asyncio.Future[asyncio.Event]] = deque()
        self._callers: deque[asyncio.Task[None]] = deque()
        self._running = asyncio.Event()

    async def fill(self, n_waiting: int) -> None:
        for _ in range(n_waiting + 1):
            self._callers.append(asyncio.create_task(self._call()))
        await _settle()
        self._next()

    async def turn(self) -> None:
        self._callers.append(asyncio.create_task(self._call()))
        self._running.set()
        await self._callers.popleft()

    async def empty(self) -> None:
        while self._callers:
            self._running.set()
            await self._callers.popleft()

    def _next(self) -> None:
        if self._turns:
            self._running = asyncio.Event()
            self._turns.popleft().set_result(self._running)

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[asyncio.Event] = loop.create_future()
        self._turns.append(turn)
        await asyncio.wait([turn], timeout=600)
        async with asyncio.timeout(600):
            await turn.result().wait()
        loop.call_soon(self._next)


async def _settle() -> None:
    """Let every task that was made come to where it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a turn costs, in microseconds."""

    median_us: float  # over batches of turns
    mean_us: float  # with the garbage collector's full rounds, which most batches are spared

    def __str__(self) -> str:
        """Give the median, and the mean in brackets."""
        return f"{self.median_us:.0f} ({self.mean_us:.0f})"


# By how many wait: what a turn of the gate costs, and one of asyncio alone.
Costs: TypeAlias = Mapping[int, tuple[Cost, Cost]]


async def measure(crowd: Crowd, n_waiting: int, on_batch: Callable[[], None]) -> Cost:
    """Return the cost of a turn of `crowd`."""
    await crowd.fill(n_waiting)
    # Once round the line: from then on each caller has come in the rhythm of the turns.
    await _turns(crowd, n_waiting)
    gc.collect()
    costs_us = []
    for _ in range(N_BATCHES):
        began_at = time.process_time()  # There is nothing to wait for.
        await _turns(crowd, N_TURNS)
        costs_us.append((time.process_time() - began_at) / N_TURNS * 1e6)
        on_batch()
    await crowd.empty()
    return Cost(statistics.median(costs_us), statistics.mean(costs_us))


async def _turns(crowd: Crowd, n_turns: int) -> None:
    for _ in range(n_turns):
        await crowd.turn()


async def measure_all(on_batch: Callable[[], None]) -> Costs:
    """Return the cost of the gate's turn and of asyncio's, by how many wait."""
    return {
        n_waiting: (
            await measure(Gate(n_waiting + 1), n_waiting, on_batch),
            await measure(Bare(), n_waiting, on_batch),
        )
        for n_waiting in WAITING
    }


def find_faults(costs: Costs) -> list[str]:
    """Return what was promised and is not so."""
    fewest, most = min(costs), max(costs)
    highest_us = costs[most][0].median_us
    growth = highest_us / costs[fewest][0].median_us
    # A cost of c * log n grows so; one with a constant part grows less.
    allowed = math.log(most) / math.log(fewest)
    faults = []
    if highest_us > MAX_US:
        faults.append(f"With {most:,} waiting a request costs {highest_us:.0f} us: above {MAX_US}.")
    if growth > allowed:
        faults.append(f"The cost grows by {growth:.2f}; a logarithm grows by {allowed:.2f}.")
    return faults


def show(console: Console, costs: Costs) -> None:
    """Print the costs."""
    table = Table("waiting", "gate, us", "asyncio alone, us", "ours, us")
    for n_waiting, (gate, bare) in costs.items():
        ours_us = gate.median_us - bare.median_us
        table.add_row(f"{n_waiting:,}", str(gate), str(bare), f"{ours_us:.0f}")
    console.print(table)
    console.print("Median of batches of turns; in brackets the mean.")
    fewest, most = min(costs), max(costs)
    growth = costs[most][0].median_us / costs[fewest][0].median_us
    console.print(f"From {fewest:,} to {most:,} waiting the cost grows by {growth:.2f}.")


def measure_once() -> Costs:
    """Measure here, and show how far it has come."""
    console = Console(stderr=True)
    is_seen = console.is_terminal
    with Progress(
        console=console, transient=True, auto_refresh=False, disable=not is_seen
    ) as progress:
        bar = progress.add_task("turning", total=2 * len(WAITING) * N_BATCHES)

        def on_batch() -> None:
            progress.update(bar, advance=1, refresh=progress.tasks[bar].completed % 10 == 0)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure_all(on_batch))


def measure_in(checkout: Checkout) -> tuple[float, float]:
    """Return what a turn of the gate of `checkout` costs with the longest line, and asyncio's."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.source)}
    command = [sys.executable, __file__, "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    told = json.loads(done.stdout)
    checkout.require_served(told["file"])
    return told["gate"], told["bare"]


def measure_against(console: Console, that: Checkout, n_rounds: int) -> list[str]:
    """Measure two checkouts in turns, print it, and return what was promised and is not so."""
    table = Table("round", "this, us", "that, us", "this of asyncio", "this of that")
    of_bare, of_that = [], []
    for number in range(n_rounds):
        order = (HERE, that) if number % 2 else (that, HERE)
        cost = {checkout: measure_in(checkout) for checkout in order}
        (here_us, bare_us), (that_us, _) = cost[HERE], cost[that]
        of_bare.append(here_us / bare_us)
        of_that.append(here_us / that_us)
        ratios = (f"{of_bare[-1]:.2f}", f"{of_that[-1]:.3f}")
        table.add_row(str(number + 1), f"{here_us:.0f}", f"{that_us:.0f}", *ratios)
    console.print(table)
    console.print(f"{max(WAITING):,} waiting; this is {HERE.name()}, that is {that.name()}.")
    faults = []
    for ratios, what, most in (
        (of_bare, "asyncio alone", MAX_OF_BARE),
        (of_that, "that commit", MAX_OF_THAT),
    ):
        median = statistics.median(ratios)
        console.print(f"{median:.3f} of {what} in the median, at most {most} wanted.")
        if median > most:
            faults.append(f"A turn costs {median:.3f} of {what}: above {most}.")
    return faults


def as_json(costs: Costs) -> str:
    """Return the costs with the longest line, and which package they are of."""
    gate, bare = costs[max(costs)]
    file = sys.modules[Dispatcher.__module__].__file__
    return json.dumps({"file": file, "gate": gate.median_us, "bare": bare.median_us})


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", type=Path, help="a folder with another commit")
    parser.add_argument("--rounds", type=int, default=9, help="of both commits")
    parser.add_argument("--json", action="store_true", help="print what --against reads")
    chosen = parser.parse_args()
    console = Console(width=100)
    if chosen.against:
        faults = measure_against(console, Checkout(chosen.against), chosen.rounds)
    else:
        costs = measure_once()
        if chosen.json:
            print(as_json(costs))
            return 0
        show(console, costs)
        faults = find_faults(costs)
    for fault in faults:
        console.print(f"[red]{fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
