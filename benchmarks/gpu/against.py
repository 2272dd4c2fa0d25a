"""Two commits of locktender on one GPU, both up at once and asked in turns.

    bash benchmarks/gpu/run.sh --against FOLDER [--tiny] [--rounds 5]

FOLDER has the other commit's `src`, as `stage.sh COMMIT` puts it into .base.  Both serve the same
app (route.py) on the same libraries, with a model of their own: 14.5 GB of weights each, where it
is not tiny.  In each round 32 callers ask the one and then the other, and then one caller does;
every second round has the turns in reverse.  A turn is a few waves of all callers, because one
takes less than a second.

Writes against.json and table.md into a folder.  The exit status is 1 unless, with 32 callers and in
the median of the rounds' ratios, this checkout gives at least 0.97 of the other's tokens/s, and
every answer came whole.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from checkout import HERE, Checkout
from load import Load, Round, serving

THIS, THAT = "this commit", "the other commit"
WANTED = 0.97  # of ours over theirs, with the most callers
N_CALLERS = (32, 1)
N_PROMPT = 100
ROUND_S = 60.0  # of a wave of callers

Rates = dict[str, list[float]]  # tokens/s of each round, by side


@dataclass(slots=True)
class Found:
    """What came of it."""

    commits: dict[str, str]
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    rates: dict[int, Rates] = field(default_factory=dict)  # by number of callers
    errors: list[str] = field(default_factory=list)
    loads: list[tuple[float, float, float]] = field(default_factory=list)  # before and after

    def ratios(self, n_callers: int) -> list[float]:
        """Return what ours gives over the other, round by round."""
        its = self.rates[n_callers]
        return [one / other for one, other in zip(its[THIS], its[THAT], strict=True)]

    def told(self) -> dict[str, object]:
        """Return it for a file."""
        return {
            "commits": self.commits,
            "about": self.about,
            "tokens_per_s": {str(n): rates for n, rates in self.rates.items()},
            "ratio": {str(n): statistics.median(self.ratios(n)) for n in self.rates},
            "errors": self.errors,
            "loads": self.loads,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    folder: Path  # of the figures
    is_tiny: bool
    n_rounds: int
    n_waves: int
    end_at: float  # after which no round begins

    @property
    def n_new(self) -> int:
        """Tokens of an answer."""
        return 8 if self.is_tiny else 64

    def environment(self, side: str, checkout: Checkout) -> dict[str, str]:
        """Return what a server is told."""
        path = os.pathsep.join([str(checkout.source), os.environ.get("PYTHONPATH", "")])
        found = {"NEW_TOKENS": str(self.n_new), "PYTHONPATH": path}
        found |= {"IS_TINY": "1"} if self.is_tiny else {}
        return found | ({"IS_MENDED": "1"} if side == THAT else {})


def start(stack: ExitStack, plan: Plan, that: Checkout, found: Found) -> dict[str, Load]:
    """Start both; return their callers.  Raises: RuntimeError if one has another package."""
    callers = {}
    for side, checkout in ((THAT, that), (THIS, HERE)):
        environment = plan.environment(side, checkout)
        log = plan.folder / f"{'that' if side == THAT else 'this'}.log"
        port = stack.enter_context(serving("locktender", environment, log))
        callers[side] = Load(port, 499 if plan.is_tiny else 32_000, plan.n_new)
        found.about[side] = callers[side].about()
        checkout.require_served(found.about[side]["file"])
    return callers


def rate(load: Load, n_callers: int, n_waves: int, errors: list[str]) -> float:
    """Return the tokens/s of so many waves of callers."""
    waves: Sequence[Round] = [
        load.round("/chain/invoke", n_callers, N_PROMPT, ROUND_S) for _ in range(n_waves)
    ]
    errors += [error for wave in waves for error in wave.errors]
    return sum(wave.n_tokens for wave in waves) / sum(wave.took_s for wave in waves)


def measure(
    plan: Plan, callers: Mapping[str, Load], found: Found, tell: Callable[..., None]
) -> None:
    """Ask both in turns, after waves that are not counted."""
    for n_callers in N_CALLERS:
        found.rates[n_callers] = {side: [] for side in callers}
        for side, load in callers.items():
            tell(f"cold, {n_callers}, {side}: {rate(load, n_callers, 1, found.errors):,.1f}")
    found.loads.append(os.getloadavg())
    turns = list(callers)
    for number in range(plan.n_rounds):
        if time.monotonic() > plan.end_at:
            found.errors.append(f"The time was up after {number} rounds.")
            break
        for n_callers in N_CALLERS:
            for side in turns:
                its = rate(callers[side], n_callers, plan.n_waves, found.errors)
                found.rates[n_callers][side].append(round(its, 1))
                tell(f"round {number + 1}, {n_callers}, {side}: {its:,.1f} tokens/s")
        turns.reverse()  # what wears off or sets in within a round is then nobody's advantage
    found.loads.append(os.getloadavg())


def table(found: Found) -> str:
    """Return the figures in Markdown."""
    lines = [f"{side}: {name}" for side, name in found.commits.items()]
    told = {
        ", ".join(f"{k} {v}" for k, v in each.items() if k != "file")
        for each in found.about.values()
    }
    lines += [*sorted(told), ""]
    lines += [
        "| callers | commit | tokens/s, median | round by round |",
        "| --- | --- | --- | --- |",
    ]
    for n_callers, rates in found.rates.items():
        for side, its in rates.items():
            each = ", ".join(f"{one:,.1f}" for one in its)
            lines.append(f"| {n_callers} | {side} | {statistics.median(its):,.1f} | {each} |")
    lines.append("")
    for n_callers, rates in found.rates.items():
        its = found.ratios(n_callers)
        of_medians = statistics.median(rates[THIS]) / statistics.median(rates[THAT])
        lines.append(
            f"Callers: {n_callers}.  {THIS} over {THAT}: {statistics.median(its):.3f} "
            f"({min(its):.3f} to {max(its):.3f}, rounds: {len(its)}); of medians {of_medians:.3f}."
        )
    lines.append(f"Wanted at {N_CALLERS[0]}: {WANTED}.")
    loads = [", ".join(f"{one:.2f}" for one in each) for each in found.loads]
    lines.append(f"The machine's load before and after: {'; '.join(loads)}.")
    return "\n".join([*lines, *(f"Error: {error}" for error in found.errors[:5])]) + "\n"


def main() -> int:
    """Measure, write, print, and judge."""
    parser = argparse.ArgumentParser(description="Two commits on one GPU.")
    parser.add_argument("folder", type=Path, help="where the figures go")
    parser.add_argument("--against", type=Path, required=True, help="a folder with another src")
    parser.add_argument("--tiny", action="store_true", help="a small model, to try it out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--waves", type=int, default=4, help="of callers, in a turn")
    parser.add_argument("--seconds", type=float, default=420, help="after which no round begins")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    end_at = time.monotonic() + chosen.seconds
    plan = Plan(chosen.folder, chosen.tiny, chosen.rounds, chosen.waves, end_at)
    that = Checkout(chosen.against)
    found = Found({THIS: HERE.name(), THAT: that.name()})
    with ExitStack() as stack:
        callers = start(stack, plan, that, found)
        measure(plan, callers, found, lambda line: print(line, flush=True))
    result = orjson.dumps(found.told(), option=orjson.OPT_INDENT_2)
    plan.folder.joinpath("against.json").write_bytes(result)
    figures = table(found)
    plan.folder.joinpath("table.md").write_text(figures)
    print(figures)
    is_fast = statistics.median(found.ratios(N_CALLERS[0])) >= WANTED
    return 0 if is_fast and not found.errors else 1


if __name__ == "__main__":
    sys.exit(main())
