"""Find stop strings in a text that arrives in pieces.

Text is let through as soon as it is certain that no stop string begins in it, and never earlier:
what might still become one is held back.  The first stop string to be complete ends the text; of
several that end at the same character the longest counts.  So the result does not depend on how
the text was cut into pieces, and the work for a piece depends on its length and on the stop
strings, not on what came before.

Pure.  Below it is nothing; the engines, above, feed it what their detokenizers give.
"""

from collections.abc import Iterable

__all__ = ["StopStrings"]


class StopStrings:
    """A filter for one answer: `feed` each piece, then `flush` unless a stop string was found.

    What is given out, joined, is the text up to the stop string that was found, or all of it.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(dict.fromkeys(stops))
        # The starts that a held back text may be, so that looking one up is one hash.
        self._starts = frozenset(stop[:n] for stop in self._stops for n in range(1, len(stop)))
        self._max_held = max((len(stop) - 1 for stop in self._stops), default=0)
        self._held = ""
        self._is_found = False

    @property
    def is_found(self) -> bool:
        """Whether the text has ended at a stop string; nothing more comes out after it."""
        return self._is_found

    def feed(self, piece: str) -> str:
        """Return what may be given out now that `piece` has come."""
        if not self._stops:
            return piece
        if self._is_found or not piece:
            return ""
        text = self._held + piece
        end = self._first_match(text)
        if end is not None:
            self._is_found = True
            self._held = ""
            return text[:end]
        n_held = self._n_undecided(text)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]

    def flush(self) -> str:
        """Return what was held back: the text has ended, so it is no stop string's start."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> int | None:
        """Return where the first complete stop string begins."""
        # A stop string's first occurrence is also the one that ends first.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _n_undecided(self, text: str) -> int:
        """Return the length of the longest end of `text` that a stop string may begin with."""
        for n in range(min(self._max_held, len(text)), 0, -1):
            if text[len(text) - n :] in self._starts:
                return n
        return 0
