"""Attention over the parts of one store of keys and values that belong to each sequence.

The store is a tensor for each layer, of a size that never changes.  A sequence has a contiguous
part of it, and a step's tokens are packed behind one another; a reader says which of them look at
what: `Rows` for one token each of many sequences, `Span` for a piece of a prompt, `Ragged` for all
of them where the device has a kernel for that.

While a step runs, this is the attention of the model, by the name `ATTENTION`; it gets the step's
`Plan` through the arguments of `forward`.  `token_forward`, above, has them made and run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["ATTENTION", "Piece", "Plan", "Planner", "Store"]

ATTENTION = "locktender"  # our name among the attentions of transformers
# What some models add to attention, and ours does not know.
_FOREIGN_PARTS = ("softcap", "s_aux", "position_bias", "head_mask", "alibi")


@dataclass(frozen=True, slots=True)
class Piece:
    """The tokens of one sequence in one step."""

    ids: Sequence[int]
    start: int  # the place of the sequence's first token in the store
    offset: int  # tokens of the sequence that are in the store already

    @property
    def end(self) -> int:
        """Tokens of the sequence after the step."""
        return self.offset + len(self.ids)


@dataclass(slots=True)
class _Rows:
    """The step's first tokens, one of a sequence each, read in one call.

    The store is looked at as equal rows.  Token i belongs to row i, or to row `rows[i]`.
    """

    n_rows: int
    row_places: int
    length: int  # places of each row that are read
    mask: Tensor  # 0 or -inf, [rows, 1, 1, length]
    rows: Tensor | None = None

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """Return [tokens, heads, size].  Heads that share keys are read as tokens that do."""
        if self.rows is None:
            query = query[:, : self.n_rows]
        else:
            spread = query.new_zeros(query.shape[0], self.n_rows, query.shape[2])
            query = spread.index_copy_(1, self.rows, query[:, : len(self.rows)])
        grouped = query.view(keys.shape[1], -1, *query.shape[1:]).permute(2, 0, 1, 3)
        out = scaled_dot_product_attention(
            grouped, self._view(keys), self._view(values), attn_mask=self.mask, scale=scaling
        ).flatten(1, 2)
        return out if self.rows is None else out.index_select(0, self.rows)

    def _view(self, flat: Tensor) -> Tensor:
        parts = flat[: self.n_rows * self.row_places].view(self.n_rows, -1, *flat.shape[1:])
        return parts[:, : self.length].transpose(1, 2)


@dataclass(slots=True)
class _Span:
    """A piece that is read alone."""

    first: int  # of its tokens in the step
    last: int
    start: int  # in the store
    end: int
    mask: Tensor | None  # for a piece of several tokens that are not the sequence's first

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """Return [tokens, heads, size]."""
        n_tokens = self.last - self.first
        query = query[None, :, self.first : self.last]
        keys = keys[None, self.start : self.end].transpose(1, 2)
        values = values[None, self.start : self.end].transpose(1, 2)
        if n_tokens == 1:
            grouped = query[:, :, 0].view(1, keys.shape[1], -1, query.shape[-1])
            return scaled_dot_product_attention(grouped, keys, values, scale=scaling).flatten(1, 2)
        out = scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=self.mask,
            is_causal=self.mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
        return out[0].transpose(0, 1)


@dataclass(slots=True)
class _Ragged:
    """All pieces in one call of the FlashAttention that torch carries for CUDA.

    The starts of the sequences need not follow one another, because their ends are given too.
    """

    query_ends: Tensor  # [pieces + 1]
    starts: Tensor  # [pieces + 1]
    lengths: Tensor  # [pieces]
    max_query: int
    max_length: int

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """Return [tokens, heads, size]."""
        out: Tensor = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 - what torch's own varlen_attn calls
            query.transpose(0, 1),
            keys,
            values,
            self.query_ends,
            self.starts,
            self.max_query,
            self.max_length,
            0.0,
            True,
            False,
            scale=scaling,
            seqused_k=self.lengths,
        )[0]
        return out


@dataclass(slots=True)
class Store:
    """The keys and values of `n_places` tokens; a layer gets its part when it is met first."""

    n_places: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def token_bytes(self) -> int:
        """What one token takes in all layers that were met."""
        return sum(part[:1].nbytes for pair in self.layers.values() for part in pair)

    def write(
        self, index: int, places: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put in [heads, tokens, size] and return all of the layer's keys and values."""
        if index not in self.layers:
            self.layers[index] = (self._empty(key), self._empty(value))
        keys, values = self.layers[index]
        keys.index_copy_(0, places, key.transpose(0, 1))
        values.index_copy_(0, places, value.transpose(0, 1))
        return keys, values

    def scrub(self, start: int, end: int) -> None:
        """Forget what lies there."""
        for pair in self.layers.values():
            for part in pair:
                part[start:end] = 0

    def resized(self, n_places: int) -> "Store":
        """Return an empty store with the same layers."""
        layers = {
            index: (
                keys.new_zeros(n_places, *keys.shape[1:]),
                values.new_zeros(n_places, *values.shape[1:]),
            )
            for index, (keys, values) in self.layers.items()
        }
        return Store(n_places, layers)

    def _empty(self, like: Tensor) -> Tensor:
        # Not what lies there: a masked value is multiplied by 0, and 0 times not-a-number is none.
        return like.new_zeros(self.n_places, like.shape[0], like.shape[2])


