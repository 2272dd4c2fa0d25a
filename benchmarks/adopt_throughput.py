"""How many tokens callers get of one Hugging Face pipeline behind a route: langserve#409, timed.

    python benchmarks/adopt_throughput.py [--rounds 3] [--threads 1 2] [--tokens 64]
        [--against CHECKOUT] [--idle-user] [--no-peer] [--copies 1] [--minutes 90]

The app is a prompt before a `HuggingFacePipeline` (apps/chain409.py) with SmolLM2 in float32, 64
new tokens, greedy.  LangServe 0.3.3 serves it as it is, and with a lock of the user's around the
pipeline; and the `locktender.add_routes` of this checkout does.  16 callers come at once, each with
a topic of its own, over HTTP; then one caller alone.  The servers take turns within each round, so
that each has the machine to itself, and every second round has the turns in reverse.

With `--against`, the package of another checkout (`git worktree add FOLDER COMMIT`) is a further
server, on the same libraries.  With `--idle-user`, one thread in the process of both has used the
model directly, at the start and again after the first answers, and then waits; it is asked once
more at the end.  `--no-peer` leaves LangServe out.  One process may be some percent faster than the
next one of the same commit, for as long as it lives: with `--copies`, each of ours has more of
them, which take the rounds in turns.

How many threads a call of torch has is settled for a whole process, before it starts.  LangServe
calls the pipeline from several threads at once, each of which has as many: one may then be better
than one for each core.  So each server runs with both, and is judged by the better of them.

Before it all, the first server has answered every caller alone: LangServe, if it is there, or else
the other checkout.  Each answer is compared with the one given then; tokens are counted by the
model's tokenizer in the answers that came.

The exit status is 1 unless this checkout gives right answers only, and at 16 callers, in the median
of the rounds' ratios, at least 3.5 times the tokens/s of the better of LangServe's two forms and
0.95 of the other checkout's.
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
from chain_servers import PEER, THAT, THIS, Plan, Running, Server, describe, start_all
from checkout import HERE, Checkout
from machine_load import Load
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tokenizers import Tokenizer

N_CALLERS = 16
N_ALONE = 3  # topics of the caller who is alone
MAX_ANSWER_S = 900.0
WANTED = {PEER: 3.5, THAT: 0.95}  # of ours over theirs, to 16 callers
TOPICS = (
    *("rivers", "bread", "music", "winter", "horses", "paper", "silver", "oceans"),
    *("bridges", "forests", "islands", "towers", "engines", "coffee", "planets", "deserts"),
)


@dataclass(slots=True)
class Found:
    """What one server gave, round by round."""

    rates: dict[int, list[float]] = field(default_factory=dict)  # tokens/s, by number of callers
    n_right: int = 0
    n_wrong: int = 0
    direct: list[str] = field(default_factory=list)  # what the user's own thread got

    def rate(self, n_callers: int) -> float:
        """Return the median."""
        return statistics.median(self.rates[n_callers])


class Judge:
    """Knows the right answers, and counts tokens."""

    def __init__(self, model: Path, n_tokens: int, answers: Sequence[str]) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._answers = answers
        if any(self.n_tokens([answer]) != n_tokens for answer in answers):
            message = f"Not every answer has {n_tokens} tokens."
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


async def warm_up(
    plan: Plan,
    running: Mapping[Server, Sequence[Running]],
    model: Path,
    on_turn: Callable[[str], None],
) -> tuple[Judge, dict[Server, Found]]:
    """Return who knows the right answers, and a place for what each server gives."""
    everyone = range(N_CALLERS)
    first = next(iter(running))
    on_turn(f"one at a time, {first.name}")
    alone, _ = await ask_alone(running[first][0].port, everyone)
    judge = Judge(model, plan.n_tokens, list(alone.values()))
    found = {server: Found() for server in running}
    for server, copies in running.items():
        on_turn(f"warming up, {server.name}")
        for its in copies:
            # What a batch needs is made before it is timed; LangServe makes none.
            await ask_together(its.port, everyone[: 2 if server.side == PEER else N_CALLERS])
    await use_directly(plan, running, found)
    return judge, found


async def use_directly(
    plan: Plan, running: Mapping[Server, Sequence[Running]], found: Mapping[Server, Found]
) -> None:
    """Have the user's own thread use the model, where there is one."""
    for server, copies in running.items():
        if plan.has_user and server.side != PEER:
            for its in copies:
                found[server].direct.append(str(await asyncio.to_thread(its.get, "/direct")))


