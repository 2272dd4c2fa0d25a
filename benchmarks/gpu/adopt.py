"""Adopted models on one GPU: the engine, and a chain's route beside LangServe's.

    bash benchmarks/gpu/run.sh [--tiny]

The model has Mistral-7B-Instruct-v0.2's shape, bfloat16 and random weights; prompts have 100 tokens
and answers 64.  In this order, each with a limit of its own, so that one that fails or is slow
costs nothing but itself: the engine alone (`engine.py`); locktender's route; its memory with a
limit of 2 GiB for keys and values; LangServe's route over the same app, whose import is all that
differs (`route.py`).  The servers run one after the other.

Writes adopt.json, table.md and the logs into a folder, and prints the table with what had been
predicted.
"""

import argparse
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from load import Load, Round, serving

OURS, PEER = "locktender", "langserve"
N_ROUNDS = 3
N_PROMPT = 100
N_LONG_PROMPT = 1_500
KV_BYTES = 2 << 30
STAGE_S = {"engine": 150, OURS: 110, "memory": 90, PEER: 330}
# Written before the first run: tokens/s.
PREDICTED = {
    ("engine", 1): 110,
    ("engine", 8): 850,
    ("engine", 32): 3200,
    (OURS, 1): 100,
    (OURS, 8): 650,
    (OURS, 32): 2200,
    (OURS, 64): 2200,
    (PEER, 1): 28,
    (PEER, 8): 18,
    (PEER, 32): 17,
}


@dataclass(slots=True)
class Run:
    """Where a run stands."""

    folder: Path
    is_tiny: bool
    end_at: float
    stage_end_at: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def n_new(self) -> int:
        """Tokens of an answer."""
        return 8 if self.is_tiny else 64

    @property
    def environment(self) -> dict[str, str]:
        """What the servers are told."""
        return {"NEW_TOKENS": str(self.n_new), **({"IS_TINY": "1"} if self.is_tiny else {})}

    def left_s(self, limit_s: float) -> float:
        """Return the limit, or what is left of the stage.  Raises: TimeoutError if nothing is."""
        left_s = self.stage_end_at - time.monotonic()
        if left_s < 1:
            raise TimeoutError("The stage's time is spent.")
        return min(limit_s, left_s)

    def load(self, port: int) -> Load:
        """Return the callers of the server there."""
        return Load(port, 499 if self.is_tiny else 32_000, self.n_new)

    def attempt(self, name: str, stage: Callable[["Run", dict[str, Any]], None]) -> None:
        """Run a stage and keep what it found, also if it fails in the middle."""
        began_at = time.monotonic()
        self.stage_end_at = min(self.end_at, began_at + STAGE_S[name])
        found: dict[str, Any] = {}
        self.found[name] = found
        try:
            stage(self, found)
        except Exception as error:  # noqa: BLE001 - a boundary: the other stages are wanted still
            traceback.print_exc()
            found["error"] = f"{type(error).__name__}: {error}"[-2000:]
        found["stage_s"] = round(time.monotonic() - began_at, 1)
        path = self.folder / "adopt.json"
        path.write_bytes(orjson.dumps(self.found, option=orjson.OPT_INDENT_2))
        print(f"{name}: {found['stage_s']} s {found.get('error', '')}", flush=True)


def try_engine(run: Run, found: dict[str, Any]) -> None:
    """Run engine.py, and keep what it has written even if it is cut."""
    result = run.folder / "engine.json"
    script = str(Path(__file__).with_name("engine.py"))
    command = [sys.executable, script, str(result), *(["--tiny"] if run.is_tiny else [])]
    try:
        subprocess.run(command, timeout=run.left_s(STAGE_S["engine"]), check=True)
    finally:
        found |= orjson.loads(result.read_bytes())
        result.unlink()


def tell(name: str, found: dict[str, Any], rounds: list[Round]) -> None:
    """Keep the median round."""
    middle = statistics.median_high(each.tokens_per_s for each in rounds)
    chosen = next(each for each in rounds if each.tokens_per_s == middle)
    found[name] = {**chosen.told(), "all": [round(each.tokens_per_s, 1) for each in rounds]}
    errors = [error for each in rounds for error in each.errors]
    if errors:
        found[name]["errors"] = errors[:3]
    print(f"{name}: {found[name]}", flush=True)


def try_ours(run: Run, found: dict[str, Any]) -> None:
    """Ask locktender's route: medians of rounds, after one that is not counted."""
    with serving(OURS, run.environment, run.folder / "locktender.log") as port:
        load = run.load(port)
        for path in ("/chain/invoke", "/chain/stream"):
            for n_callers in (1, 8, 32, 64):
                cold = load.round(path, n_callers, N_PROMPT, run.left_s(60))
                rounds = [
                    load.round(path, n_callers, N_PROMPT, run.left_s(30)) for _ in range(N_ROUNDS)
                ]
                name = f"{path.rpartition('/')[2]} {n_callers}"
                tell(name, found, rounds)
                found[name]["cold_tokens_per_s"] = round(cold.tokens_per_s, 1)
        found["memory"] = load.memory()


