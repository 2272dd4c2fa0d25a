"""Run a transformers causal model over tokens of several sequences at once, on its own weights.

The tokens of a step, one of each answer and pieces of new prompts, go through `model.forward`
packed behind one another.  Only attention looks across tokens, and it is ours while a step runs
(`token_attention`).  No cache of transformers is used, nothing is padded, no weight is copied, and
after a step the model is as it was.

Whether that gives a model's own answers is not assumed: it is compared before the first request,
and a model for which it differs is refused (other attention, several devices, recurrent layers).
On CUDA a step of single tokens is captured once for each shape, and then replayed.

Which sequence runs, and where its part of the store is, `token_batch` decides.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from locktender.core.errors import ConfigError
from locktender.model.engines.token_attention import ATTENTION, Piece, Plan, Planner, Store

__all__ = ["Outcome", "PackedModel"]

_log = logging.getLogger("locktender.engine")

# Differences of logits by the order of additions, as parts of their spread.  A token that sees one
# that it should not, or the other way around, moves them by about 1.
_TOLERANCES = {torch.float32: 0.01, torch.float64: 0.01, torch.float16: 0.1, torch.bfloat16: 0.3}
_MEASURED_PLACES = 4  # of the store that only shows what a token takes
_MIN_GRAPH_LENGTH = 256  # places of a row that a captured step reads
_GRAPH_ROWS = (1, 2, 4, 8, 16)  # above, multiples of the last


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step gave for each piece."""

    logits: Tensor  # [pieces, vocabulary], valid until the next step
    best: list[int]  # the likeliest token; -1 where the model gave no numbers


