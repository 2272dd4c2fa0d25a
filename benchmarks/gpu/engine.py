"""The engine alone on the device: whether it is right, and how fast a step is.

    python benchmarks/gpu/engine.py RESULT.json [--tiny]

Right means: in float32 the tokens are those of `generate` alone; in bfloat16 the first token that
differs is as likely as the other one, within half a nat by the model's own reckoning.  `adopt.py`
runs this in a process of its own.  The result is written after each stage, and one that fails is
told in it and costs nothing but itself.
"""

import argparse
import random
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import torch
import transformers
from shape import DEVICE, Sizes, make_model, mistral_sizes, tiny_sizes

from locktender.model.engines.token_batch import TokenBatch
from locktender.model.engines.token_choice import TokenOptions

ROWS = (1, 8, 32)
N_PROMPT = 100
N_NEW = 64
N_ROUNDS = 3
MAX_NATS = 0.5
# Bytes a second of the device's memory, as its maker says.
BANDWIDTHS = {"H100": 3.35e12, "H200": 4.8e12}

Ids = list[int]


@dataclass(slots=True)
class Report:
    """What was found, in a file that is written anew after each stage."""

    path: Path
    found: dict[str, Any] = field(default_factory=dict)

    def attempt(self, name: str, stage: Callable[[], Any]) -> None:
        """Run a stage and note what it returns, or what it raised."""
        began_at = time.perf_counter()
        try:
            result = stage()
        except Exception as error:  # noqa: BLE001 - a boundary: the other stages are wanted still
            traceback.print_exc()
            result = {"error": f"{type(error).__name__}: {error}"[:500]}
        self.found[name] = result
        self.found.setdefault("took_s", {})[name] = round(time.perf_counter() - began_at, 1)
        self.path.write_bytes(orjson.dumps(self.found, option=orjson.OPT_INDENT_2))
        print(f"engine: {name}: {orjson.dumps(result).decode()}", flush=True)


def make_prompts(n: int, lengths: Sequence[int], n_words: int) -> list[Ids]:
    """Return so many prompts, of these lengths in turn."""
    dice = random.Random(7)
    return [[dice.randrange(n_words) for _ in range(lengths[i % len(lengths)])] for i in range(n)]


def generate(model: Any, prompt: Ids, n_new: int) -> Ids:
    """Return what the model says by its own means."""
    ids = torch.tensor([prompt], device=DEVICE)
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, do_sample=False
    )
    answer: Ids = found[0, len(prompt) :].tolist()
    return answer


