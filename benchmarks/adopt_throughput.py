"""How many tokens callers get of one Hugging Face pipeline behind a route: langserve#409, timed.

    python benchmarks/adopt_throughput.py [--rounds 3]

The app is a prompt before a `HuggingFacePipeline` (apps/chain409.py) with SmolLM2 in float32, 64
new tokens, greedy.  LangServe 0.3.3 serves it as it is, and with a lock of the user's around the
pipeline; and `locktender.add_routes` does.  16 callers come at once, each with a topic of its own,
over HTTP; then one caller alone.  The servers take turns within each round, so that each has the
machine to itself.

How many threads a call of torch has is settled for a whole process, before it starts.  LangServe
calls the pipeline from several threads at once, each of which has as many: one may then be better
than one for each core.  So each server runs with both, and is judged by the better of them.

Before it all, LangServe has answered every caller alone.  Each answer is compared with the one
given then; tokens are counted by the model's tokenizer in the answers that came.

The exit status is 1 unless locktender gives right answers only, and at 16 callers at least 2.5
times the tokens/s of the better of LangServe's two forms.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import uvloop
from adopt_race import real_folder
from caller import Caller, post
from peer import free_port, langserve_python, serving, uvicorn_command
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tokenizers import Tokenizer

N_CALLERS = 16
N_ALONE = 3  # topics of the caller who is alone
N_TOKENS = 64  # of each answer, as the app has it
MAX_START_S = 180.0
MAX_ANSWER_S = 900.0
MIN_OF_PEER, AIM_OF_PEER = 2.5, 4.0
OURS = "locktender"
TOPICS = (
    *("rivers", "bread", "music", "winter", "horses", "paper", "silver", "oceans"),
    *("bridges", "forests", "islands", "towers", "engines", "coffee", "planets", "deserts"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """A way to serve the app."""

    package: str
    n_threads: int  # of a call of torch
    has_lock: bool = False

    @property
    def name(self) -> str:
        """Return what it is called in the table."""
        lock = ", a lock of the user's" if self.has_lock else ""
        return f"{OURS if self.package == OURS else 'LangServe 0.3.3'}{lock}"


def servers() -> list[Server]:
    """Return them in the order of their turns."""
    n_cores = len(os.sched_getaffinity(0))
    return [
        Server(package, n_threads, has_lock)
        for package, has_lock in (("langserve", False), ("langserve", True), (OURS, False))
        for n_threads in dict.fromkeys((1, n_cores))
    ]


@dataclass(slots=True)
class Found:
    """What one server gave, round by round."""

    rates: dict[int, list[float]] = field(default_factory=dict)  # tokens/s, by number of callers
    n_right: int = 0
    n_wrong: int = 0

    def rate(self, n_callers: int) -> float:
        """Return the median."""
        return statistics.median(self.rates[n_callers])


class Judge:
    """Knows the right answers, and counts tokens."""

    def __init__(self, model: Path, answers: Sequence[str]) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._answers = answers
        if any(self.n_tokens([answer]) != N_TOKENS for answer in answers):
            message = f"Not every answer has {N_TOKENS} tokens."
            raise RuntimeError(message)

    def note(self, found: Found, n_callers: int, answers: Mapping[int, str], took_s: float) -> None:
        """Take the answers, by number of the topic, that came to so many callers."""
        n_right = sum(self._answers[n] == answer for n, answer in answers.items())
        found.n_right += n_right
        found.n_wrong += len(answers) - n_right
        found.rates.setdefault(n_callers, []).append(self.n_tokens(answers.values()) / took_s)

    def n_tokens(self, answers: Iterable[str]) -> int:
        """Return how many tokens these answers are."""
        return sum(
            len(self._tokenizer.encode(answer, add_special_tokens=False).ids) for answer in answers
        )


def start_all(stack: ExitStack, model: Path, folder: Path) -> dict[Server, int]:
    """Start all servers, to be ended with `stack`; return their ports."""
    peer_python = langserve_python(has_models=True)
    ports = {}
    for number, server in enumerate(servers()):
        ports[server] = free_port()
        python = sys.executable if server.package == OURS else peer_python
        command = uvicorn_command(python, "chain409:app", ports[server])
        environment = {
            "WIRE_PACKAGE": server.package,
            "MODEL_FOLDER": str(model),
            "HAS_LOCK": "yes" if server.has_lock else "no",
            "OMP_NUM_THREADS": str(server.n_threads),
            "HF_HUB_OFFLINE": "1",
        }
        log_folder = folder / str(number)
        stack.enter_context(serving(command, ports[server], environment, log_folder, MAX_START_S))
    return ports


async def ask(caller: Caller, n_topic: int) -> str:
    """Return the answer.  Raises: RuntimeError or TimeoutError where there is none."""
    request = post("/chain/invoke", {"input": {"topic": TOPICS[n_topic]}})
    async with asyncio.timeout(MAX_ANSWER_S):
        pieces = await caller.ask(request)
    _, _, body = b"".join(content for _, content in pieces).partition(b"\r\n\r\n")
    answer: str = orjson.loads(body)["output"]
    return answer


async def ask_alone(port: int, numbers: Sequence[int]) -> tuple[dict[int, str], float]:
    """Return the answers to one caller, and the time that they took."""
    async with await Caller.connect(port) as caller:
        began_at = time.perf_counter()
        answers = {number: await ask(caller, number) for number in numbers}
        return answers, time.perf_counter() - began_at


async def ask_together(port: int, numbers: Sequence[int]) -> tuple[dict[int, str], float]:
    """Return the answers to as many callers, and the time until the last one has its own."""
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(await Caller.connect(port)) for _ in numbers]
        began_at = time.perf_counter()
        answers = await asyncio.gather(*map(ask, callers, numbers))
        took_s = time.perf_counter() - began_at
    return dict(zip(numbers, answers, strict=True)), took_s


async def measure_all(
    ports: Mapping[Server, int], model: Path, n_rounds: int, on_turn: Callable[[str], None]
) -> dict[Server, Found]:
    """Return what each server gave."""
    found = {server: Found() for server in ports}
    everyone = range(N_CALLERS)
    first = next(iter(ports))
    on_turn(f"one at a time, {first.name}")
    alone, _ = await ask_alone(ports[first], everyone)
    judge = Judge(model, list(alone.values()))
    for server, port in ports.items():
        on_turn(f"warming up, {server.name}")
        await ask_together(port, everyone[:2])
    for number in range(n_rounds):
        mine = [(number * N_ALONE + n) % N_CALLERS for n in range(N_ALONE)]
        for server, port in ports.items():
            on_turn(f"{N_CALLERS} callers, {server.name}, {server.n_threads} threads")
            judge.note(found[server], N_CALLERS, *await ask_together(port, everyone))
            on_turn(f"1 caller, {server.name}, {server.n_threads} threads")
            judge.note(found[server], 1, *await ask_alone(port, mine))
    return found


def best(found: Mapping[Server, Found], n_callers: int, *, is_ours: bool) -> Server:
    """Return the one of ours, or of LangServe's, that gives the most to so many callers."""
    sides = [server for server in found if (server.package == OURS) == is_ours]
    return max(sides, key=lambda server: found[server].rate(n_callers))