class PackedModel:
    """A model and its store.  Raises: ConfigError for a model that cannot be run like this."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._configs = _checked_configs(model)
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.dtype
        store = Store(_MEASURED_PLACES)
        self._planner = Planner(store, self._device, self._dtype)
        self._graphs: _Graphs | None = None
        logits = self._attempt(lambda: self._forward(self._planner.plan([Piece([0], 0, 0)])))
        embedded = int(model.get_input_embeddings().num_embeddings)
        self.n_vocabulary = min(embedded, logits.shape[-1])
        self.token_bytes = store.token_bytes
        if not self.token_bytes:
            raise ConfigError("This model cannot run requests side by side: its attention is own.")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    @property
    def store_bytes(self) -> int:
        """What the store takes."""
        return self._planner.store.n_places * self.token_bytes

    def allot(self, n_rows: int, row_places: int) -> None:
        """Make the store, of rows for equally many tokens, and prove that answers are right.

        One place more is for the tokens of captured steps that are nobody's.
        Raises: ConfigError.
        """
        store = self._planner.store.resized(n_rows * row_places + 1)
        is_cuda = self._device.type == "cuda"
        if is_cuda and self._dtype.itemsize == 2:  # noqa: PLR2004 - bytes: what FlashAttention takes
            self._use(store, row_places, is_ragged=True)
            try:
                return self._prove()
            except ConfigError as error:
                _log.info("this model runs without torch's FlashAttention: %s", error.__cause__)
        self._use(store, row_places, is_ragged=False)
        return self._prove()

    def run(self, pieces: Sequence[Piece]) -> Outcome:
        """Run a step.  Whatever it raises, what earlier steps wrote is as it was."""
        with torch.no_grad(), self._attention():
            found = self._replayed(pieces) if self._graphs else None
            if found is None:
                logits = self._forward(self._planner.plan(pieces))
                return Outcome(logits, _best(logits).tolist())
        return found

    def scrub(self, start: int, end: int) -> None:
        """Forget what lies in these places."""
        self._planner.store.scrub(start, end)

    def close(self) -> None:
        """Release the store."""
        self._graphs = None
        self._planner = Planner(Store(_MEASURED_PLACES), self._device, self._dtype)

    def _use(self, store: Store, row_places: int, *, is_ragged: bool) -> None:
        self._planner = Planner(store, self._device, self._dtype, row_places, is_ragged)
        self._graphs = _Graphs() if self._device.type == "cuda" else None

    def _forward(self, plan: Plan) -> Tensor:
        out = self._model(
            input_ids=plan.ids,
            position_ids=plan.positions,
            use_cache=False,
            logits_to_keep=plan.last,
            token_plan=plan,
        )
        logits: Tensor = out.logits[0]
        return logits

    def _replayed(self, pieces: Sequence[Piece]) -> Outcome | None:
        """Run a step by a graph, or return None where none fits."""
        graphs, planner = self._graphs, self._planner
        if graphs is None or not graphs.is_usable or any(len(each.ids) > 1 for each in pieces):
            return None
        rows = list(range(len(pieces)))
        longest = max(each.end for each in pieces)
        if not planner.is_ragged:
            if longest > planner.row_places:
                return None
            rows = [each.start // planner.row_places for each in pieces]
        shape = _graph_shape(max(rows) + 1, longest)
        if not planner.is_ragged:
            n_rows = min(shape[0], planner.store.n_places // planner.row_places)
            shape = (n_rows, min(shape[1], planner.row_places))
        graph = graphs.find(shape, lambda: self._capture(*shape, pool=graphs.pool))
        return graph.replay(pieces, rows) if graph is not None else None

    def _capture(self, n_rows: int, length: int, pool: Any) -> "_Graph":
        graph = _Graph(n_rows, self._planner.store.n_places - 1, self._device)
        plan = self._planner

        def forward() -> tuple[Tensor, Tensor]:
            logits = self._forward(plan.captured(graph.numbers, length))
            return logits, _best(logits)

        graph.capture(forward, pool)
        return graph

    @contextmanager
    def _attention(self) -> Iterator[None]:
        """Be the model's attention for a while."""
        before = [config._attn_implementation_internal for config in self._configs]  # noqa: SLF001 - its setter would reach into other parts
        for config in self._configs:
            config._attn_implementation_internal = ATTENTION  # noqa: SLF001 - as above
        try:
            yield
        finally:
            for config, name in zip(self._configs, before, strict=True):
                config._attn_implementation_internal = name  # noqa: SLF001 - as above

    def _attempt(self, run: Callable[[], Tensor]) -> Tensor:
        try:
            with torch.no_grad(), self._attention():
                return run()
        except Exception as error:
            # A boundary: a model that was not made for this may raise anything.
            raise ConfigError("This model cannot run requests side by side.") from error

    def _prove(self) -> None:
        """Raise ConfigError unless two sequences in pieces give what the model gives for each."""
        room = self._planner.row_places
        one, two = ([(7 * i + 3 * j + 1) % self.n_vocabulary for i in range(12)] for j in range(2))
        steps = [[Piece(one[:3], 0, 0)], [Piece(one[3:7], 0, 3), Piece(two[:5], room, 0)]]
        steps += [
            [Piece(one[i : i + 1], 0, i), Piece(two[i - 2 : i - 1], room, i - 2)]
            for i in range(7, len(one))
        ]
        if self._planner.store.n_places <= 2 * room:
            steps = [[Piece(one[:5], 0, 0)], [Piece(one[5:11], 0, 5)], [Piece(one[11:], 0, 11)]]
        expected = {0: self._own_logits(one), room: self._own_logits(two)}
        for step in steps:
            found = self._attempt(partial(self._logits, step))
            for piece, row in zip(step, found, strict=True):
                _compare(row, expected[piece.start][piece.end - 1])
        self._planner.store.scrub(0, self._planner.store.n_places)

    def _logits(self, pieces: Sequence[Piece]) -> Tensor:
        return self.run(pieces).logits

    def _own_logits(self, ids: list[int]) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self._model(
                input_ids=torch.tensor([ids], device=self._device), use_cache=False
            ).logits[0]
        return logits