def answer_together(batch: TokenBatch, prompts: Sequence[Ids], options: TokenOptions) -> list[Ids]:
    """Return the answers; half of the requests join when the others are under way."""
    answers: list[Ids] = [[] for _ in prompts]
    late = list(enumerate(prompts))[len(prompts) // 2 :]
    for key, prompt in enumerate(prompts[: len(prompts) // 2]):
        batch.add(key, prompt, options)
    while batch.has_work() or late:
        if late:
            batch.add(*late.pop(0), options)
        for event in batch.step():
            if event.token is None:
                raise RuntimeError(str(event.error))
            answers[event.key].append(event.token)
    return answers


def way_of(batch: TokenBatch) -> dict[str, Any]:
    """Say by which means steps are run.  The engine has no public word for it."""
    model = batch._model  # noqa: SLF001 - as above
    graphs = model._graphs  # noqa: SLF001 - as above
    return {
        "attention": "flash varlen" if model._planner.is_ragged else "sdpa",  # noqa: SLF001 - as above
        "graphs": sorted(graphs.known) if graphs else [],
        "graphs_usable": bool(graphs and graphs.is_usable),
        "limits": repr(batch.limits),
    }


def check_float32(lengths: Sequence[int]) -> dict[str, Any]:
    """Compare sixteen answers with those of `generate`, and seeds alone with seeds together."""
    model = make_model(tiny_sizes(initializer_range=0.3), torch.float32)
    n_words = model.config.vocab_size
    prompts = make_prompts(16, lengths, n_words)
    batch = TokenBatch(model, max_running=16, kv_bytes=64 << 20)
    plain = TokenOptions(24)
    together = answer_together(batch, prompts, plain)
    alone = [generate(model, prompt, 24) for prompt in prompts]
    dice = TokenOptions(24, temperature=1.0, top_p=0.9, seed=11)
    seeded = answer_together(batch, prompts, dice)
    seeded_alone = [answer_together(batch, [prompt], dice)[0] for prompt in prompts]
    found = {
        "equal": sum(map(Ids.__eq__, together, alone)),
        "seeded_equal": sum(map(Ids.__eq__, seeded, seeded_alone)),
        "of": len(prompts),
        "distinct": len({tuple(each) for each in together}),
        **way_of(batch),
    }
    batch.close()
    return found


def check_near(model: Any, prompts: Sequence[Ids], n_new: int, kv_bytes: int) -> dict[str, Any]:
    """Compare answers in bfloat16: where they part, both tokens must be about as likely."""
    batch = TokenBatch(model, max_running=16, kv_bytes=kv_bytes)
    together = answer_together(batch, prompts, TokenOptions(n_new))
    nats = []
    for prompt, ours in zip(prompts, together, strict=True):
        theirs = generate(model, prompt, n_new)
        where = next((i for i in range(n_new) if ours[i] != theirs[i]), None)
        if where is not None:
            ids = torch.tensor([prompt + ours[:where]], device=DEVICE)
            with torch.no_grad():
                chances = model(input_ids=ids, use_cache=False).logits[0, -1].float()
            nats.append(abs(float(chances[ours[where]] - chances[theirs[where]])))
    found = {
        "equal": len(prompts) - len(nats),
        "of": len(prompts),
        "largest_nats": max(nats, default=0.0),
        "is_within": max(nats, default=0.0) <= MAX_NATS,
        **way_of(batch),
    }
    batch.close()
    return found


def check_small_bfloat16(lengths: Sequence[int]) -> dict[str, Any]:
    """Do so with a small model and prompts of many lengths."""
    model = make_model(tiny_sizes(initializer_range=0.1), torch.bfloat16)
    return check_near(model, make_prompts(16, lengths, model.config.vocab_size), 24, 64 << 20)


def measure_round(batch: TokenBatch, prompts: Sequence[Ids]) -> dict[str, float]:
    """Time one round of all prompts, and its steps."""
    for key, prompt in enumerate(prompts):
        batch.add(key, prompt, TokenOptions(N_NEW))
    times, n_tokens, first_s = [], 0, 0.0
    began_at = time.perf_counter()
    while batch.has_work():
        step_at = time.perf_counter()
        n_tokens += len(batch.step())
        now = time.perf_counter()
        times.append(now - step_at)
        if n_tokens >= len(prompts) and not first_s:
            first_s = now - began_at
    took_s = time.perf_counter() - began_at
    return {
        "tokens_per_s": n_tokens / took_s,
        "steps_per_s": 1 / statistics.median(times),
        "all_first_tokens_ms": 1000 * first_s,
    }


def measure(batch: TokenBatch, n_words: int) -> dict[str, Any]:
    """Return medians of the rounds at each number of rows; the first of each is not counted."""
    found = {}
    for n_rows in ROWS:
        prompts = make_prompts(n_rows, [N_PROMPT], n_words)
        cold = measure_round(batch, prompts)
        rounds = [measure_round(batch, prompts) for _ in range(N_ROUNDS)]
        found[str(n_rows)] = {
            name: round(statistics.median(each[name] for each in rounds), 1) for name in rounds[0]
        } | {"cold_tokens_per_s": round(cold["tokens_per_s"], 1)}
    return found


def measure_all(model: Any, report: Report) -> None:
    """Measure with captured steps, then without them."""
    batch = TokenBatch(model, max_running=max(ROWS), kv_bytes=1 << 30)
    n_words = model.config.vocab_size
    report.attempt("engine", lambda: {**measure(batch, n_words), **way_of(batch)})
    packed = batch._model  # noqa: SLF001 - the engine has no switch for what is measured here
    graphs = packed._graphs  # noqa: SLF001 - as above
    if graphs is not None:
        report.attempt("replays", lambda: time_replays(graphs.known))
        packed._graphs = None  # noqa: SLF001 - as above
        report.attempt("engine_without_graphs", lambda: measure(batch, n_words))
    batch.close()


def time_replays(graphs: dict[Any, Any]) -> dict[str, float]:
    """Return the milliseconds that the device itself takes for each captured step."""
    found = {}
    for shape, graph in sorted(graphs.items()):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for n in range(25):
            if n == 5:
                start.record()
            graph._graph.replay()  # noqa: SLF001 - only the device's part is timed
        end.record()
        end.synchronize()
        found[str(shape)] = round(start.elapsed_time(end) / 20, 3)
    return found


def describe(model: Any) -> dict[str, Any]:
    """Say what the device is, and how many steps a second its memory allows."""
    config = model.config
    parameters = sum(each.nbytes for each in model.parameters())
    read_bytes = parameters - model.get_input_embeddings().weight.nbytes  # of those a row a token
    found = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "weights_gb": parameters / 1e9,
        "layers": config.num_hidden_layers,
        "end_token": model.generation_config.eos_token_id,
    }
    if DEVICE == "cuda":
        name = torch.cuda.get_device_name()
        rate = next((rate for key, rate in BANDWIDTHS.items() if key in name), 3.35e12)
        found |= {"device": name, "floor_steps_per_s": rate / read_bytes, "copy_gb_s": copy_rate()}
    return found


def copy_rate() -> float:
    """Return GB/s of a large copy within the device, read and written."""
    source = torch.empty(2 << 30, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for n in range(13):
        if n == 3:
            start.record()
        target.copy_(source)
    end.record()
    end.synchronize()
    return round(2 * source.nbytes * 10 / start.elapsed_time(end) / 1e6, 1)


def time_generate(model: Any) -> dict[str, float]:
    """Return the tokens a second of the model's own `generate` with one prompt."""
    prompt = make_prompts(1, [N_PROMPT], model.config.vocab_size)[0]
    generate(model, prompt, 4)
    began_at = time.perf_counter()
    generate(model, prompt, N_NEW)
    return {"tokens_per_s": round(N_NEW / (time.perf_counter() - began_at), 1)}


def main() -> int:
    """Run all stages."""
    parser = argparse.ArgumentParser(description="The engine alone on the device.")
    parser.add_argument("result", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a small model, to try it out")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    report = Report(arguments.result)
    lengths = (1, 7, 30, 64, 129, 300) if arguments.tiny else (1, 7, 30, 129, 300, 700, 1200)
    report.attempt("float32", lambda: check_float32(lengths))
    report.attempt("small_bfloat16", lambda: check_small_bfloat16(lengths))
    sizes: Sizes = tiny_sizes() if arguments.tiny else mistral_sizes()
    model = make_model(sizes, torch.float32 if DEVICE == "cpu" else torch.bfloat16)
    report.attempt("machine", lambda: describe(model))
    measure_all(model, report)
    report.attempt("generate", lambda: time_generate(model))
    prompts = make_prompts(8, (12, 64, 190, 400), model.config.vocab_size)
    report.attempt("bfloat16", lambda: check_near(model, prompts, 32, 1 << 30))
    return 0


if __name__ == "__main__":
    sys.exit(main())
