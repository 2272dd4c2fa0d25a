"""An engine without weights, which answers with the words of the prompt.

The twin of the real engines: it keeps the whole contract of a `Stepper` (usage, stop strings,
limits, refusals), so that everything above can be tested and demonstrated without a model, and
measured without the cost of one.  A word is a token.

1. The answer is the words of the last message, or of the text, or the token ids, once.
2. If that message begins with ``repeat 100: ``, or the option `words` is 100, the words are
   repeated until the answer has 100 of them.
3. Equal requests get equal answers.  Each next word is certain, and no temperature, share of
   choices or seed makes another of it.
"""

import re
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TypeAlias

from locktender.core.errors import InvalidRequest
from locktender.core.request import (
    ChatInput,
    Delta,
    FinishReason,
    GenerationRequest,
    Input,
    RenderedInput,
    TextInput,
    TokenInput,
)
from locktender.model.engine import EngineSpec, Limits, Output
from locktender.model.prompt import answer_room, check_ids
from locktender.model.stop import StopStrings

__all__ = ["EchoStepper", "Gate"]

# Returns how many tokens may come out of this step, over all requests.  With 0 the step returns
# at once with nothing and its work stays: whoever owns the gate owns the time.
Gate: TypeAlias = Callable[[], int]

N_VOCABULARY = 100_000
MAX_PAUSE_S = 0.25  # of one step; a slower pace takes several of them
REPEAT = re.compile(r"repeat (?P<n>\d{1,9}): (?P<text>.*)", re.DOTALL)


@dataclass(slots=True)
class _Echo:
    """One answer that is under way."""

    words: Iterator[str]
    n_left: int
    last_reason: FinishReason  # if no stop string is found before
    stops: StopStrings
    prompt_tokens: int | None  # until the first delta has told it

    def advance(self) -> Delta:
        """Return the next word, or, if there is none left, the end."""
        n_tokens = min(self.n_left, 1)
        text = self.stops.feed("".join(islice(self.words, n_tokens)))
        self.n_left -= n_tokens
        reason = None
        if self.stops.is_found:
            reason = FinishReason.STOP
        elif not self.n_left:
            text += self.stops.flush()
            reason = self.last_reason
        prompt_tokens, self.prompt_tokens = self.prompt_tokens, None
        return Delta(text, n_tokens, prompt_tokens, reason)


class EchoStepper:
    """Answers each request with its own words, a word a step.

    Options: `context_tokens`, `kv_tokens`, `words`; `tokens_per_s`, the pace of all answers
    together, and `step_s`, the least time of a step: 0, the default, is as fast as can be.
    A pace is kept on average; an idle engine's first step does not wait.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,  # noqa: TID251 - a pace is what it is for
    ) -> None:
        context_tokens = spec.option("context_tokens", 8192)
        kv_tokens = spec.option("kv_tokens", spec.max_running * context_tokens)
        self.limits = Limits(spec.max_running, min(context_tokens, kv_tokens), kv_tokens)
        self._n_words = spec.option("words", 0)
        self._tokens_per_s: float = spec.option("tokens_per_s", 0.0)
        self._step_s: float = spec.option("step_s", 0.0)
        self._gate = gate
        self._clock = clock
        self._sleep = sleep
        self._due_at = 0.0
        self._running: OrderedDict[int, _Echo] = OrderedDict()

    def add(self, key: int, request: GenerationRequest) -> None:
        if key in self._running:
            raise ValueError(f"The key {key} is in use.")
        n_prompt_tokens = _count_tokens(request.input)
        max_tokens = answer_room(request, n_prompt_tokens, self.limits.context_tokens)
        text, n_words = _parse_answer(request.input)
        words = text.split()
        n_words = (n_words or self._n_words or len(words)) if words else 0
        self._running[key] = _Echo(
            words=_spaced(cycle(words)),
            n_left=min(n_words, max_tokens),
            last_reason=FinishReason.STOP if n_words <= max_tokens else FinishReason.LENGTH,
            stops=StopStrings(request.stop),
            prompt_tokens=n_prompt_tokens,
        )

    def cancel(self, key: int) -> None:
        self._running.pop(key, None)

    def step(self) -> Sequence[tuple[int, Output]]:
        n_tokens = len(self._running) if self._gate is None else self._gate()
        if not n_tokens or not self._running or not self._is_due():
            return []
        return list(self._advance(self._paced(n_tokens)).items())

    def has_work(self) -> bool:
        return bool(self._running)

    def close(self) -> None:
        self._running.clear()

    def encode(self, prompt: Input) -> Sequence[int]:
        if isinstance(prompt, TokenInput):
            return prompt.ids
        return [zlib.crc32(word.encode(errors="replace")) % N_VOCABULARY for word in _words(prompt)]

    def _advance(self, n_tokens: int) -> dict[int, Delta]:
        """Give out so many tokens, in turns, as long as there are answers."""
        deltas: dict[int, Delta] = {}
        while n_tokens and self._running:
            n_tokens -= 1
            key, echo = next(iter(self._running.items()))
            delta = echo.advance()
            deltas[key] = deltas[key] + delta if key in deltas else delta
            if delta.finish_reason is None:
                self._running.move_to_end(key)
            else:
                del self._running[key]
        return deltas

    def _is_due(self) -> bool:
        """Wait for the time of the next tokens, but not too long; return whether it has come."""
        if not self._tokens_per_s and not self._step_s:
            return True
        pause_s = self._due_at - self._clock()
        if pause_s > 0:
            self._sleep(min(pause_s, MAX_PAUSE_S))
        return pause_s <= MAX_PAUSE_S

    def _paced(self, n_tokens: int) -> int:
        """Return how many of the tokens may come now, and set the time of the next ones."""
        took_s = self._step_s
        if self._tokens_per_s:
            n_tokens = min(n_tokens, max(1, int(self._tokens_per_s * MAX_PAUSE_S)))
            took_s = max(took_s, n_tokens / self._tokens_per_s)
        if took_s:
            now = self._clock()
            is_idle = self._due_at < now - took_s  # else a step that came late is made up for
            self._due_at = (now if is_idle else self._due_at) + took_s
        return n_tokens


def _count_tokens(prompt: Input) -> int:
    """Return the number of words, or of ids; a chat without words has its template's one."""
    if isinstance(prompt, TokenInput):
        check_ids(prompt.ids, N_VOCABULARY)
        return len(prompt.ids)
    words = _words(prompt)
    if not words:
        raise InvalidRequest("The prompt is empty.", "prompt")
    return len(words)


def _words(prompt: ChatInput | TextInput | RenderedInput) -> list[str]:
    if isinstance(prompt, ChatInput):
        words = [word for message in prompt.messages for word in message.content.split()]
        return words or [""]
    return prompt.text.split()


def _parse_answer(prompt: Input) -> tuple[str, int]:
    """Return the text to answer with, and how many words it is to have, or 0."""
    text = _pick_text(prompt)
    repeat = REPEAT.match(text)
    return (repeat["text"], int(repeat["n"])) if repeat else (text, 0)


def _pick_text(prompt: Input) -> str:
    match prompt:
        case ChatInput():
            users = [message.content for message in prompt.messages if message.role == "user"]
            return users[-1] if users else ""
        case TextInput() | RenderedInput():
            return prompt.text
        case TokenInput():
            return " ".join(map(str, prompt.ids))


def _spaced(words: Iterator[str]) -> Iterator[str]:
    """Put a space before each word but the first."""
    yield from islice(words, 1)
    for word in words:
        yield f" {word}"
