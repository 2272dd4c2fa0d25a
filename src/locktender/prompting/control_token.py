"""Which tokens of a tokenizer are control tokens, and which of them in a prompt are the template's.

A control token is what a tokenizer turns into one id wherever it stands, so that whoever can write
its text can write the token: the end of a turn, the beginning of a system's.  In a prompt that a
template has written, those that the template wrote itself are meant; one that a caller wrote, or
had a part in, is text, and the prompt is cut within it.  Pure.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any

from locktender.core.request import RenderedInput

__all__ = ["AddedToken", "ControlTokens", "control_of"]

# Elements of HTML that Gemma's vocabulary has as added tokens: words of its language, not marks.
_HTML = frozenset(
    {"a", "b", "blockquote", "br", "caption", "code", "div", "em", "h1", "h2", "h3", "h4", "h5"}
    | {"h6", "hr", "i", "img", "li", "ol", "p", "pre", "s", "span", "strong", "sub", "sup", "table"}
    | {"tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul"}
)
_TAG = re.compile(r"</?([a-z][a-z0-9]*)/?>")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is no piece of the vocabulary's own making."""

    text: str
    id: int
    is_special: bool
    is_unknown: bool = False  # what stands for characters that the vocabulary has not


class ControlTokens:
    """The control tokens of one tokenizer."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        control = [token for token in tokens if _is_control(token)]
        self.ids: Mapping[str, int] = {token.text: token.id for token in control}
        # An unknown character brings the unknown token by itself, and no harm.
        self._harmful = frozenset(token.id for token in control if not token.is_unknown)
        self._pattern = re.compile(_any_of([*self.ids]) if self.ids else "(?!)")

    def in_ids(self, ids: Iterable[int]) -> list[int]:
        """Return those of `ids` that are control tokens."""
        return [each for each in ids if each in self._harmful]

    def are_in(self, text: str) -> bool:
        """Return whether the text of a control token stands in `text`."""
        return self._pattern.search(text) is not None

    def rendered(self, text: str, marks: bytes | None = None) -> RenderedInput:
        """Return the prompt `text`; where `marks` are given, they say what callers wrote of it."""
        own: list[tuple[int, int]] = []
        cuts: list[int] = []
        at = 0
        while found := self._pattern.search(text, at):
            start, end = found.span()
            if marks is None or 1 not in marks[start:end]:
                own.append((start, end))
                at = end
            else:
                # Within the token, and then on: another may begin in what is left of it.
                at = start + 1
                cuts.append(at)
        return RenderedInput(text, tuple(own), tuple(cuts))


def control_of(tokenizer: Any) -> ControlTokens:
    """Return the control tokens of a tokenizer of transformers, as it is now."""
    added = getattr(tokenizer, "added_tokens_decoder", None)
    if added is None:  # one that is of another make has special tokens at least
        special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=False)
        return _known(tuple(AddedToken(text, number, is_special=True) for text, number in special))
    vocabulary = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    # A vocabulary of all bytes knows every character: its unknown token is one in name only.
    knows_all = getattr(vocabulary, "unk_token", "") is None
    unknown = None if knows_all else tokenizer.unk_token_id
    return _known(
        tuple(
            AddedToken(each.content, number, each.special, is_unknown=number == unknown)
            for number, each in added.items()
        )
    )


@lru_cache(maxsize=16)
def _known(tokens: tuple[AddedToken, ...]) -> ControlTokens:
    return ControlTokens(tokens)


def _any_of(texts: Sequence[str]) -> str:
    """Return a pattern that finds the longest of `texts` at a place.

    What they begin with in common is tried once, or some thousands of them would take seconds.
    """
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    behind: dict[str, list[str]] = {}
    for text in texts:
        behind.setdefault(text[n_shared : n_shared + 1], []).append(text[n_shared:])
    shared, is_one = re.escape(first[:n_shared]), bool(behind.pop("", None))
    if not behind:
        return shared
    ways = "|".join(map(_any_of, behind.values()))
    return f"{shared}(?:{ways}){'?' if is_one else ''}"


def _is_control(token: AddedToken) -> bool:
    """Whether a token may command a model.

    Special ones may.  Of the others, words, white space, signs and elements of HTML are a
    vocabulary's way to write text, which a caller may write; marks like ``<tool_call>`` are not.
    """
    if not token.text:
        return False
    if token.is_special:
        return True
    words = token.text.replace("\N{LOWER ONE EIGHTH BLOCK}", "").split()
    if all(word.isalnum() for word in words) or not any(map(str.isalnum, token.text)):
        return False
    tag = _TAG.fullmatch(token.text)
    return tag is None or tag[1] not in _HTML
