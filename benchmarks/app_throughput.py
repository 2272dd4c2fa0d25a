"""What 256 callers get of an engine's tokens through a chain, and how late a token comes.

    python benchmarks/app_throughput.py

An echo engine gives out 10,000 tokens/s over 256 streams.  They are read by as many callers, each
of which sees its own words and no others, in three ways that take turns:

1. from the model service itself, which says what there is to be had;
2. from prompt | ChatLocktender | StrOutputParser behind our /stream: `locktender serve`, one
   worker;
3. from prompt | ChatOpenAI | StrOutputParser behind LangServe's /stream: one process of uvicorn,
   over the same model service; once with uvloop and httptools, as ours, and once as LangServe's
   own extras install it, without.

Then the chunks' merging.  All that the service sends to the chain passes a tap that notes the time,
and each token is a word of its own: what lies between its passing and its arrival at the caller is
how long the app layer held it.  Beside it runs a chain that does not merge (apps/unmerged.py).  The
load is a light one (16 streams of 1,000 tokens/s in all), and the full one.

With 256 callers at once, most of the time to the first token is the arrival of the 256 requests; so
it is judged by how long it is held.

The exit status is 1 if the callers get less than 5 times the tokens/s of LangServe's, if the first
token is held 20 ms longer than unmerged (medians), or if any token is held for more than 150 ms.
"""

import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from caller import CHUNK, DELTA, Caller, Pieces, post, word_times
from peer import APPS, free_port, langserve_python, serving, uvicorn_command
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tap import Tap

N_ROUNDS = 3
SERVICE, OURS, PEER = "the service alone", "locktender", "LangServe 0.3.3"
PLAIN = "LangServe 0.3.3, as its own extras install it"
MERGED, UNMERGED = "merged", "unmerged"
MIN_OF_PEER = 5.0
MAX_FIRST_S = 0.020  # beyond the one that is not merged
MAX_HELD_S = 0.150
MODELS = """
[models.full]
engine = "echo"
max_running = 256
max_waiting = 256
options = {tokens_per_s = 10000}

[models.light]
engine = "echo"
max_running = 256
max_waiting = 256
options = {tokens_per_s = 1000}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """So many callers of a model, each for so many words, or up to a half more or less."""

    model: str
    n_callers: int
    n_words: int

    def words(self, n_caller: int) -> list[str]:
        """Return what one caller asks for and gets; nobody else gets any of it."""
        # Answers of one length would all end in the same step of the engine.
        n_words = (
            self.n_words // 2 + n_caller * 89 % self.n_callers * self.n_words // self.n_callers
        )
        return [f"{n_caller}-{n}" for n in range(n_words)]


FULL = Load("full", 256, 200)
LIGHT = Load("light", 16, 250)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the words can be had."""

    port: int
    is_chain: bool  # else it is the service itself

    def request(self, model: str, text: str) -> bytes:
        """Return the request for an answer that is `text`."""
        if self.is_chain:
            return post(f"/{model}/stream", {"input": {"text": text}})
        messages = [{"role": "user", "content": text}]
        body = {"model": model, "messages": messages, "stream": True}
        return post("/v1/chat/completions", body)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When each word came to its caller; the words differ."""

    began_at: float
    at: dict[str, float]

    @property
    def tokens_per_s(self) -> float:
        """All tokens, over the time from the first request to the last token."""
        return len(self.at) / (max(self.at.values()) - self.began_at)


@dataclass(slots=True)
class Held:
    """What became of the tokens of one load, round by round."""

    first_s: list[list[float]] = field(default_factory=list)  # from the request to its first token
    first_held_s: list[list[float]] = field(default_factory=list)
    all_held_s: list[list[float]] = field(default_factory=list)

    def add(self, load: Load, arrivals: Arrivals, passed: Mapping[str, float]) -> None:
        """Take the result of a round."""
        held = {word: at - passed[word] for word, at in arrivals.at.items()}
        firsts = [load.words(n)[0] for n in range(load.n_callers)]
        self.first_s.append([arrivals.at[word] - arrivals.began_at for word in firsts])
        self.first_held_s.append([held[word] for word in firsts])
        self.all_held_s.append(list(held.values()))


class Servers:
    """The servers that are called, all in front of one model service."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self.service_port = free_port()
        self.tap_port = free_port()
        model_folder = folder / "model"
        model_folder.mkdir()
        (model_folder / "locktender.toml").write_text(MODELS)
        program = str(Path(sys.executable).with_name("locktender"))
        command = [program, "model", "--port", str(self.service_port)]
        stack.enter_context(serving(command, self.service_port, {}, model_folder))
        self._serve = [program, "serve", str(APPS / "chain.py:app")]
        self.places = {
            SERVICE: Place(self.service_port, is_chain=False),
            OURS: self._ours("ChatLocktender", self.service_port),
            PEER: self._peer(),
            PLAIN: self._peer(is_plain=True),
            MERGED: self._ours("ChatLocktender", self.tap_port),
            UNMERGED: self._ours("Unmerged", self.tap_port),
        }

    def _ours(self, chat_model: str, model_port: int) -> Place:
        port = free_port()
        command = [*self._serve, "--workers", "1", "--port", str(port)]
        environment = {
            **_environment("locktender", chat_model, model_port),
            "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")]),
        }
        return self._started(command, port, environment)

    def _peer(self, *, is_plain: bool = False) -> Place:
        port = free_port()
        command = uvicorn_command(langserve_python(), "chain:app", port, is_plain=is_plain)
        return self._started(
            command, port, _environment("langserve", "ChatOpenAI", self.service_port)
        )

    def _started(self, command: list[str], port: int, environment: Mapping[str, str]) -> Place:
        folder = self._folder / str(port)
        self._stack.enter_context(serving(command, port, environment, folder))
        return Place(port, is_chain=True)


