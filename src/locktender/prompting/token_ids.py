"""Encode a chat that its template has written, so that nothing of a caller's is a control token.

A prompt whose control tokens are all the template's is encoded whole, exactly as the tokenizer
does it; pieces encoded apart would not give the ids that the model was trained on.  Only where a
caller's text has brought a control token is the prompt taken apart: at the template's own tokens,
and where it is cut.  The tokenizer has the last word: whatever it makes a control token of in spite
of that (a look-alike that it normalizes) is taken apart until it does not.

Pure: encoding is an argument.  Engines use it, and so does the guard of a chain's own model.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice, pairwise
from typing import NamedTuple, TypeAlias

from locktender.core.errors import ContextTooLong, InvalidRequest
from locktender.core.request import RenderedInput
from locktender.prompting.control_token import ControlTokens

__all__ = ["EncodeTexts", "encode_rendered"]

# Texts to their token ids, without what a tokenizer adds before and behind.
EncodeTexts: TypeAlias = Callable[[list[str]], list[list[int]]]

_BATCH = 256  # pieces that are encoded in one call
# What a piece is put behind, so that a tokenizer does not take it for the beginning of a text; it
# melts into no word.
_BEFORE = "\n"


class _Piece(NamedTuple):
    """A text between two places at which the prompt is taken apart."""

    text: str
    token: str | None  # the template's own token before it; "" at the beginning, None at a cut


def encode_rendered(
    prompt: RenderedInput,
    encode: EncodeTexts,
    control: ControlTokens,
    max_tokens: int | None = None,
) -> list[int]:
    """Return the token ids of `prompt`.

    Raises: InvalidRequest for a character that cannot but be a control token, ContextTooLong as
    soon as a prompt that is taken apart has more than `max_tokens`.
    """
    if not prompt.cuts:
        (ids,) = encode([prompt.text])
        own = [control.ids.get(prompt.text[start:end]) for start, end in prompt.controls]
        if _are_among(control.in_ids(ids), own):
            return ids
    found: list[int] = []
    encoder = _Encoder(encode, control)
    pieces = _pieces(prompt)
    while batch := list(islice(pieces, _BATCH)):
        for ids in encoder.encoded(batch):
            found += ids
        if max_tokens is not None and len(found) > max_tokens:
            raise ContextTooLong(
                f"The prompt has at least {len(found)} tokens, "
                f"but prompt and answer together may have {max_tokens}."
            )
    return found


def _pieces(prompt: RenderedInput) -> Iterator[_Piece]:
    cuts = iter([*prompt.cuts, len(prompt.text) + 1])
    cut = next(cuts)
    at, token = 0, ""
    for start, end in [*prompt.controls, (len(prompt.text), len(prompt.text))]:
        edges = [at]
        while cut < start:
            edges += [cut] if cut > at else []
            cut = next(cuts)
        for piece_start, piece_end in pairwise([*edges, start]):
            piece = _Piece(prompt.text[piece_start:piece_end], token if piece_start == at else None)
            if piece.text or piece.token:
                yield piece
        at, token = end, prompt.text[start:end]


class _Encoder:
    """Encodes pieces as the parts of one text."""

    def __init__(self, encode: EncodeTexts, control: ControlTokens) -> None:
        self._encode = encode
        self._control = control

    def encoded(self, pieces: Sequence[_Piece]) -> Iterable[list[int]]:
        """Return the ids of each piece and of the template's token before it."""
        texts = [(_BEFORE if each.token is None else each.token) + each.text for each in pieces]
        return map(self._settled, pieces, self._encode(texts))

    def _settled(self, piece: _Piece, ids: list[int]) -> list[int]:
        """Return the ids of `piece`, taken further apart while they hold what it may not."""
        if piece.token is None:
            ids = self._without_before(piece.text, ids)
        own = [self._control.ids.get(piece.token)] if piece.token else []
        if _are_among(self._control.in_ids(ids), own):
            return ids
        half = len(piece.text) // 2
        if not half:
            raise InvalidRequest(
                f"The messages hold {piece.text!r}, a control token that this model's tokenizer "
                "cannot read as text.",
                "messages",
            )
        halves = [_Piece(piece.text[:half], piece.token), _Piece(piece.text[half:], None)]
        return [token for each in self.encoded(halves) for token in each]

    def _without_before(self, text: str, ids: list[int]) -> list[int]:
        before = self._before
        if ids[: len(before)] == before and not self._control.in_ids(before):
            return ids[len(before) :]
        return self._encode([text])[0]

    @cached_property
    def _before(self) -> list[int]:
        return self._encode([_BEFORE])[0]


def _are_among(found: Iterable[int], own: Iterable[int | None]) -> bool:
    """Return whether the ids `found` are some of the ids `own`, in their order."""
    left = iter(own)
    return all(each in left for each in found)
