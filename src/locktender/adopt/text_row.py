"""Follow the answers of one `generate`, token by token.

A row is the answer to one job: its tokens, the text they make, and whether it is to go on.  It
gives the text to the job in the very chunks of transformers' own streamer, but finds a stop string,
or that nobody waits any more, at the token that brings it.  A watch is what `generate` asks after
each token which rows are done.

Nothing of transformers is imported here: `text_pipeline`, above, hands in its streamer's class.
"""

import copy
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from locktender.adopt.job import Job
from locktender.model.stop import StopStrings

__all__ = ["Row", "Watch"]


class Row:
    """One answer as it grows: `see` each token until it `is_done`."""

    def __init__(self, job: Job[Any], text: "RowText", end_tokens: frozenset[int]) -> None:
        self.job = job
        self.text = text
        self.tokens: list[int] = []
        self.is_ended = False  # by an end token or a stop string
        self._end_tokens = end_tokens

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody waits any more."""
        return self.job.is_cancelled or self.job.has_ended

    @property
    def is_done(self) -> bool:
        """Whether no further token is wanted."""
        return self.is_ended or self.is_unwanted

    def see(self, token: Any) -> None:
        """Take the next token, a tensor of one."""
        if self.is_done:
            return
        self.tokens += token.tolist()
        self.job.n_tokens = len(self.tokens)
        self.text.see(token)
        self.is_ended = self.text.is_at_stop or self.tokens[-1] in self._end_tokens


class RowText:
    """The text of a row, up to a stop string: `give` gets each new piece, the last in `finish`."""

    def __init__(
        self,
        tokenizer: Any,
        streamer: Callable[..., Any],
        stop: Sequence[str],
        give: Callable[[str], None] | None,
    ) -> None:
        self._decoder = _Decoder(tokenizer)
        self._streamer = streamer(self._decoder, skip_special_tokens=True)
        self._streamer.on_finalized_text = self._take
        self._stops = StopStrings(stop)
        self._has_stops = bool(stop)
        self._give = give
        self._given: list[str] = []
        # Where nobody looks at it before the end, it is decoded then, at once.
        self._unseen: list[Any] | None = None if give or stop else []

    @property
    def is_at_stop(self) -> bool:
        """Whether a stop string has come, be it in a text that the streamer still holds back."""
        if not self._has_stops or self._stops.is_found:
            return self._stops.is_found
        ahead = copy.copy(self._stops)
        if self._streamer.token_cache:
            ahead.feed(self._decoder.last[self._streamer.print_len :])
        return ahead.is_found

    def see(self, token: Any) -> None:
        """Take the next token, a tensor of one."""
        if self._unseen is None:
            self._streamer.put(token)
        else:
            self._unseen.append(token)

    def finish(self) -> str:
        """Return the whole text."""
        if self._unseen:
            self._streamer.put(import_module("torch").cat(self._unseen))
        self._streamer.end()
        self._pass_on(self._stops.flush())
        return "".join(self._given)

    def _take(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the streamer calls it so
        self._pass_on(self._stops.feed(text))

    def _pass_on(self, text: str) -> None:
        if text:
            self._given.append(text)
            if self._give is not None:
                self._give(text)


class _Decoder:
    """A tokenizer that remembers what it has decoded last."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.last = ""

    def decode(self, tokens: Any, **options: Any) -> str:
        self.last = self._tokenizer.decode(tokens, **options)
        return self.last


class Watch:
    """The stopping criterion of one `generate`."""

    def __init__(self, rows: Sequence[Row], *, is_plain: bool) -> None:
        self._rows = rows
        self._is_plain = is_plain  # each call brings one more token to each row, for good
        self.n_steps = 0

    def __call__(self, input_ids: Any, _scores: Any, **_: Any) -> Any:
        """Return, as a tensor, whether each row is done."""
        self.n_steps += 1
        if self._is_plain:
            for row, token in zip(self._rows, input_ids[:, -1:].cpu(), strict=True):
                row.see(token)
            done = [row.is_done for row in self._rows]
        else:  # the rows are candidates, and which of them counts is known at the end
            done = [all(row.is_unwanted for row in self._rows)] * len(input_ids)
        return input_ids.new_tensor(done).bool()
