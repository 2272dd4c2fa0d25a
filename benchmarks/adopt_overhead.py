"""What the guard costs a caller who has a Hugging Face pipeline to himself.

    python benchmarks/adopt_overhead.py [--rounds 9] [--tokens 48]

SmolLM2 in float32 is loaded once, and two pipelines run it: one as transformers made it, inside a
bare `HuggingFacePipeline`, and one inside a guarded.  The owner of the guarded one hangs on the
model, which the bare pipeline calls without asking it; so the weights and their caches are the same
ones, and what differs is the way to them.

Each round asks bare, guarded, guarded, bare, or the other way round, and makes one ratio; the texts
must be the same.  The exit status is 1 if the median of the ratios of `invoke` is above 1.03.
`ainvoke` and a whole `stream` are shown beside it.  Bare, these run in threads that LangChain or
transformers start.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from adopt_race import real_folder
from langchain_huggingface import HuggingFacePipeline
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from locktender import guard

MAX_RATIO = 1.03
PROMPT = (
    "Write a long story about the river for children who have come a long way to hear it. There "
    "are a boat, an old woman and a horse in it."
)
JUDGED = "invoke"
Ask = Callable[[HuggingFacePipeline, Mapping[str, Any]], str]


def invoke(llm: HuggingFacePipeline, options: Mapping[str, Any]) -> str:
    """Ask as a thread does."""
    return llm.invoke(PROMPT, pipeline_kwargs=options)


def stream(llm: HuggingFacePipeline, options: Mapping[str, Any]) -> str:
    """Read a stream to its end."""
    return "".join(llm.stream(PROMPT, pipeline_kwargs=options))


@dataclass(slots=True)
class Times:
    """What one way of asking took in each round, in seconds a call."""

    bare_s: list[float] = field(default_factory=list)
    guarded_s: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Guarded over bare, each within its round."""
        return [
            guarded_s / bare_s
            for bare_s, guarded_s in zip(self.bare_s, self.guarded_s, strict=True)
        ]


def load() -> tuple[HuggingFacePipeline, HuggingFacePipeline]:
    """Return two wrappers of two pipelines of one model: bare, and guarded."""
    folder = real_folder()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    bare, guarded = (
        HuggingFacePipeline(
            pipeline=transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
        )
        for _ in range(2)
    )
    return bare, guard(guarded)


def measure(
    ask: Ask,
    llms: tuple[HuggingFacePipeline, HuggingFacePipeline],
    options: Mapping[str, Any],
    rounds: Iterable[int],
) -> Times:
    """Return what `ask` takes; a call of each goes before, to warm up."""
    bare, guarded = llms
    wanted = ask(bare, options)
    _timed(ask, guarded, options, wanted)
    times = Times()
    for n_round in rounds:
        outer, inner = (bare, guarded) if n_round % 2 else (guarded, bare)
        took_s = {id(llm): 0.0 for llm in llms}
        for llm in (outer, inner, inner, outer):
            took_s[id(llm)] += _timed(ask, llm, options, wanted) / 2
        times.bare_s.append(took_s[id(bare)])
        times.guarded_s.append(took_s[id(guarded)])
    return times


def _timed(ask: Ask, llm: HuggingFacePipeline, options: Mapping[str, Any], wanted: str) -> float:
    began_at = time.perf_counter()
    text = ask(llm, options)
    took_s = time.perf_counter() - began_at
    if text != wanted:
        message = f"The guarded pipeline does not give the bare one's text: {text!r}, {wanted!r}"
        raise RuntimeError(message)
    return took_s


def measure_all(n_rounds: int, n_tokens: int, progress: Progress) -> dict[str, Times]:
    """Return what each way of asking takes."""
    llms = load()
    options = {"do_sample": False, "max_new_tokens": n_tokens, "min_new_tokens": n_tokens}
    found = {}
    with asyncio.Runner() as runner:

        def ainvoke(llm: HuggingFacePipeline, options: Mapping[str, Any]) -> str:
            return runner.run(llm.ainvoke(PROMPT, pipeline_kwargs=options))

        for ask in (invoke, ainvoke, stream):
            rounds = progress.track(range(n_rounds), description=ask.__name__)
            found[ask.__name__] = measure(ask, llms, options, rounds)
    return found


def show(console: Console, found: Mapping[str, Times]) -> None:
    """Print what was found."""
    table = Table("one caller", "bare, s", "guarded, s", "ratio", "lowest", "highest")
    for name, times in found.items():
        seconds = (statistics.median(times.bare_s), statistics.median(times.guarded_s))
        ratios = (f(times.ratios) for f in (statistics.median, min, max))
        table.add_row(name, *(f"{figure:.3f}" for figure in (*seconds, *ratios)))
    console.print(table)
    n_rounds = len(found[JUDGED].ratios)
    console.print(f"Medians of {n_rounds} rounds; of {JUDGED}, at most {MAX_RATIO} is wanted.")


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()
    console = Console(width=100)
    with Progress(console=console, transient=True, refresh_per_second=1) as progress:
        found = measure_all(arguments.rounds, arguments.tokens, progress)
    show(console, found)
    return 0 if statistics.median(found[JUDGED].ratios) <= MAX_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
