"""Strings of which it is known, character by character, whether a caller wrote them.

A chat template sees them as ordinary strings: it may trim, cut, search, join and compare them, and
what comes out still knows its authors.  What it does to them behind our back, in C (``%``,
``format``), gets a stand-in with a nonce, which no caller can guess, and `Slips.restored` puts the
marked text in its place.  So a path that was forgotten never turns a caller's text into the
template's own.

Nothing of templates is known here: above it, `chat_template` renders and `control_token` judges.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, SupportsIndex

from locktender.core.errors import InvalidRequest

__all__ = ["MAX_CHARACTERS", "MarkedText", "Slips", "joined", "slips_of", "true_text"]

# Of a prompt, and of all that a template makes on the way to it; the longest contexts have some
# millions of tokens.
MAX_CHARACTERS = 16_000_000
_MAX_SLIPS = 200_000  # pieces that a template may cut callers' texts into
# Roles that are the protocol's words and no caller's: templates write control tokens with them.
_ROLES = frozenset({"assistant", "developer", "function", "ipython", "system", "tool", "user"})


class MarkedText(str):
    """A string and, for each character, whether a caller wrote it (1) or not (0).

    As a `str` in C it is its stand-in; all that Python asks it is answered for the true text.
    """

    __slots__ = ("_marks", "_slips", "_text")
    _text: str
    _marks: bytes
    _slips: "Slips"

    def __new__(cls, stand_in: str, text: str, marks: bytes, slips: "Slips") -> Self:
        self = super().__new__(cls, stand_in)
        self._text, self._marks, self._slips = text, marks, slips
        return self

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return joined([self, other])

    def __radd__(self, other: str) -> str:
        return joined([other, self])

    def __getitem__(self, key: Any) -> str:
        if isinstance(key, slice):
            return self._slips.mark(self._text[key], self._marks[key])
        at = range(len(self._text))[key]
        return self._part(at, at + 1)

    def __iter__(self) -> Iterator[str]:
        return (self._part(at, at + 1) for at in range(len(self._text)))

    def strip(self, chars: str | None = None, /) -> str:
        start = len(self._text) - len(self._text.lstrip(_plain(chars)))
        return self._part(start, max(start, len(self._text.rstrip(_plain(chars)))))

    def lstrip(self, chars: str | None = None, /) -> str:
        return self._part(len(self._text) - len(self._text.lstrip(_plain(chars))), None)

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._part(0, len(self._text.rstrip(_plain(chars))))

    def removeprefix(self, prefix: str, /) -> str:
        return self._part(len(_plain(prefix)) if self._text.startswith(_plain(prefix)) else 0, None)

    def removesuffix(self, suffix: str, /) -> str:
        return self._part(0, len(self._text.removesuffix(_plain(suffix))))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> Any:
        return self._placed(self._text.split(_plain(sep), maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> Any:
        return self._placed(self._text.rsplit(_plain(sep), maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> Any:  # noqa: FBT001, FBT002 - str's signature
        return self._placed(self._text.splitlines(keepends), None)

    def partition(self, sep: str, /) -> Any:
        return tuple(self._placed(self._text.partition(_plain(sep)), ""))

    def rpartition(self, sep: str, /) -> Any:
        return tuple(self._placed(self._text.rpartition(_plain(sep)), ""))

    def replace(self, old: str, new: str, count: Any = -1, /) -> str:
        parts = self._placed(self._text.split(_plain(old), count), old) if old else [self]
        return joined(_between(new, parts))

    def join(self, parts: Iterable[str], /) -> str:
        return joined(_between(self, parts))

    def _part(self, start: int, end: int | None) -> str:
        return self._slips.mark(self._text[start:end], self._marks[start:end])

    def _placed(self, parts: Iterable[str], separator: str | None) -> list[str]:
        """Return `parts`, which stand in the text in this order, with their marks.

        None separates by what is in no part: white space, or the ends of lines.
        """
        found, at = [], 0
        for part in parts:
            if separator is None:
                at = self._text.index(part, at)
            found.append(self._part(at, at + len(part)))
            at += len(part) + len(separator or "")
        return found

    def _changed(self, text: str) -> str:
        marks = self._marks if len(text) == len(self._marks) else b"\1" * len(text)
        return self._slips.mark(text, marks)


def _asked_of_text(name: str) -> Callable[..., Any]:
    """Return the method of that name, answered for the true text."""
    plain = getattr(str, name)

    def asked(self: MarkedText, *arguments: Any, **options: Any) -> Any:
        return plain(self._text, *map(_plain, arguments), **options)

    return asked


def _changing_text(name: str) -> Callable[..., Any]:
    plain = getattr(str, name)

    def changing(self: MarkedText) -> str:
        return self._changed(plain(self._text))

    return changing


for _name in (
    *("__contains__", "__eq__", "__ge__", "__gt__", "__hash__", "__le__", "__len__", "__lt__"),
    *("__ne__", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal"),
    *("isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle"),
    *("isupper", "rfind", "rindex", "startswith"),
):
    setattr(MarkedText, _name, _asked_of_text(_name))
for _name in ("capitalize", "casefold", "lower", "swapcase", "title", "upper"):
    setattr(MarkedText, _name, _changing_text(_name))


class Slips:
    """The marked texts of one rendering, by their stand-ins."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(8)
        # Letters and digits, which survive whatever a template does; in any case.
        self._stand_in = re.compile(f"q{self._nonce}x([0-9]+)x", re.IGNORECASE)
        self._texts: list[MarkedText] = []
        self._n_characters = 0

    def mark(self, text: str, marks: bytes) -> str:
        """Return `text` with its marks; where a caller wrote nothing of it, just the text."""
        if 1 not in marks:
            return text
        self._n_characters += len(text)
        if len(self._texts) >= _MAX_SLIPS or self._n_characters > 4 * MAX_CHARACTERS:
            raise InvalidRequest("The model's chat template takes the messages apart too often.")
        stand_in = f"Q{self._nonce}x{len(self._texts)}x"
        marked = MarkedText(stand_in, text, marks, self)
        self._texts.append(marked)
        return marked

    def marked(self, value: Any) -> Any:
        """Return a copy of `value` in which each string is marked as a caller's.

        Not the roles of the protocol, and no key that is a plain name.  What is no JSON becomes the
        string that a template would write of it.
        """
        if value is None or type(value) in {MarkedText, bool, int, float}:
            return value
        if isinstance(value, Mapping):
            return {self._key(key): self._value(key, each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.marked(each) for each in value]
        text = str(value)
        return self.mark(text, b"\1" * len(text))

    def _key(self, key: Any) -> Any:
        return self.marked(key) if isinstance(key, str) and not key.isidentifier() else key

    def _value(self, key: Any, value: Any) -> Any:
        is_known = key == "role" and isinstance(value, str) and value in _ROLES
        return value if is_known else self.marked(value)

    def restored(self, text: str) -> tuple[str, bytes]:
        """Return the true text of what a template wrote, and its marks."""
        true, marks = true_text(text), _marks_of(text)
        while self._stand_in.search(true):
            parts: list[str] = []
            marked: list[bytes] = []
            at = n_characters = 0
            for found in self._stand_in.finditer(true):
                meant = self._meant(int(found[1]))
                parts += [true[at : found.start()], true_text(meant)]
                marked += [marks[at : found.start()], _marks_of(meant)]
                at = found.end()
                n_characters += len(meant)
                if n_characters > MAX_CHARACTERS:
                    raise _too_long()
            true, marks = "".join([*parts, true[at:]]), b"".join([*marked, marks[at:]])
        return true, marks

    def forget(self) -> None:
        """Let go of the texts, which know these slips as these know them."""
        self._texts.clear()

    def _meant(self, index: int) -> str:
        return self._texts[index] if index < len(self._texts) else ""


def joined(parts: Iterable[str]) -> str:
    """Join as ``"".join`` does, keeping the marks.  Raises: InvalidRequest beyond all bounds."""
    listed = list(parts)
    if sum(map(len, listed)) > MAX_CHARACTERS:
        raise _too_long()
    marked = next((part for part in listed if isinstance(part, MarkedText)), None)
    if marked is None:
        return "".join(listed)
    return MarkedText(
        "".join(listed),
        "".join(map(true_text, listed)),
        b"".join(map(_marks_of, listed)),
        slips_of(marked),
    )


def _between(separator: str, parts: Iterable[str]) -> Iterator[str]:
    for n, part in enumerate(parts):
        if n:
            yield separator
        yield part


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return true_text(value) if isinstance(value, MarkedText) else value


def slips_of(text: MarkedText) -> Slips:
    """Return the slips that know the stand-in of `text`."""
    return text._slips  # noqa: SLF001 - its own


def true_text(text: str) -> str:
    """Return the text that is meant, marked or not."""
    return text._text if isinstance(text, MarkedText) else text  # noqa: SLF001 - its own


def _marks_of(text: str) -> bytes:
    return text._marks if isinstance(text, MarkedText) else bytes(len(text))  # noqa: SLF001 - its own


def _too_long() -> InvalidRequest:
    return InvalidRequest(
        f"The model's chat template makes more than {MAX_CHARACTERS:,} characters of the messages.",
        "messages",
    )