def _environment(package: str, chat_model: str, model_port: int) -> dict[str, str]:
    return {
        "WIRE_PACKAGE": package,
        "CHAT_MODEL": chat_model,
        "MODEL_URL": f"http://127.0.0.1:{model_port}/v1",
        "MODELS": f"{FULL.model} {LIGHT.model}",
    }


async def call_all(place: Place, load: Load) -> Arrivals:
    """Have all callers of `load` call at once.  Raises: RuntimeError unless all get their own."""
    texts = [" ".join(load.words(n)) for n in range(load.n_callers)]
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(await Caller.connect(place.port)) for _ in texts]
        began_at = time.perf_counter()
        answers = await asyncio.gather(
            *(
                caller.ask(place.request(load.model, text))
                for caller, text in zip(callers, texts, strict=True)
            )
        )
    arrivals = Arrivals(began_at, {})
    for n, answer in enumerate(answers):
        came = list(word_times(answer, CHUNK if place.is_chain else DELTA))
        if [word for word, _ in came] != load.words(n):
            message = f"Caller {n} did not get its words: {came}"
            raise RuntimeError(message)
        arrivals.at.update(came)
    return arrivals


async def measure_rates(
    places: Mapping[str, Place], on_turn: Callable[[str], None]
) -> dict[str, list[float]]:
    """Return the tokens/s of each place under the full load, round by round."""
    names = (SERVICE, OURS, PEER, PLAIN)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(N_ROUNDS):
        for name in names:
            on_turn(f"256 callers, {name}")
            arrivals = await call_all(places[name], FULL)
            rates[name].append(arrivals.tokens_per_s)
            gc.collect()
    return rates


async def measure_holding(
    servers: Servers, on_turn: Callable[[str], None]
) -> dict[tuple[str, str], Held]:
    """Return how long tokens are held, by load and place."""
    found = {(load.model, name): Held() for load in (LIGHT, FULL) for name in (MERGED, UNMERGED)}
    tap = Tap(servers.service_port)
    async with tap.open(servers.tap_port):
        for _ in range(N_ROUNDS):
            for load in (LIGHT, FULL):
                for name in (MERGED, UNMERGED):
                    on_turn(f"{load.n_callers} callers, {name}")
                    for pieces in tap.noted:
                        pieces.clear()
                    arrivals = await call_all(servers.places[name], load)
                    found[load.model, name].add(load, arrivals, _passed(tap.noted))
                    gc.collect()
    return found


def _passed(noted: Sequence[Pieces]) -> dict[str, float]:
    return {word: at for pieces in noted for word, at in word_times(pieces, DELTA)}


