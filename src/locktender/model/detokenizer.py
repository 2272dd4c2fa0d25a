"""Turn the tokens of running answers into pieces of text, as they come.

A token has no text of its own: some decoders put a space before the first word, and a character
may take several tokens.  So each answer has a window of its last tokens: the `settled` ones, whose
text is out, and the `fresh` ones after them.  Decoding both and taking off the text of the settled
ones gives the text of the fresh ones in their context.  While that is nothing, or ends within a
character (decoders show one as U+FFFD, or leave it out), they stay fresh.

The windows of a step are decoded in one call, because a call costs far more than its tokens.
Pure: decoding is an argument.  Stop strings are found by `stop`, in the text that comes out here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Decode", "Feed", "TokenWindow", "detokenize"]

# Lists of token ids to their texts, one by one.
Decode: TypeAlias = Callable[[list[list[int]]], list[str]]

# What a decoder gives for bytes that are no character, or not yet one.
BROKEN = "\N{REPLACEMENT CHARACTER}"

# A character has at most four bytes, and a token at least one: of a character that is not
# complete, no byte is further back than this.
MAX_CHARACTER_TOKENS = 4

# Context for the next token.  A character that began in it must not begin before it.
MAX_SETTLED_TOKENS = 2 * MAX_CHARACTER_TOKENS

# So many fresh tokens without a safe end are taken apart, so that a window cannot grow with the
# answer.  No real text comes near: it has a whole character at least in every fourth token.
MAX_FRESH_TOKENS = 16


@dataclass(slots=True)
class TokenWindow:
    """The last tokens of one answer: all that is needed to go on decoding it."""

    settled: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)

    def settle(self, n_tokens: int) -> None:
        """Count the first `n_tokens` fresh tokens as given out."""
        self.settled = (self.settled + self.fresh[:n_tokens])[-MAX_SETTLED_TOKENS:]
        self.fresh = self.fresh[n_tokens:]


@dataclass(frozen=True, slots=True)
class Feed:
    """New tokens for one window; after the last ones nothing is held back."""

    window: TokenWindow
    ids: Sequence[int]
    is_last: bool = False


def detokenize(decode: Decode, feeds: Sequence[Feed]) -> list[str]:
    """Return the new text of each feed; each window is fed once at most.

    1. The texts that came out for a window, joined, are the text of all its tokens.
    2. `decode` is called once, or not at all, unless a window has `MAX_FRESH_TOKENS`.
    """
    for feed in feeds:
        feed.window.fresh.extend(feed.ids)
    windows = [feed.window for feed in feeds]
    if not any(window.fresh for window in windows):
        return [""] * len(feeds)
    texts = decode(
        [window.settled for window in windows]
        + [window.settled + window.fresh for window in windows]
    )
    return [
        _advance(decode, feed, before, after)
        for feed, before, after in zip(feeds, texts[: len(feeds)], texts[len(feeds) :], strict=True)
    ]


def _advance(decode: Decode, feed: Feed, before: str, after: str) -> str:
    """Move the window on, as far as it is safe, and return the text of what it passed."""
    window = feed.window
    is_whole = len(after) > len(before) and not after.endswith(BROKEN)
    if is_whole or feed.is_last:
        window.settle(len(window.fresh))
        return after[len(before) :]
    if len(window.fresh) < MAX_FRESH_TOKENS:
        return ""
    return _break_up(decode, window, before, after)


def _break_up(decode: Decode, window: TokenWindow, before: str, after: str) -> str:
    """Give out the front of a long run of broken characters, or of tokens without a text.

    Whatever is older than a character's tokens cannot become part of one any more.
    """
    n_decided = len(window.fresh) - MAX_CHARACTER_TOKENS
    (decided,) = decode([window.settled + window.fresh[:n_decided]])
    if not after.startswith(decided):
        n_decided, decided = len(window.fresh), after
    window.settle(n_decided)
    return decided[len(before) :]