@dataclass(slots=True)
class Plan:
    """All that a forward needs to know."""

    store: Store
    ids: Tensor  # [1, tokens]
    positions: Tensor  # [1, tokens]
    places: Tensor  # [tokens], where their keys and values go
    last: Tensor  # [pieces], the last token of each
    readers: Sequence[_Rows | _Span | _Ragged]  # together of all tokens, in order


@dataclass(slots=True)
class Planner:
    """Makes plans over one store, whose rows hold `row_places` tokens each."""

    store: Store
    device: torch.device
    dtype: torch.dtype
    row_places: int = 1
    is_ragged: bool = False

    def plan(self, pieces: Sequence[Piece]) -> Plan:
        """Pack the pieces: first those that are read as rows, then the others."""
        rows = [] if self.is_ragged else self._pick_rows(pieces)
        in_rows = set(rows)
        order = rows + [i for i in range(len(pieces)) if i not in in_rows]
        packed = [pieces[i] for i in order]
        ends = torch.tensor([len(each.ids) for each in packed]).cumsum(0).tolist()
        last = [0] * len(pieces)
        for i, end in zip(order, ends, strict=True):
            last[i] = end - 1
        positions = [position for each in packed for position in range(each.offset, each.end)]
        places = [
            each.start + position for each in packed for position in range(each.offset, each.end)
        ]
        if self.is_ragged:
            readers: list[_Rows | _Span | _Ragged] = [self._ragged(packed, ends)]
        else:
            readers = [self._rows(packed[: len(rows)])] if rows else []
            readers += [
                self._span(each, ends[i]) for i, each in enumerate(packed) if i >= len(rows)
            ]
        return Plan(
            store=self.store,
            ids=self._numbers([[each for piece in packed for each in piece.ids]]),
            positions=self._numbers([positions]),
            places=self._numbers(places),
            last=self._numbers(last),
            readers=readers,
        )

    def _pick_rows(self, pieces: Sequence[Piece]) -> list[int]:
        """Return which pieces to read as rows, in the order of their rows."""
        width = self.row_places
        found = [i for i, each in enumerate(pieces) if len(each.ids) == 1 and each.end <= width]
        found.sort(key=lambda i: pieces[i].start)
        # _Rows between them that have no token are read, too: not more of them than there are.
        while found and pieces[found[-1]].start // width >= 2 * len(found):
            found.pop()
        return found

    def _rows(self, pieces: Sequence[Piece]) -> _Rows:
        rows = [each.start // self.row_places for each in pieces]
        n_rows, length = rows[-1] + 1, max(each.end for each in pieces)
        is_dense = n_rows == len(rows)
        ends = [1] * n_rows  # a row without a token must see something, or it has no numbers
        for row, each in zip(rows, pieces, strict=True):
            ends[row] = each.end
        mask = self._mask(self._numbers(ends), length)
        return _Rows(
            n_rows, self.row_places, length, mask, None if is_dense else self._numbers(rows)
        )

    def _span(self, piece: Piece, last: int) -> _Span:
        n_tokens = len(piece.ids)
        mask = None
        if piece.offset and n_tokens > 1:
            mask = torch.ones(n_tokens, piece.end, dtype=torch.bool, device=self.device)
            mask = mask.tril(piece.offset)
        return _Span(last - n_tokens, last, piece.start, piece.start + piece.end, mask)

    def _ragged(self, pieces: Sequence[Piece], ends: Sequence[int]) -> _Ragged:
        return _Ragged(
            self._numbers([0, *ends], torch.int32),
            self._numbers([*(each.start for each in pieces), 0], torch.int32),
            self._numbers([each.end for each in pieces], torch.int32),
            max(len(each.ids) for each in pieces),
            max(each.end for each in pieces),
        )

    def _mask(self, ends: Tensor, length: int) -> Tensor:
        """Return what hides all but the first `ends` places of each row."""
        is_hidden = torch.arange(length, device=self.device) >= ends[:, None]
        mask = torch.zeros(is_hidden.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(is_hidden, -torch.inf)[:, None, None]

    def _numbers(self, values: Any, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self.device)

    def captured(self, numbers: Tensor, length: int) -> Plan:
        """Return the plan whose readers follow from the numbers on the device itself."""
        ids, positions, places = numbers
        n_rows = len(ids)
        every = torch.arange(n_rows + 1, dtype=torch.int32, device=self.device)
        reader: _Rows | _Ragged
        if self.is_ragged:
            starts = pad(places - positions, (0, 1)).to(torch.int32)
            reader = _Ragged(every, starts, (positions + 1).to(torch.int32), 1, length)
        else:
            mask = self._mask(positions + 1, length)
            reader = _Rows(n_rows, self.row_places, length, mask)
        last = every[:-1].long()
        return Plan(self.store, ids[None], positions[None], places, last, [reader])


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, _: Any, **others: Any
) -> tuple[Tensor, None]:
    """Be the attention of a layer.  All that transformers gives and takes is [1, ...]."""
    strange = [part for part in _FOREIGN_PARTS if others.get(part) is not None]
    if strange:
        raise TypeError(f"Attention has a part that is not known here: {strange[0]}.")
    plan: Plan = others["token_plan"]
    scaling = others.get("scaling") or query.shape[-1] ** -0.5
    keys, values = plan.store.write(module.layer_idx, plan.places, key[0], value[0])
    outs = [each.attend(query[0], keys, values, scaling) for each in plan.readers]
    return (outs[0] if len(outs) == 1 else torch.cat(outs))[None], None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)