def ratio(found: Mapping[Server, Found], n_callers: int) -> float:
    """Return the median of what ours gives over LangServe's, made round by round."""
    mine, theirs = (
        found[best(found, n_callers, is_ours=is_ours)].rates[n_callers] for is_ours in (True, False)
    )
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


def show(console: Console, found: Mapping[Server, Found]) -> None:
    """Print what was found."""
    table = Table(
        *("", "torch threads a call", f"{N_CALLERS} callers, tokens/s", "lowest", "highest"),
        *("1 caller, tokens/s", "right", "wrong"),
    )
    for server, its in found.items():
        many = its.rates[N_CALLERS]
        figures = (its.rate(N_CALLERS), min(many), max(many), its.rate(1))
        table.add_row(
            *(server.name, str(server.n_threads), *(f"{figure:,.1f}" for figure in figures)),
            *(str(its.n_right), str(its.n_wrong)),
        )
    console.print(table)
    for n_callers in (N_CALLERS, 1):
        ours, peer = (best(found, n_callers, is_ours=is_ours) for is_ours in (True, False))
        console.print(
            f"Callers: {n_callers}.  {OURS} with torch threads: {ours.n_threads} gives "
            f"{ratio(found, n_callers):.2f} times the tokens/s of {peer.name} "
            f"with torch threads: {peer.n_threads}."
        )
    console.print(f"Wanted at {N_CALLERS}: {MIN_OF_PEER} times; the aim is {AIM_OF_PEER}.")


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    n_rounds: int = parser.parse_args().rounds
    console = Console(width=100)
    with (
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
        Progress(console=console, transient=True, refresh_per_second=1) as progress,
    ):
        n_servers = len(servers())
        bar = progress.add_task("starting", total=1 + n_servers * (1 + 2 * n_rounds))
        model = real_folder()
        ports = start_all(stack, model, Path(folder))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(
                measure_all(
                    ports,
                    model,
                    n_rounds,
                    lambda turn: progress.update(bar, advance=1, description=turn),
                )
            )
    show(console, found)
    n_wrong = sum(its.n_wrong for server, its in found.items() if server.package == OURS)
    return 0 if not n_wrong and ratio(found, N_CALLERS) >= MIN_OF_PEER else 1


if __name__ == "__main__":
    sys.exit(main())
