"""Whether callers get their own answers from one Hugging Face pipeline behind two routes.

    python benchmarks/adopt_http.py [--requests 1440] [--tiny]

The app is that of langserve#409 (apps/pipeline.py): a prompt before a `HuggingFacePipeline`, which
is SmolLM2 in float32; two routes over the one pipeline, each of which cuts long documents to a
length of its own.  LangServe 0.3.3 serves it, and `locktender.add_routes`: one import differs.

Each of 24 callers has a document of its own, which is a row of numbers, and asks both routes in
turn to go on with it: where the document was cut is seen in the answer.  Before that each has asked
each route alone.  Both servers must have given the same then, and both routes different answers;
what differs from it later is wrong.  The servers take turns, so that each has the machine to
itself.  With --tiny the model has random weights that cost nothing, and the tokenizer is the same:
then more of the time is the race's.

The exit status is 1 unless locktender gives each request its own answer.  What LangServe gives is
printed beside it.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson
import uvloop
from adopt_race import COLUMNS, Tally, real_folder, tiny_folder
from caller import Caller, post
from peer import free_port, langserve_python, serving, uvicorn_command
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

N_CALLERS = 24
N_TURNS = 6  # of each server
N_NUMBERS = 1_500  # in a document: they take longer to encode than the few that are kept
MAX_START_S = 180.0
MAX_ANSWER_S = 300.0
OURS, PEER = "locktender", "LangServe 0.3.3"
PATHS = ("/brief", "/full")


@dataclass(frozen=True, slots=True)
class Question:
    """What one caller asks of one route."""

    n_caller: int
    path: str

    def request(self) -> bytes:
        """Return it as HTTP."""
        first = 100 + 137 * self.n_caller
        document = ", ".join(str(first + n) for n in range(N_NUMBERS))
        return post(f"{self.path}/invoke", {"input": {"document": document}})


Answers = Mapping[Question, str]
QUESTIONS = [Question(n, path) for n in range(N_CALLERS) for path in PATHS]


def start_all(stack: ExitStack, model: Path, folder: Path) -> dict[str, int]:
    """Start both servers, to be ended with `stack`; return their ports."""
    commands: dict[str, tuple[Path | str, str]] = {
        PEER: (langserve_python(has_models=True), "langserve"),
        OURS: (sys.executable, "locktender"),
    }
    ports = {}
    for name, (python, package) in commands.items():
        ports[name] = free_port()
        command = uvicorn_command(python, "pipeline:app", ports[name])
        environment = {
            "WIRE_PACKAGE": package,
            "MODEL_FOLDER": str(model),
            "HF_HUB_OFFLINE": "1",
            # LangServe's six threads would otherwise take two cores from one another twelvefold.
            "OMP_NUM_THREADS": "1",
        }
        stack.enter_context(serving(command, ports[name], environment, folder / name, MAX_START_S))
    return ports


async def ask(caller: Caller, question: Question) -> str:
    """Return the answer.  Raises: RuntimeError or TimeoutError where there is none."""
    async with asyncio.timeout(MAX_ANSWER_S):
        pieces = await caller.ask(question.request())
    _, _, body = b"".join(content for _, content in pieces).partition(b"\r\n\r\n")
    answer: str = orjson.loads(body)["output"]
    return answer


async def ask_alone(port: int) -> dict[Question, str]:
    """Return the answer to each question when there is no other."""
    async with await Caller.connect(port) as caller:
        return {question: await ask(caller, question) for question in QUESTIONS}


def check_alone(alone: Mapping[str, Answers]) -> None:
    """Raises: RuntimeError unless the servers agree, and an answer tells of its route."""
    for question in QUESTIONS:
        ours, peers = (alone[name][question] for name in (OURS, PEER))
        if ours != peers:
            message = f"Alone, {question} is answered with {ours!r}, and by {PEER} with {peers!r}."
            raise RuntimeError(message)
    for n in range(N_CALLERS):
        if len({alone[OURS][Question(n, path)] for path in PATHS}) < len(PATHS):
            message = f"Both routes answer caller {n} alike."
            raise RuntimeError(message)


async def call_all(port: int, alone: Answers, n_requests: int, tally: Tally) -> None:
    """Have the callers make as many requests together, each one after the other; compare."""
    share = n_requests // N_CALLERS
    began_at = time.perf_counter()
    await asyncio.gather(*(_call(port, n, alone, share, tally) for n in range(N_CALLERS)))
    tally.took_s += time.perf_counter() - began_at


async def _call(port: int, n_caller: int, alone: Answers, share: int, tally: Tally) -> None:
    paths = itertools.cycle(PATHS if n_caller % 2 else PATHS[::-1])
    for path in itertools.islice(paths, share):
        question = Question(n_caller, path)
        try:
            async with await Caller.connect(port) as caller:  # a broken one costs one request
                answer = await ask(caller, question)
        except (OSError, RuntimeError) as error:
            tally.n_errors += 1
            tally.error = str(error) or repr(error)
        else:
            others = [alone[Question(n_caller, other)] for other in PATHS]
            tally.add(answer, alone[question], others)


async def measure_all(
    ports: Mapping[str, int], n_requests: int, on_turn: Callable[[str], None]
) -> dict[str, Tally]:
    """Return what became of the requests to each server."""
    alone: dict[str, Answers] = {}
    for name, port in ports.items():
        on_turn(f"one at a time, {name}")
        alone[name] = await ask_alone(port)
    check_alone(alone)
    tallies = {name: Tally() for name in ports}
    for _ in range(N_TURNS):
        for name, port in ports.items():
            on_turn(f"{N_CALLERS} callers, {name}")
            await call_all(port, alone[name], n_requests // N_TURNS, tallies[name])
    return tallies


def show(console: Console, tallies: Mapping[str, Tally]) -> None:
    """Print what was found."""
    table = Table(f"{N_CALLERS} callers of", *COLUMNS)
    for name, tally in tallies.items():
        table.add_row(name, *tally.row())
    console.print(table)
    for name, tally in tallies.items():
        if tally.error:
            console.print(f"The last error of {name}: {tally.error[:500]}", markup=False)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=1_440, help="to each server")
    parser.add_argument("--tiny", action="store_true", help="a model with random weights")
    parsed = parser.parse_args(arguments)
    if parsed.requests % (N_CALLERS * N_TURNS):
        parser.error(f"--requests must be a multiple of {N_CALLERS * N_TURNS}")
    return parsed


def main() -> int:
    """Measure, print, and judge."""
    arguments = parse(sys.argv[1:])
    console = Console(width=100)
    with (
        tempfile.TemporaryDirectory() as name,
        ExitStack() as stack,
        Progress(console=console, transient=True, refresh_per_second=1) as progress,
    ):
        folder = Path(name)
        bar = progress.add_task("starting", total=2 * (N_TURNS + 1))
        model = real_folder()
        if arguments.tiny:
            model = tiny_folder(folder / "tiny", model)
        ports = start_all(stack, model, folder)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            tallies = runner.run(
                measure_all(
                    ports,
                    arguments.requests,
                    lambda turn: progress.update(bar, advance=1, description=turn),
                )
            )
    show(console, tallies)
    return 0 if tallies[OURS].n_right == arguments.requests else 1


if __name__ == "__main__":
    sys.exit(main())