class _Graph:
    """A captured step.  Its input, in the device's memory, is ids, positions and places."""

    def __init__(self, n_rows: int, nowhere: int, device: torch.device) -> None:
        self._idle = torch.zeros(3, n_rows, dtype=torch.int64)
        self._idle[2] = nowhere  # where the tokens of rows go that are nobody's
        self._staged = self._idle.clone().pin_memory()
        self.numbers = self._idle.to(device)
        self._graph = torch.cuda.CUDAGraph()
        self._logits = self._best = torch.empty(0)

    def capture(self, forward: Callable[[], tuple[Tensor, Tensor]], pool: Any) -> None:
        """Run `forward` until nothing in it allocates for the first time, then record it."""
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch gives it no types
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                forward()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._logits, self._best = forward()

    def replay(self, pieces: Sequence[Piece], rows: list[int]) -> Outcome:
        """Run the step for these pieces, each in its row."""
        columns = [[each.ids[0], each.offset, each.start + each.offset] for each in pieces]
        self._staged.copy_(self._idle)
        self._staged[:, rows] = torch.tensor(columns).T
        self.numbers.copy_(self._staged, non_blocking=True)
        self._graph.replay()
        best: list[int] = self._best.tolist()
        is_dense = rows == list(range(len(rows)))
        logits = self._logits[: len(rows)] if is_dense else self._logits[rows]
        return Outcome(logits, [best[row] for row in rows])


@dataclass(slots=True)
class _Graphs:
    """The captured steps by their shape; they share their memory, as one runs at a time."""

    known: dict[tuple[int, int], _Graph] = field(default_factory=dict)
    is_usable: bool = True
    pool: Any = field(default_factory=torch.cuda.graph_pool_handle)

    def find(self, shape: tuple[int, int], capture: Callable[[], _Graph]) -> _Graph | None:
        """Return the graph of this shape, or None from the first capture on that fails."""
        if shape not in self.known and self.is_usable:
            try:
                self.known[shape] = capture()
            except RuntimeError as error:
                _log.warning("steps cannot be captured on this device, and run slower: %s", error)
                self.is_usable = False
        return self.known.get(shape) if self.is_usable else None


def _graph_shape(n_rows: int, length: int) -> tuple[int, int]:
    """Return the shape to capture for so many rows, and places that are read of each."""
    few = [each for each in _GRAPH_ROWS if each >= n_rows]
    most = _GRAPH_ROWS[-1]
    n_rows = few[0] if few else -(-n_rows // most) * most
    return n_rows, max(_MIN_GRAPH_LENGTH, 1 << (length - 1).bit_length())


def _best(logits: Tensor) -> Tensor:
    """Return the likeliest token of each row, or -1 where there are no numbers."""
    values, ids = logits.max(-1)
    return torch.where(values.isfinite(), ids, -1)


def _compare(found: Tensor, expected: Tensor) -> None:
    """Raise ConfigError if these are not the same logits."""
    difference = (found.float() - expected.float()).abs().max() / expected.float().std()
    if not difference <= _TOLERANCES.get(found.dtype, 0.0):
        raise ConfigError(
            f"This model cannot run requests side by side: its answers would differ "
            f"(by {float(difference):.2g} of the spread of its logits)."
        )


def _checked_configs(model: Any) -> list[Any]:
    """Return the configurations that name an attention, each once.  Raises: ConfigError."""
    if model.training:
        raise ConfigError("This model is in training: call its `eval()` first.")
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError("A model with an encoder cannot run requests side by side.")
    if len({parameter.device for parameter in model.parameters()}) != 1:
        raise ConfigError("A model on several devices cannot run requests side by side.")
    parts = (getattr(module, "config", None) for module in model.modules())
    found = {id(each): each for each in parts if hasattr(each, "_attn_implementation_internal")}
    return list(found.values())