async def warm_up(places: Mapping[str, Place]) -> None:
    """Have each server do once what it will do."""
    for place in places.values():
        await call_all(place, Load(FULL.model, 32, 32))


def find_faults(
    rates: Mapping[str, Sequence[float]], holding: Mapping[tuple[str, str], Held]
) -> list[str]:
    """Return what was promised and is not so."""
    faults = []
    for peer in (PEER, PLAIN):
        ratio = _rate_ratio(rates, peer)
        if ratio < MIN_OF_PEER:
            faults.append(f"The callers get {ratio:.1f} times {peer}: below {MIN_OF_PEER}.")
    for load in (LIGHT, FULL):
        merged, unmerged = (holding[load.model, name] for name in (MERGED, UNMERGED))
        later_s = _median(merged.first_held_s) - _median(unmerged.first_held_s)
        if later_s > MAX_FIRST_S:
            faults.append(f"{load.n_callers} callers: first token {later_s * 1e3:.0f} ms later.")
        longest_s = max(map(max, merged.all_held_s))
        if longest_s > MAX_HELD_S:
            faults.append(f"{load.n_callers} callers: a token held for {longest_s * 1e3:.0f} ms.")
    return faults


def _rate_ratio(rates: Mapping[str, Sequence[float]], peer: str) -> float:
    pairs = zip(rates[OURS], rates[peer], strict=True)
    return statistics.median(ours / peer for ours, peer in pairs)


def _median(rounds: Sequence[Sequence[float]]) -> float:
    return statistics.median(statistics.median(times_s) for times_s in rounds)


def _percentile(rounds: Sequence[Sequence[float]], percent: int) -> float:
    return statistics.median(
        statistics.quantiles(times_s, n=100)[percent - 1] for times_s in rounds
    )


def show(
    console: Console,
    rates: Mapping[str, Sequence[float]],
    holding: Mapping[tuple[str, str], Held],
) -> None:
    """Print what was found."""
    table = Table("256 callers read from", "tokens/s", "lowest", "highest")
    for name, of_rounds in rates.items():
        figures = (f(of_rounds) for f in (statistics.median, min, max))
        table.add_row(name, *(f"{figure:,.0f}" for figure in figures))
    console.print(table)
    for peer in (PEER, PLAIN):
        console.print(
            f"The callers get {_rate_ratio(rates, peer):.1f} times the tokens/s of {peer}."
        )
    table = Table(
        *("callers", "chunks", "first token after, ms", "first held, ms", "longest"),
        *("all held, ms", "99 %", "longest"),
    )
    for (model, name), held in holding.items():
        n_callers = {LIGHT.model: LIGHT, FULL.model: FULL}[model].n_callers
        figures_s = (
            *(_median(held.first_s), _median(held.first_held_s)),
            *(max(map(max, held.first_held_s)), _median(held.all_held_s)),
            *(_percentile(held.all_held_s, 99), max(map(max, held.all_held_s))),
        )
        table.add_row(str(n_callers), name, *(f"{figure_s * 1e3:,.1f}" for figure_s in figures_s))
    console.print(table)
    console.print(f"Medians of {N_ROUNDS} rounds; the longest is that of all rounds.")


async def measure_all(
    servers: Servers, on_turn: Callable[[str], None]
) -> tuple[dict[str, list[float]], dict[tuple[str, str], Held]]:
    """Measure both; the tap is open only while it is used."""
    tap = Tap(servers.service_port)
    async with tap.open(servers.tap_port):
        await warm_up(servers.places)
    return await measure_rates(servers.places, on_turn), await measure_holding(servers, on_turn)


def main() -> int:
    """Measure, print, and judge."""
    console = Console(width=100)
    gc.disable()  # A pause of the callers would look like one of the servers.
    with (
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
        Progress(console=console, transient=True, refresh_per_second=1) as progress,
    ):
        bar = progress.add_task("starting", total=N_ROUNDS * 8)
        servers = Servers(stack, Path(folder))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rates, holding = runner.run(
                measure_all(servers, lambda turn: progress.update(bar, advance=1, description=turn))
            )
    show(console, rates, holding)
    faults = find_faults(rates, holding)
    for fault in faults:
        console.print(f"[red]{fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
