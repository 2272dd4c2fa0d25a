"""What threads that share a tokenizer do to one another's prompts: bare, and under the guard.

    python benchmarks/adopt_race.py [--calls 6000]

Eight threads call one `HuggingFacePipeline`, with truncation and padding of many lengths mixed.
Each answer is compared with the one that the same call gave alone before.  The tokenizer is the
real one, and so is the race in it: what a call sets holds for all.  The model has tiny random
weights, because its time is none of the race's; still another length of the prompt makes another
answer, which is checked.

The exit status is 1 unless all calls under the guard get their own answer.  `adopt_http` has the
same question put over HTTP and to the real model.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing is asked of the hub

import torch
import transformers
from langchain_huggingface import HuggingFacePipeline
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from locktender import guard
from locktender.model.source import require_known
from locktender.model.weights import cache_root, pull

__all__ = ["COLUMNS", "Tally", "real_folder", "tiny_folder"]

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()  # it would be drawn over ours

N_THREADS = 8
N_PROMPTS = 40
N_WORDS = 300
BARE, GUARDED = "bare", "guarded"
WORDS = (
    "river bread winter garden horse silver ocean bridge candle forest island tower valley coffee "
    "planet desert pencil window summer kitchen orange mirror pocket thunder ladder basket engine"
)
MIXES: Sequence[Mapping[str, Any]] = (
    {},
    {"padding": True},
    {"truncation": True, "max_length": 16},
    {"truncation": True, "max_length": 17, "padding": "max_length"},
    {"truncation": True, "max_length": 48},
    {"truncation": True, "max_length": 64, "padding": True},
)
LENGTHS = (0, 2, 3, 4, 5)  # those of the mixes that leave different prompts
COMMON: Mapping[str, Any] = {
    "do_sample": False,
    "max_new_tokens": 4,
    "return_full_text": False,
}


@dataclass(frozen=True, slots=True)
class Call:
    """A prompt and how it is to be encoded."""

    prompt: str
    mix: int

    def make(self, llm: HuggingFacePipeline) -> str:
        """Return the answer."""
        return llm.invoke(self.prompt, pipeline_kwargs={**COMMON, **MIXES[self.mix]})


@dataclass(slots=True)
class Tally:
    """What became of the calls."""

    n_right: int = 0
    n_wrong: int = 0
    n_taken: int = 0  # of the wrong ones, those that fit a prompt cut as another call wanted it
    n_errors: int = 0
    took_s: float = 0.0
    error: str = ""  # the last one

    def add(self, answer: str, wanted: str, others: Iterable[str]) -> None:
        """Count an answer; `others` are those of the same prompt under other settings."""
        self.n_right += answer == wanted
        self.n_wrong += answer != wanted
        self.n_taken += answer != wanted and answer in others

    def row(self) -> list[str]:
        """Return the figures for a table."""
        counts = (self.n_right, self.n_wrong, self.n_taken, self.n_errors)
        return [*(f"{count:,}" for count in counts), f"{self.took_s:.0f}"]


COLUMNS = ("right", "wrong", "cut as others wanted", "errors", "s")  # of a row of a tally


def real_folder() -> Path:
    """Return the folder of the real model as transformers has it; it is made when missing."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from harness.hf_folder import make_hf_folder  # noqa: PLC0415 - found only now

    gguf: Path = pull(require_known("smollm2-135m-instruct"), cache_root())
    folder: Path = make_hf_folder(gguf, cache_root())
    return folder


def tiny_folder(folder: Path, real: Path) -> Path:
    """Make `folder` a model with the tokenizer of `real` and random weights, few but lively."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(real)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8192,
        initializer_range=1.0,  # with less, the last token alone would make the answer
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(409)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load(folder: Path) -> HuggingFacePipeline:
    """Return a pipeline with a tokenizer and a model of its own."""
    pipe = transformers.pipeline("text-generation", model=str(folder), dtype=torch.float32)
    return HuggingFacePipeline(pipeline=pipe)


def make_calls() -> list[Call]:
    """Return each call once."""
    dice = random.Random(409)
    prompts = [" ".join(dice.choices(WORDS.split(), k=N_WORDS)) for _ in range(N_PROMPTS)]
    return [Call(prompt, mix) for prompt in prompts for mix in range(len(MIXES))]


def check_telling(alone: Mapping[Call, str]) -> None:
    """Raises: RuntimeError unless answers tell to which length a prompt was cut."""
    pairs = [
        (alone[Call(prompt, one)], alone[Call(prompt, other)])
        for prompt in {call.prompt for call in alone}
        for one, other in combinations(LENGTHS, 2)
    ]
    n_alike = sum(one == other for one, other in pairs)
    if n_alike > len(pairs) // 20:
        message = f"{n_alike} of {len(pairs)} answers do not depend on the length of the prompt."
        raise RuntimeError(message)


def call_all(
    llm: HuggingFacePipeline,
    calls: Sequence[Call],
    alone: Mapping[Call, str],
    on_call: Callable[[], None],
) -> Tally:
    """Make `calls` from all threads at once, and compare."""
    tally = Tally()
    began_at = time.perf_counter()
    with ThreadPoolExecutor(N_THREADS) as pool:
        futures = [pool.submit(call.make, llm) for call in calls]
        for call, future in zip(calls, futures, strict=True):
            error = future.exception()
            if error is not None:
                tally.n_errors += 1
                tally.error = repr(error)
            else:
                others = [alone[Call(call.prompt, mix)] for mix in range(len(MIXES))]
                tally.add(future.result(), alone[call], others)
            on_call()
    tally.took_s = time.perf_counter() - began_at
    return tally


def measure_all(n_calls: int, folder: Path, progress: Progress) -> dict[str, Tally]:
    """Return what became of the calls, bare and guarded."""
    distinct = make_calls()
    bare, guarded = load(folder), guard(load(folder))
    alone = {
        call: call.make(bare) for call in progress.track(distinct, description="each call alone")
    }
    check_telling(alone)
    calls = random.Random(5).choices(distinct, k=n_calls)
    tallies = {}
    for name, llm in ((BARE, bare), (GUARDED, guarded)):
        bar = progress.add_task(f"{N_THREADS} threads, {name}", total=n_calls)
        tallies[name] = call_all(llm, calls, alone, partial(progress.advance, bar))
    return tallies


def show(console: Console, tallies: Mapping[str, Tally]) -> None:
    """Print what was found."""
    table = Table(f"{N_THREADS} threads", *COLUMNS)
    for name, tally in tallies.items():
        table.add_row(name, *tally.row())
    console.print(table)
    for name, tally in tallies.items():
        if tally.error:
            console.print(f"The last error, {name}: {tally.error[:300]}", markup=False)


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=6_000)
    arguments = parser.parse_args()
    console = Console(width=100)
    torch.set_num_threads(1)  # the eight are enough
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(console=console, transient=True, refresh_per_second=1) as progress,
    ):
        tiny = tiny_folder(Path(folder), real_folder())
        tallies = measure_all(arguments.calls, tiny, progress)
    show(console, tallies)
    return 0 if tallies[GUARDED].n_right == arguments.calls else 1


if __name__ == "__main__":
    sys.exit(main())
