"""Choose the next token of each row from its logits.

Each request has its own options and its own chance.  Chance is a number for each (seed, position,
token), hashed and not drawn (Gumbel-max): so a seed gives the same tokens alone and among others,
in any order and on any device, as far as the logits themselves are the same.

Greedy rows without a penalty are a plain maximum and never come here (`token_forward` takes it).
The order of what narrows a choice is that of transformers: penalty, temperature, top-k, top-p,
min-p.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["COLDEST", "Chance", "TokenOptions", "choose"]

COLDEST = 1e-6  # temperatures below it are greedy: dividing by them overflows
# Candidates of a row that has a top-p or min-p but no top-k.  Where they do not suffice, the whole
# vocabulary is sorted, which takes milliseconds a row on a CPU.
_FIRST_CANDIDATES = 512


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """How one request's tokens are chosen, and when they end."""

    max_new_tokens: int
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 is all
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # over prompt and answer, as in transformers
    seed: int | None = None
    end_tokens: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot work."""
        checks = {
            "max_new_tokens": self.max_new_tokens >= 1,
            "temperature": 0 <= self.temperature < float("inf"),
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "min_p": 0 <= self.min_p <= 1,
            "repetition_penalty": 0 < self.repetition_penalty < float("inf"),
        }
        for name, is_fine in checks.items():
            if not is_fine:
                raise ValueError(f"The option {name!r} cannot be {getattr(self, name)!r}.")

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature < COLDEST

    @property
    def is_plain(self) -> bool:
        """Whether the maximum of the logits as they are is all that is asked for."""
        return self.is_greedy and self.repetition_penalty == 1


@dataclass(slots=True)
class Chance:
    """What one request's choices depend on beside the logits."""

    options: TokenOptions
    seen: Tensor | None = None  # of the vocabulary, True for tokens of prompt and answer
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        """Take the request's seed, or one that nobody else has."""
        seed = self.options.seed
        self.seed = secrets.randbits(64) if seed is None else seed

    def note(self, ids: Sequence[int], n_vocabulary: int, device: torch.device) -> None:
        """Count `ids` as seen, if that makes a difference."""
        if self.options.repetition_penalty == 1:
            return
        if self.seen is None:
            self.seen = torch.zeros(n_vocabulary, dtype=torch.bool, device=device)
        self.seen[torch.tensor(list(ids), device=device)] = True

    def key(self, position: int) -> int:
        """Return 32 bits, as a signed number, that are this request's at `position`."""
        text = f"{self.seed}:{position}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big", signed=True)


def choose(logits: Tensor, chances: Sequence[Chance], positions: Sequence[int]) -> Tensor:
    """Return one token id for each row of `logits`; `positions` are those of the new tokens."""
    scores = _penalized(logits.float(), chances)
    tokens = scores.argmax(-1)
    # The dice are for those who asked for them: narrowing and noise cost far more than a maximum.
    drawn = [row for row, chance in enumerate(chances) if not chance.options.is_greedy]
    if drawn:
        keys = [chances[row].key(positions[row]) for row in drawn]
        tokens[drawn] = _drawn(scores[drawn], [chances[row].options for row in drawn], keys)
    return tokens


def _drawn(scores: Tensor, options: Sequence[TokenOptions], keys: Sequence[int]) -> Tensor:
    scores = scores / _column([each.temperature for each in options], scores)
    ids, scores = _narrowed(scores, options)
    best = (scores + _gumbel(ids, keys)).argmax(-1, keepdim=True)
    return ids.expand(scores.shape).gather(-1, best)[:, 0]


def _penalized(scores: Tensor, chances: Sequence[Chance]) -> Tensor:
    rows = [row for row, chance in enumerate(chances) if chance.seen is not None]
    if not rows:
        return scores
    seen = torch.stack([chance.seen for chance in chances if chance.seen is not None])
    penalty = _column([chances[row].options.repetition_penalty for row in rows], scores)
    own = scores[rows]
    # A copy: the logits are the model's.
    scores = scores.clone()
    scores[rows] = torch.where(seen, torch.where(own < 0, own * penalty, own / penalty), own)
    return scores


def _narrowed(scores: Tensor, options: Sequence[TokenOptions]) -> tuple[Tensor, Tensor]:
    """Return the candidates of each row and their scores; what is ruled out has -inf."""
    n_vocabulary = scores.shape[1]
    every = torch.arange(n_vocabulary, device=scores.device)[None]
    is_narrow = [each.top_k or each.top_p < 1 or each.min_p for each in options]
    if not any(is_narrow):
        return every, scores
    is_wide = not all(is_narrow)
    n = n_vocabulary if is_wide else max(each.top_k or _FIRST_CANDIDATES for each in options)
    while True:
        n = min(n, n_vocabulary)
        best, ids = scores.topk(n)
        is_kept, suffices = _kept(best, scores, options)
        if n == n_vocabulary or suffices:
            return ids, best.masked_fill(~is_kept, -torch.inf)
        n *= 16


def _kept(best: Tensor, scores: Tensor, options: Sequence[TokenOptions]) -> tuple[Tensor, bool]:
    """Return which of the sorted candidates stay, and whether those that were left out go."""
    n, n_vocabulary = best.shape[1], scores.shape[1]
    ranks = torch.arange(n, device=best.device)[None]
    top_k = _column([each.top_k or n_vocabulary for each in options], best)
    is_kept = ranks < top_k
    has_all = (top_k <= n) | (n == n_vocabulary)
    whole = torch.logsumexp(scores, -1, keepdim=True)
    among = torch.logsumexp(best.masked_fill(~is_kept, -torch.inf), -1, keepdim=True)
    shares = torch.exp(best - torch.where(has_all, among, whole)) * is_kept
    before = shares.cumsum(-1) - shares
    top_p = _column([each.top_p for each in options], best)
    least = _column([each.min_p for each in options], best) * shares[:, :1]
    is_enough = has_all | (before[:, -1:] >= top_p) | ((least > 0) & (shares[:, -1:] < least))
    is_kept &= (before < top_p) | (top_p == 1)
    is_kept &= shares >= least
    is_kept[:, 0] = True  # the likeliest token is always left
    return is_kept, bool(is_enough.all())


def _gumbel(ids: Tensor, keys: Sequence[int]) -> Tensor:
    """Return the noise of each row's tokens: a hash of the row's key and the token's id."""
    key = torch.tensor(keys, dtype=torch.int32, device=ids.device)[:, None]
    bits = _mixed(_mixed(ids.to(torch.int32) * -1640531527 + key) + key)
    uniform = ((bits >> 8 & 0xFFFFFF).double() + 0.5) / (1 << 24)
    noise: Tensor = -torch.log(-torch.log(uniform))
    return noise.float()


def _mixed(bits: Tensor) -> Tensor:
    """Return each number with its bits mixed (the hash ``lowbias32``); 32 bits wrap around."""
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15 & 0x1FFFF)) * -2073254261
    return bits ^ (bits >> 16 & 0xFFFF)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