def try_memory(run: Run, found: dict[str, Any]) -> None:
    """Ask with 64 long prompts where there is room for the tokens of ten."""
    environment = {**run.environment, "KV_BYTES": str(KV_BYTES)}
    with serving(OURS, environment, run.folder / "memory.log") as port:
        load = run.load(port)
        found["before"] = load.memory()
        tell("invoke 64", found, [load.round("/chain/invoke", 64, N_LONG_PROMPT, run.left_s(90))])
        found["after"] = load.memory()
        beyond = found["after"]["peak"] - found["after"]["weights"]
        found["peak_beyond_weights_mib"] = beyond >> 20
        found["working_mib"] = (beyond - KV_BYTES) >> 20


def try_peer(run: Run, found: dict[str, Any]) -> None:
    """Ask LangServe's route, plain and with one lock.

    A round that is cut ends it: the server goes on with the answers that nobody waits for.
    """
    environment = {**run.environment, "WITH_LOCK": "1"}
    with serving(PEER, environment, run.folder / "langserve.log") as port:
        load = run.load(port)
        load.round("/chain/invoke", 1, N_PROMPT, run.left_s(60))
        plan = [
            ("/chain/invoke", 1, N_ROUNDS, 20),
            ("/locked/invoke", 8, 1, 40),
            ("/chain/invoke", 8, 1, 60),
            ("/chain/invoke", 32, 1, 180),
            ("/locked/invoke", 32, 1, 60),
        ]
        for path, n_callers, n_rounds, limit_s in plan:
            rounds = [
                load.round(path, n_callers, N_PROMPT, run.left_s(limit_s)) for _ in range(n_rounds)
            ]
            kind = "invoke" if path.startswith("/chain") else "locked"
            tell(f"{kind} {n_callers}", found, rounds)
            if any(each.n_answers < n_callers for each in rounds):
                return


Row = tuple[str, str, str, str]  # what, measured, predicted, note


def engine_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Give the rows of the engine alone."""
    engine = found.get("engine", {})
    floor = engine.get("machine", {}).get("floor_steps_per_s", 0)
    for stage, name in (("engine", "engine"), ("engine_without_graphs", "engine, no graphs")):
        for n, each in engine.get(stage, {}).items():
            if n.isdigit():
                guess = PREDICTED["engine", int(n)] if stage == "engine" else ""
                share = f", {each['steps_per_s'] / floor:.0%} of the floor" if floor else ""
                note = f"{each['steps_per_s']} steps/s{share}"
                yield f"{name}, {n} rows", f"{each['tokens_per_s']}", f"{guess}", note
    if "generate" in engine:
        yield "generate, 1 prompt", f"{engine['generate'].get('tokens_per_s')}", "23", ""


def route_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Give the rows of the two servers."""
    for package in (OURS, PEER):
        for name, each in found.get(package, {}).items():
            kind, _, n = name.partition(" ")
            if n:
                guess = PREDICTED.get((package, int(n)), "") if kind == "invoke" else ""
                first = (
                    f", first word {each['first_word_ms']} ms" if "first_word_ms" in each else ""
                )
                note = f"{each['answers']} in {each['took_s']} s{first}; {each['all']}"
                yield f"{package}, {kind}, {n} callers", f"{each['tokens_per_s']}", f"{guess}", note


def ratio_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Give the rows of the two servers compared."""
    for n in (1, 8, 32):
        ours = found.get(OURS, {}).get(f"invoke {n}", {}).get("tokens_per_s", 0)
        for kind in ("invoke", "locked"):
            peer = found.get(PEER, {}).get(f"{kind} {n}", {}).get("tokens_per_s", 0)
            if ours and peer:
                wanted = {1: "at least 1", 32: "at least 20, aim 100"}.get(n, "")
                name = "LangServe" if kind == "invoke" else "LangServe with one lock"
                yield f"ratio to {name}, {n} callers", f"{ours / peer:.1f} times", wanted, ""


def memory_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Give the row of the limit for keys and values."""
    memory = found.get("memory", {})
    if "working_mib" in memory:
        note = f"the limit and {memory['working_mib']}; {memory['invoke 64']['answers']} answered"
        yield (
            "peak beyond the weights",
            f"{memory['peak_beyond_weights_mib']} MiB",
            "2350 MiB",
            note,
        )


def table(found: dict[str, Any]) -> str:
    """Return the table in Markdown, and what went wrong."""
    lines = ["| what | tokens/s | predicted | |", "| --- | --- | --- | --- |"]
    for give in (engine_rows, route_rows, ratio_rows, memory_rows):
        lines += [f"| {' | '.join(row)} |" for row in give(found)]
    engine = found.get("engine", {})
    for name in ("machine", "float32", "small_bfloat16", "bfloat16", "replays", "took_s"):
        lines.append(f"{name}: {orjson.dumps(engine.get(name)).decode()}")
    lines += [
        f"{name}: {each['stage_s']} s {each.get('error', '')}" for name, each in found.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all stages and print the table."""
    parser = argparse.ArgumentParser(description="Adopted models on one GPU.")
    parser.add_argument("folder", type=Path, help="where the figures go")
    parser.add_argument("--tiny", action="store_true", help="a small model, to try it out")
    parser.add_argument("--seconds", type=float, default=540, help="for all of it")
    stages = {"engine": try_engine, OURS: try_ours, "memory": try_memory, PEER: try_peer}
    parser.add_argument("--only", nargs="*", choices=stages, default=list(stages))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    end_at = time.monotonic() + arguments.seconds
    run = Run(arguments.folder, arguments.tiny, end_at)
    for name in arguments.only:
        run.attempt(name, stages[name])
    found = table(run.found)
    run.folder.joinpath("table.md").write_text(found)
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