async def measure_all(
    plan: Plan,
    running: Mapping[Server, Sequence[Running]],
    model: Path,
    on_turn: Callable[[str], None],
) -> dict[Server, Found]:
    """Return what each server gave."""
    judge, found = await warm_up(plan, running, model, on_turn)
    end_at = time.monotonic() + plan.max_s
    turns = list(running)
    for number in range(plan.n_rounds):
        if time.monotonic() > end_at:
            break
        mine = [(number * N_ALONE + n) % N_CALLERS for n in range(N_ALONE)]
        for server in turns:
            copies = running[server]
            port = copies[number % len(copies)].port
            on_turn(f"{N_CALLERS} callers, {server.name}, {server.n_threads} threads")
            judge.note(found[server], N_CALLERS, *await ask_together(port, range(N_CALLERS)))
            on_turn(f"1 caller, {server.name}, {server.n_threads} threads")
            judge.note(found[server], 1, *await ask_alone(port, mine))
        turns.reverse()  # what wears off or sets in within a round is then nobody's advantage
    await use_directly(plan, running, found)
    return found


def best(found: Mapping[Server, Found], n_callers: int, side: str) -> Server:
    """Return the one of this side that gives the most to so many callers."""
    its = [server for server in found if server.side == side]
    return max(its, key=lambda server: found[server].rate(n_callers))


def ratios(
    found: Mapping[Server, Found], n_callers: int, server: Server, other: Server
) -> list[float]:
    """Return what the one gives over the other, round by round."""
    both = (found[each].rates[n_callers] for each in (server, other))
    return [one / another for one, another in zip(*both, strict=True)]


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
    for server, its in found.items():
        each = ", ".join(f"{rate:,.1f}" for rate in its.rates[N_CALLERS])
        console.print(f"{server.name}, threads: {server.n_threads}, round by round: {each}")


def judge_side(console: Console, found: Mapping[Server, Found], side: str) -> bool:
    """Print what ours gives over `side`, and return whether that is enough."""
    for n_callers in (N_CALLERS, 1):
        mine, other = (best(found, n_callers, each) for each in (THIS, side))
        its = ratios(found, n_callers, mine, other)
        console.print(
            f"Callers: {n_callers}.  {THIS} with torch threads: {mine.n_threads} gives "
            f"{statistics.median(its):.3f} ({min(its):.3f} to {max(its):.3f}, rounds: {len(its)}) "
            f"times the tokens/s of {other.name} with torch threads: {other.n_threads}."
        )
    console.print(f"Wanted at {N_CALLERS}: {WANTED[side]} times.")
    mine, other = (best(found, N_CALLERS, each) for each in (THIS, side))
    return statistics.median(ratios(found, N_CALLERS, mine, other)) >= WANTED[side]


def judge_answers(console: Console, found: Mapping[Server, Found]) -> bool:
    """Print whether the user's own thread got the same everywhere; return if ours is right."""
    direct = [answer for its in found.values() for answer in its.direct]
    n_unlike = sum(answer != direct[0] for answer in direct)
    if direct:
        console.print(f"Direct uses: {len(direct)}, unlike the first: {n_unlike}.")
    n_wrong = sum(its.n_wrong for server, its in found.items() if server.side == THIS)
    return not n_wrong and not n_unlike


def read_plan() -> Plan:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="a folder with another commit")
    parser.add_argument("--idle-user", action="store_true", help="who has used the model directly")
    parser.add_argument("--no-peer", action="store_true", help="leave LangServe out")
    n_cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, n_cores], help="of torch")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most 64")
    parser.add_argument("--copies", type=int, default=1, help="processes of each of ours")
    parser.add_argument("--minutes", type=float, default=90, help="after which no round begins")
    chosen = parser.parse_args()
    that = {THAT: Checkout(chosen.against)} if chosen.against else {}
    return Plan(
        checkouts={THIS: HERE, **that},
        has_peer=not chosen.no_peer,
        has_user=chosen.idle_user,
        n_copies=chosen.copies,
        threads=list(dict.fromkeys(chosen.threads)),
        n_tokens=chosen.tokens,
        n_rounds=chosen.rounds,
        max_s=60 * chosen.minutes,
    )


def main() -> int:
    """Measure, print, and judge."""
    plan = read_plan()
    console = Console(width=100)
    with (
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
        Progress(console=console, transient=True, refresh_per_second=1) as progress,
    ):
        n_servers = len(plan.servers())
        bar = progress.add_task("starting", total=1 + n_servers * (1 + 2 * plan.n_rounds))
        model = real_folder()
        running = start_all(stack, plan, model, Path(folder))
        lines = describe(plan, running)
        load = Load(its.process for copies in running.values() for its in copies)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(
                measure_all(
                    plan,
                    running,
                    model,
                    lambda turn: progress.update(bar, advance=1, description=turn),
                )
            )
        lines.append(load.told())
    for line in lines:
        console.print(line, markup=False, highlight=False)
    show(console, found)
    sides = [side for side in WANTED if any(server.side == side for server in found)]
    verdicts = [judge_side(console, found, side) for side in sides]
    return 0 if all([judge_answers(console, found), *verdicts]) else 1


if __name__ == "__main__":
    sys.exit(main())
