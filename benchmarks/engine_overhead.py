"""What the service costs beside the engine alone: in tokens a second, and to the first token.

    python benchmarks/engine_overhead.py [--rounds 9] [--pairs 200]

Tokens a second: 16 questions at once, 64 new tokens each, answered by OpenVINO's own pipeline in a
loop (`bare_openvino`) and by 16 streaming callers of the service, in turns and in changing order;
the same weights and settings, no prefix cache on either side.  While one works the other rests, so
each has all cores, and the service shares its with its callers.  The texts must be the same.

First token: the echo engine, asked through its process's own seam (`ProcessReplica`) and through
HTTP, in pairs.  The exit status is 1 if the median of the ratios is under 0.95, or the median of
the differences above 5 ms.

A round in which other programs had more than 3 % of the processor is shown but does not
count, and is done again, up to as many times as there are rounds.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

import psutil
import uvloop
from loopback import Connection, Service, running_service
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from locktender.core.request import ChatInput, GenerationRequest, Message
from locktender.model.engine import EngineSpec
from locktender.model.engines.openvino import BLOCK_TOKENS
from locktender.model.process import ProcessReplica
from locktender.model.source import require_known
from locktender.model.weights import cache_root, pull

MIN_RATIO = 0.95
MIN_ROUNDS = 7  # that a median is taken of
MAX_FIRST_TOKEN_MS = 5.0
N_CALLERS = 16
MAX_TOKENS = 64
MAX_OTHERS = 0.03  # of the processor, in a round that counts
KV_TOKENS = 16_384
N_BLOCKS = -(-(KV_TOKENS + N_CALLERS * (BLOCK_TOKENS - 1)) // BLOCK_TOKENS)  # as the engine counts
TOPICS = (
    "river bread winter garden horse silver ocean bridge candle forest island tower valley coffee "
    "planet desert"
)
QUESTION = (
    "You are a patient teacher, and the people in front of you have come a long way to hear you. "
    "They have asked for a story that they can tell their children, with a beginning, a middle and "
    "an end, with names for the people in it and for the places where they live, and without any "
    "haste. Write a long story about the {topic}."
)
QUESTIONS = [QUESTION.format(topic=topic) for topic in TOPICS.split()]
ECHO = "repeat 4: is anybody there?"


@dataclass(frozen=True, slots=True)
class Work:
    """What one side did in a round."""

    took_s: float
    n_tokens: int
    texts: list[str]

    @property
    def tokens_per_s(self) -> float:
        """The pace."""
        return self.n_tokens / self.took_s


class Bare:
    """The engine alone, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._questions = cast("IO[str]", process.stdin)
        self._answers = cast("IO[str]", process.stdout)

    def work(self) -> Work:
        """Answer the questions once; blocks meanwhile, and nobody else has work."""
        self._questions.write(json.dumps(QUESTIONS) + "\n")
        self._questions.flush()
        return Work(**json.loads(self._answers.readline()))


