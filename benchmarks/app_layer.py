"""What a route costs its server: ours, LangServe's, and one that was written by hand.

    python benchmarks/app_layer.py [--rounds 9] [--against FOLDER] [--served]

The same runnables (apps/runnable.py) stand behind three servers: LangServe 0.3.3, routes by hand
(apps/handwritten.py, which says what was taken care of and what was left out), and our
`add_routes`.  Each is one uvicorn process with uvloop, httptools and no access log, at the same
versions.  That all three give the same body, run ids apart, is checked first.

The cost is processor time of the server, which does not depend on how fast its callers are.  In
each round the three take turns, in an order that rotates, and the ratios are made within a round:
whatever else the machine does then, it does to all of them.

With --against the package of another checkout takes turns with them; with --served ours stand
behind `locktender serve`, whose doors cost something too, and the others as before.

The exit status is 1 if /invoke costs more than 1.1 of what it costs by hand or a /stream of 128
chunks more than 1.05 (and more than 1.02 of that other checkout), or if either costs more than nine
tenths of LangServe's.
"""

import argparse
import asyncio
import math
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop
from caller import Caller, Pieces, post
from checkout import HERE, Checkout
from peer import APPS, free_port, langserve_python, serving, uvicorn_command
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

N_CALLERS = 8
OURS, THAT, BY_HAND, PEER = "locktender", "that commit", "by hand", "LangServe 0.3.3"
MAX_OF_PEER = 0.9
MAX_OF_THAT = 1.02
RUN_ID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Route:
    """A route that all have, and how often it is called in one turn of a server."""

    name: str
    request: bytes
    n_requests: int
    max_of_hand: float


