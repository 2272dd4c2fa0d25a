"""Answer many prompts at once on one transformers model: continuous batching, token by token.

A request joins between two steps and leaves between two steps.  A step gives each running answer
one token and reads pieces of new prompts beside them, up to a bound, so that it stays short.  What
is kept of the tokens of a request has its place reserved from its beginning to its end: the store
has one size, made at the start, and a request waits, in order, until there is room for all of it.

One request cannot harm another: ids and lengths are checked in `add`; a step that the model raises
in is tried again request by request; where the model gives no numbers (nan) that request fails, and
its places are wiped.

Used from one thread.  It knows tokens only; texts are the business of whoever owns it.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from torch import Tensor

from locktender.core.errors import ConfigError
from locktender.model.engines.token_attention import Piece
from locktender.model.engines.token_choice import Chance, TokenOptions, choose
from locktender.model.engines.token_forward import Outcome, PackedModel

__all__ = ["BatchLimits", "End", "TokenBatch", "TokenEvent"]

DEFAULT_KV_BYTES = 1 << 30
# Prompt tokens and answer tokens of one step.  On a CPU it bounds how long the others wait; a GPU
# is not busy with less.
_STEP_TOKENS = {"cpu": 256}
_DEVICE_STEP_TOKENS = 2048
_MIN_ROW_PLACES = 16


class End(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # one of its end tokens, which is its last
    LENGTH = "length"  # its max_new_tokens


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """What a step brought for one request: its next token, or the error that ended it."""

    key: int
    token: int | None
    end: End | None = None
    error: Exception | None = None  # as the model raised it; FloatingPointError for no numbers


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch holds, settled at its start."""

    max_running: int
    context_tokens: int  # prompt and answer of one request
    kv_tokens: int  # of all running requests; more of them wait
    kv_bytes: int  # what the store takes


@dataclass(slots=True, eq=False)
class _Answer:
    """One request."""

    key: int
    ids: list[int]  # prompt and answer
    n_prompt: int
    chance: Chance
    start: int = -1  # its first place, once it has one
    n_done: int = 0  # tokens in the store

    @property
    def options(self) -> TokenOptions:
        return self.chance.options

    @property
    def n_places(self) -> int:
        """How many tokens it may come to; the last one is never put in."""
        return self.n_prompt + self.options.max_new_tokens

    @property
    def is_reading(self) -> bool:
        return self.n_done < self.n_prompt

    def piece(self, n_tokens: int) -> Piece:
        return Piece(self.ids[self.n_done : self.n_done + n_tokens], self.start, self.n_done)

    def take(self, token: int) -> End | None:
        """Add the next token; return why it is the last one, if it is."""
        self.ids.append(token)
        if token in self.options.end_tokens:
            return End.STOP
        is_full = len(self.ids) - self.n_prompt >= self.options.max_new_tokens
        return End.LENGTH if is_full else None