@contextmanager
def running_bare(source: Path) -> Iterator[Bare]:
    """Run the engine alone."""
    process = subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("bare_openvino.py")),
            *(str(source), str(N_BLOCKS), str(MAX_TOKENS)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Bare(process)
    finally:
        process.communicate()


async def work_served(service: Service) -> Work:
    """Have 16 callers ask the service at once."""
    connections = [await Connection.open(service) for _ in QUESTIONS]
    requests = [service.request(question, MAX_TOKENS) for question in QUESTIONS]
    began_at = time.perf_counter()
    answers = await asyncio.gather(
        *(
            connection.ask(request)
            for connection, request in zip(connections, requests, strict=True)
        )
    )
    took_s = time.perf_counter() - began_at
    for connection in connections:
        await connection.close()
    n_tokens = sum(answer.n_tokens() for answer in answers)
    return Work(took_s, n_tokens, [answer.text() for answer in answers])


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor time until now, in seconds."""

    service: float
    ours: float  # of this program and all that it has started
    everybody: float

    @classmethod
    def now(cls, service: Service) -> Self:
        """Read the clocks."""
        me = psutil.Process()
        ours = [_cpu_s(process) for process in (me, *me.children(recursive=True))]
        times = psutil.cpu_times()
        busy_s = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        return cls(_cpu_s(psutil.Process(service.process.pid)), sum(ours), busy_s)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@dataclass(frozen=True, slots=True)
class Round:
    """Both sides' work, and who had the processor meanwhile."""

    bare: Work
    served: Work
    service_s: float  # of processor time, in the service's process
    others: float  # the share of the processor that other programs had

    @property
    def ratio(self) -> float:
        """The service's pace over the engine's own."""
        return self.served.tokens_per_s / self.bare.tokens_per_s

    @property
    def counts(self) -> bool:
        """Whether the machine was quiet enough."""
        return self.others <= MAX_OTHERS


async def work_round(bare: Bare, service: Service, *, is_bare_first: bool) -> Round:
    """Have both sides work, one after the other."""
    began_at, before = time.perf_counter(), Spent.now(service)
    bare_work = bare.work() if is_bare_first else None
    served = await work_served(service)
    bare_work = bare_work or bare.work()
    took_s, after = time.perf_counter() - began_at, Spent.now(service)
    others_s = after.everybody - before.everybody - (after.ours - before.ours)
    others = max(0.0, others_s / took_s / (psutil.cpu_count() or 1))
    return Round(bare_work, served, after.service - before.service, others)


def check(done: Round) -> None:
    """Raises: RuntimeError, if both sides did not do the same work."""
    n_tokens = N_CALLERS * MAX_TOKENS
    if (done.bare.n_tokens, done.served.n_tokens) != (n_tokens, n_tokens):
        message = f"Not {n_tokens} tokens: {done.bare.n_tokens} and {done.served.n_tokens}."
        raise RuntimeError(message)
    if done.bare.texts != done.served.texts:
        raise RuntimeError("The engine alone and the service gave different texts.")


async def measure_pace(n_rounds: int, progress: Progress) -> list[Round]:
    """Return the rounds; before them is one in which both sides warm up."""
    source = pull(require_known("smollm2-135m-instruct"), cache_root())
    options = {"kv_tokens": KV_TOKENS, "prefix_cache": False}
    table = {"engine": "openvino", "source": str(source), "max_running": 16, "options": options}
    rounds: list[Round] = []
    bar = progress.add_task("tokens a second", total=n_rounds)
    with running_bare(source) as bare, running_service("smollm2", table) as service:
        await service.until_ready()
        check(await work_round(bare, service, is_bare_first=True))
        while sum(done.counts for done in rounds) < n_rounds and len(rounds) < 2 * n_rounds:
            done = await work_round(bare, service, is_bare_first=len(rounds) % 2 == 0)
            check(done)
            rounds.append(done)
            progress.update(bar, completed=sum(done.counts for done in rounds), refresh=True)
    return rounds


async def measure_first_token(n_pairs: int, progress: Progress) -> list[tuple[float, float]]:
    """Return the seconds to the first token: through the seam, and through HTTP."""
    dice = random.Random(5)
    spec = EngineSpec("echo", max_running=N_CALLERS)
    replica = ProcessReplica("echo-0", spec, lambda: None)
    await replica.start()
    pairs = []
    with running_service("echo", {"engine": "echo"}) as service:
        await service.until_ready()
        connection = await Connection.open(service)
        request = service.request(ECHO, MAX_TOKENS)
        for number in progress.track(range(n_pairs + 20), description="first token"):
            if dice.random() < 0.5:
                seam_s = await _seam_s(replica)
                http_s = (await connection.ask(request)).first_s
            else:
                http_s = (await connection.ask(request)).first_s
                seam_s = await _seam_s(replica)
            pairs.append((seam_s, http_s))
            if number % 50 == 0:
                progress.refresh()
        await connection.close()
    await replica.stop(drain_s=5)
    return pairs[20:]


async def _seam_s(replica: ProcessReplica) -> float:
    messages = ChatInput((Message("user", ECHO),))
    request = GenerationRequest("one", "echo", messages, MAX_TOKENS, stream=True)
    first_s = 0.0
    began_at = time.perf_counter()
    async for delta in replica.run(request, 100):
        if delta.text and not first_s:
            first_s = time.perf_counter() - began_at
    return first_s


def show_pace(console: Console, rounds: Sequence[Round]) -> float:
    """Print the rounds; return the median of the ratios of those that count."""
    table = Table("round", "engine, tok/s", "service, tok/s", "ratio", "service, us/tok", "others")
    for number, done in enumerate(rounds, 1):
        table.add_row(
            str(number),
            f"{done.bare.tokens_per_s:.0f}",
            f"{done.served.tokens_per_s:.0f}",
            f"{done.ratio:.3f}",
            f"{done.service_s / done.served.n_tokens * 1e6:.0f}",
            f"{done.others:.0%}" if done.counts else f"[yellow]{done.others:.0%}, not counted",
        )
    console.print(table)
    counted = [done.ratio for done in rounds if done.counts]
    if len(counted) < MIN_ROUNDS:
        console.print(f"Only {len(counted)} rounds were quiet enough, so all are counted.")
        counted = [done.ratio for done in rounds]
    ratio = statistics.median(counted)
    console.print(
        f"{N_CALLERS} callers: median ratio of {len(counted)} rounds {ratio:.3f}, "
        f"at least {MIN_RATIO} wanted."
    )
    return ratio


def show_first_token(console: Console, pairs: Sequence[tuple[float, float]]) -> float:
    """Print the times; return the median difference in milliseconds."""
    differences_ms = [1000 * (http_s - seam_s) for seam_s, http_s in pairs]
    lower, median, upper = statistics.quantiles(differences_ms, n=4)
    seam_ms = 1000 * statistics.median(seam_s for seam_s, _ in pairs)
    http_ms = 1000 * statistics.median(http_s for _, http_s in pairs)
    console.print(
        f"First token, {len(pairs)} pairs: {seam_ms:.2f} ms through the seam, {http_ms:.2f} ms "
        f"through HTTP; median difference {median:.2f} ms ({lower:.2f} to {upper:.2f}), at most "
        f"{MAX_FIRST_TOKEN_MS} wanted."
    )
    return median


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", type=int, default=200)
    arguments = parser.parse_args()
    console = Console()
    with (
        Progress(console=console, transient=True, auto_refresh=False) as progress,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        pairs = runner.run(measure_first_token(arguments.pairs, progress))
        rounds = runner.run(measure_pace(arguments.rounds, progress))
    first_token_ms = show_first_token(console, pairs)
    ratio = show_pace(console, rounds)
    return 0 if ratio >= MIN_RATIO and first_token_ms <= MAX_FIRST_TOKEN_MS else 1


if __name__ == "__main__":
    sys.exit(main())