# So many that a turn takes about 2 s of processor time, of which the kernel counts hundredths.
ROUTES = (
    Route("/invoke", post("/add_one/invoke", {"input": 7}), 6_000, 1.1),
    Route("/stream, 128 chunks", post("/speak/stream", {"input": 7}), 480, 1.05),
)
# Route and server, to the cost in each round, in microseconds of processor time a request.
Costs = dict[tuple[str, str], list[float]]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    name: str
    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """Return the processor time that it has taken so far."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(times.user + times.system for times in (each.cpu_times() for each in family))


def start_all(
    stack: ExitStack, folder: Path, ours: Mapping[str, Checkout], *, is_served: bool
) -> list[Server]:
    """Start the servers, to be ended with `stack`."""
    servers = []
    for name in (*ours, BY_HAND, PEER):
        port = free_port()
        environment = {}
        if name in ours:
            command = uvicorn_command(sys.executable, "packaged:app", port)
            source = str(ours[name].source)
            environment = {"WIRE_PACKAGE": "locktender", "PYTHONPATH": source}
            if is_served:
                command = serve_command(port)
        elif name == BY_HAND:
            command = uvicorn_command(sys.executable, "handwritten:app", port)
        else:
            command = uvicorn_command(langserve_python(), "packaged:app", port)
            environment = {"WIRE_PACKAGE": "langserve"}
        process = stack.enter_context(serving(command, port, environment, folder / name))
        servers.append(Server(name, port, process))
    return servers


def serve_command(port: int) -> list[str]:
    """Return our own command, with one process that serves."""
    locktender = Path(sys.executable).with_name("locktender")
    target = f"{APPS / 'packaged.py'}:app"
    return [str(locktender), "serve", target, "--port", str(port), "--workers", "1"]


async def check_alike(servers: Sequence[Server]) -> None:
    """Raise RuntimeError unless all give the same body for each route."""
    for route in ROUTES:
        bodies = {server.name: await _body(server, route) for server in servers}
        if len(set(bodies.values())) > 1:
            message = f"The answers to {route.name} differ: {bodies}"
            raise RuntimeError(message)


async def _body(server: Server, route: Route) -> bytes:
    async with await Caller.connect(server.port) as caller:
        whole = _joined(await caller.ask(route.request))
    _, _, body = whole.partition(b"\r\n\r\n")
    # How a body is cut into chunks of HTTP is nobody's concern.
    return RUN_ID.sub(b"ID", re.sub(rb"(?m)^[0-9a-f]+\r\n", b"", body)).replace(b"\r\n", b"")


def _joined(pieces: Pieces) -> bytes:
    return b"".join(content for _, content in pieces)


async def measure_cost(server: Server, route: Route, n_requests: int) -> float:
    """Return the microseconds of processor time that a request costs `server`."""
    async with AsyncExitStack() as stack:
        callers = [
            await stack.enter_async_context(await Caller.connect(server.port))
            for _ in range(N_CALLERS)
        ]
        began_s = server.cpu_s()
        share = n_requests // N_CALLERS
        await asyncio.gather(*(_ask(caller, route.request, share) for caller in callers))
        return (server.cpu_s() - began_s) / (share * N_CALLERS) * 1e6


async def _ask(caller: Caller, request: bytes, n_times: int) -> None:
    for _ in range(n_times):
        await caller.ask(request)


async def measure_all(
    servers: Sequence[Server], n_rounds: int, on_turn: Callable[[str], None]
) -> Costs:
    """Return what each route costs each server, round by round."""
    await check_alike(servers)
    for server in servers:
        for route in ROUTES:
            await measure_cost(server, route, route.n_requests // 4)  # to warm it up
    costs: Costs = {(route.name, server.name): [] for route in ROUTES for server in servers}
    for n_round in range(n_rounds):
        first = n_round % len(servers)
        for route in ROUTES:
            for server in (*servers[first:], *servers[:first]):
                on_turn(f"{route.name}, {server.name}")
                cost_us = await measure_cost(server, route, route.n_requests)
                costs[route.name, server.name].append(cost_us)
    return costs


def ratios(costs: Mapping[tuple[str, str], Sequence[float]], route: str, *pair: str) -> list[float]:
    """Return what the first of `pair` costs, in terms of the second, in each round."""
    mine, other = (costs[route, name] for name in pair)
    return [one / two for one, two in zip(mine, other, strict=True)]


def find_faults(costs: Costs) -> list[str]:
    """Return what was promised and is not so."""
    faults = []
    for route in ROUTES:
        median = {
            other: statistics.median(ratios(costs, route.name, OURS, other))
            for name, other in costs
            if name == route.name
        }
        if median[PEER] > MAX_OF_PEER:
            faults.append(f"{route.name} costs {median[PEER]:.3f} of {PEER}: above {MAX_OF_PEER}.")
        of_that = median.get(THAT, math.inf)
        if median[BY_HAND] > route.max_of_hand and of_that > MAX_OF_THAT:
            faults.append(
                f"{route.name} costs {median[BY_HAND]:.3f} of {BY_HAND}: above {route.max_of_hand}."
            )
    return faults


def show(console: Console, costs: Costs) -> None:
    """Print the costs."""
    columns = ("route", "server", "CPU us a request", "of by hand", "lowest", "highest")
    table = Table(*columns, "this of it")
    for (route, name), all_us in costs.items():
        of_hand = ratios(costs, route, name, BY_HAND)
        table.add_row(
            *(route, name, f"{statistics.median(all_us):,.0f}"),
            *(f"{f(of_hand):.3f}" for f in (statistics.median, min, max)),
            f"{statistics.median(ratios(costs, route, OURS, name)):.3f}",
        )
    console.print(table)
    n_rounds = len(next(iter(costs.values())))
    console.print(f"Medians of {n_rounds} rounds; a ratio is made within its round.")


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--against", type=Path, help="a folder with another commit")
    parser.add_argument("--served", action="store_true", help="ours by `locktender serve`")
    chosen = parser.parse_args()
    ours = {OURS: HERE} | ({THAT: Checkout(chosen.against)} if chosen.against else {})
    console = Console(width=110)
    with (
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
        Progress(console=console, transient=True) as progress,
    ):
        servers = start_all(stack, Path(folder), ours, is_served=chosen.served)
        bar = progress.add_task("", total=chosen.rounds * len(ROUTES) * len(servers))

        def on_turn(turn: str) -> None:
            progress.update(bar, advance=1, description=turn)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            costs = runner.run(measure_all(servers, chosen.rounds, on_turn))
    for name, checkout in ours.items():
        console.print(f"{name}: {checkout.name()}")
    show(console, costs)
    faults = find_faults(costs)
    for fault in faults:
        console.print(f"[red]{fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