@dataclass(slots=True)
class _Rows:
    """The rows of the store; a request that is longer than one has several, side by side.

    Single rows are taken from the front, where they are read together, longer ones from the back.
    """

    n_rows: int
    row_places: int
    is_taken: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.is_taken = [False] * self.n_rows

    def take(self, n_places: int) -> int | None:
        """Return the first place of rows for so many, or None."""
        n = -(-n_places // self.row_places)
        tries = range(self.n_rows - n + 1)
        for first in tries if n == 1 else reversed(tries):
            if not any(self.is_taken[first : first + n]):
                self.is_taken[first : first + n] = [True] * n
                return first * self.row_places
        return None

    def give_back(self, start: int, n_places: int) -> None:
        first, n = start // self.row_places, -(-n_places // self.row_places)
        self.is_taken[first : first + n] = [False] * n


class TokenBatch:
    """Many answers of one model.

    `model` is any causal language model of transformers whose layers attend to all tokens; it is
    used as it is (weights, device, dtype) and must not be used by others during a step.  The store
    takes at most `kv_bytes`.  Raises: ConfigError for a model or limits that cannot work.
    """

    def __init__(
        self,
        model: Any,
        *,
        max_running: int = 16,
        kv_bytes: int = DEFAULT_KV_BYTES,
        context_tokens: int | None = None,
        step_tokens: int | None = None,
    ) -> None:
        self._model = PackedModel(model)
        n_rows, row_places = _sized(kv_bytes // self._model.token_bytes - 1, max_running)
        self._rows = _Rows(n_rows, row_places)
        self._model.allot(n_rows, row_places)
        kv_tokens = n_rows * row_places
        context_tokens = min(_context(model, context_tokens), kv_tokens)
        self.limits = BatchLimits(max_running, context_tokens, kv_tokens, self._model.store_bytes)
        default = _STEP_TOKENS.get(self._model.device.type, _DEVICE_STEP_TOKENS)
        self._step_tokens = step_tokens or default
        self._waiting: deque[_Answer] = deque()
        self._running: dict[int, _Answer] = {}

    @property
    def n_vocabulary(self) -> int:
        """Ids from 0 up to it, and without it, may be in a prompt."""
        return self._model.n_vocabulary

    @property
    def n_running(self) -> int:
        """Requests that have a place."""
        return len(self._running)

    @property
    def n_waiting(self) -> int:
        """Requests that wait for one."""
        return len(self._waiting)

    @property
    def n_reserved(self) -> int:
        """Places of the store that are taken."""
        return sum(self._rows.is_taken) * self._rows.row_places

    def add(self, key: int, ids: Sequence[int], options: TokenOptions) -> None:
        """Take a request; it gets a place in its turn.

        Raises: ValueError for ids or a length that the model does not have, or a key in use.
        """
        if key in self._running or any(each.key == key for each in self._waiting):
            raise ValueError(f"The key {key} is in use.")
        if not ids or min(ids) < 0 or max(ids) >= self.n_vocabulary:
            raise ValueError("There are no token ids, or the vocabulary has not all of them.")
        chance = Chance(options)
        answer = _Answer(key, list(ids), len(ids), chance)
        if answer.n_places > self.limits.context_tokens:
            raise ValueError(
                f"The request may come to {answer.n_places} tokens, "
                f"and there is room for {self.limits.context_tokens}."
            )
        chance.note(ids, self.n_vocabulary, self._model.device)
        self._waiting.append(answer)

    def cancel(self, key: int) -> None:
        """Forget a request; unknown ones are ignored."""
        answer = self._running.get(key)
        if answer is not None:
            self._leave(answer, is_clean=not answer.is_reading)
        else:
            self._waiting = deque(each for each in self._waiting if each.key != key)

    def has_work(self) -> bool:
        """Return whether `step` would do anything."""
        return bool(self._running or self._waiting)

    def step(self) -> list[TokenEvent]:
        """Give each running answer its next token, and read on in prompts."""
        self._admit()
        parts = list(self._parts())
        if not parts:
            return []
        try:
            return self._advance(parts)
        except Exception as error:  # noqa: BLE001 - a boundary: a user's model may raise anything
            return list(self._one_by_one(parts, error))

    def close(self) -> None:
        """Forget every request and release the store; safe to call twice."""
        self._waiting.clear()
        self._running.clear()
        self._model.close()

    def _admit(self) -> None:
        """Give places to those who wait, in order: nobody overtakes one that is long."""
        while self._waiting and len(self._running) < self.limits.max_running:
            start = self._rows.take(self._waiting[0].n_places)
            if start is None:
                return
            answer = self._waiting.popleft()
            answer.start = start
            self._running[answer.key] = answer

    def _parts(self) -> Iterator[tuple[_Answer, Piece]]:
        """Give what the next step is made of."""
        room = self._step_tokens
        for answer in self._running.values():
            if not answer.is_reading:
                room -= 1
                yield answer, answer.piece(1)
        room = max(room, 1)  # however many answer, somebody reads on
        for answer in self._running.values():
            if answer.is_reading and room > 0:
                piece = answer.piece(min(room, answer.n_prompt - answer.n_done))
                room -= len(piece.ids)
                yield answer, piece

    def _advance(self, parts: Sequence[tuple[_Answer, Piece]]) -> list[TokenEvent]:
        outcome = self._model.run([piece for _, piece in parts])
        tokens = self._tokens(parts, outcome)
        # From here on nothing is expected to raise: it all is our own books.
        found = [self._enter(answer, piece, tokens[i]) for i, (answer, piece) in enumerate(parts)]
        return [event for event in found if event is not None]

    def _tokens(self, parts: Sequence[tuple[_Answer, Piece]], outcome: Outcome) -> list[int]:
        """Return the next token of each part; it is of no use for a prompt that is not read."""
        tokens = list(outcome.best)
        chosen = [
            i
            for i, (answer, piece) in enumerate(parts)
            if tokens[i] >= 0 and piece.end >= answer.n_prompt and not answer.options.is_plain
        ]
        if chosen:
            logits: Tensor = outcome.logits[chosen][:, : self.n_vocabulary]
            chances = [parts[i][0].chance for i in chosen]
            positions = [parts[i][1].end for i in chosen]
            for i, token in zip(chosen, choose(logits, chances, positions).tolist(), strict=True):
                tokens[i] = token
        return tokens

    def _enter(self, answer: _Answer, piece: Piece, token: int) -> TokenEvent | None:
        if token < 0:
            return self._fail(answer, FloatingPointError("The model gave no numbers."))
        answer.n_done = piece.end
        if answer.is_reading:
            return None
        end = answer.take(token)
        if end is not None:
            self._leave(answer)
        else:
            answer.chance.note([token], self.n_vocabulary, self._model.device)
        return TokenEvent(answer.key, token, end)

    def _one_by_one(
        self, parts: Sequence[tuple[_Answer, Piece]], error: Exception
    ) -> Iterator[TokenEvent]:
        """Find out whose fault it was, and have the others go on."""
        for part in parts:
            try:
                if len(parts) == 1:
                    raise error
                yield from self._advance([part])
            except Exception as own:  # noqa: BLE001 - a boundary: as in `step`
                yield self._fail(part[0], own)

    def _fail(self, answer: _Answer, error: Exception) -> TokenEvent:
        self._leave(answer, is_clean=False)
        return TokenEvent(answer.key, None, error=error)

    def _leave(self, answer: _Answer, *, is_clean: bool = True) -> None:
        del self._running[answer.key]
        if not is_clean:  # not-a-number would reach whoever comes next
            self._model.scrub(answer.start, answer.start + answer.n_places)
        self._rows.give_back(answer.start, answer.n_places)


def _sized(n_places: int, max_running: int) -> tuple[int, int]:
    """Return the number of rows and their length for a store of at most so many places.

    Rows are as long as `max_running` of them may be: longer requests take several.
    """
    row_places = max(n_places // max_running, _MIN_ROW_PLACES)
    n_rows = n_places // row_places
    if n_rows < 1:
        raise ConfigError(f"The KV limit has room for {max(n_places, 0)} tokens only.")
    return n_rows, row_places


def _context(model: Any, wanted: int | None) -> int:
    """Return how many tokens the model may have before it."""
    config = model.config.get_text_config()
    bounds = [wanted, getattr(config, "max_position_embeddings", None)]
    # Up to the size of its window, a layer that looks through one sees everything.
    is_windowed = getattr(config, "use_sliding_window", True)
    bounds += [getattr(config, "sliding_window", None) if is_windowed else None]
    bounds += [getattr(config, "attention_chunk_size", None)]
    known = [each for each in bounds if each]
    if not known:
        raise ConfigError("The model does not say how long a prompt may be: set `context_tokens`.")
    return min(known)
