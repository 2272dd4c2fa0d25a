"""Tell the tokens of a prompt or a chat, as the model's own engine reads it.

It goes past the gate, since no model runs for it and no slot is taken; so it is bounded here: in
the length of what is asked for, in how many ask at once, and in time.  An engine, which has one
thread, is given one prompt at a time, and goes on with its answers in between: after a long one it
has at least as much time for them.  While no engine runs they wait, as requests do.

Above it, `service` has read the body; below, a `Pool` has the engines.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from locktender.core.errors import (
    DeadlineExceeded,
    NoReplicaReady,
    QueueFull,
    RequestTooLarge,
)
from locktender.core.request import Input, TextInput
from locktender.model.engine import features_of
from locktender.model.rendering import rendered_chat
from locktender.model.replica import Load, Pool
from locktender.prompting.chat_format import ChatFormat
from locktender.wire.openai import chat_input
from locktender.wire.openai_setting import refuse_unsupported
from locktender.wire.token_count import TokenizeBody

__all__ = ["Tokenization", "Tokens"]

# An engine's answers stand still while its tokenizer reads: half a second for such a text, or one
# that is all control tokens, on a slow core.
_MAX_CHARACTERS = 250_000
_CHARACTERS_PER_S = 150_000  # that an engine with answers under way is asked to read
_MAX_INSIDE = 64  # whose chat is written, or who wait for their turn
_TIMEOUT_S = 30.0
_NO_ENGINE = "The model's engine is being started. Try again later."
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one prompt."""

    ids: Sequence[int]
    context_tokens: int  # that prompt and answer together may have


class Tokenization:
    """That of one model."""

    def __init__(self, pool: Pool, engine: str, chat_format: ChatFormat | None) -> None:
        self._pool = pool
        self._engine = engine
        self._chat_format = chat_format
        self._turn = asyncio.Lock()
        self._free_at = 0.0  # when the next turn may begin, on the loop's clock
        self._telling: asyncio.Task[Sequence[int]] | None = None  # what the last turn asked for
        self._n_inside = 0
        self._changed = asyncio.Event()  # an engine may have come, or is given up
        pool.subscribe(self._changed.set)

    async def of(self, asked: TokenizeBody, *, timeout_s: float | None = None) -> Tokens:
        """Return the tokens of what is asked for.

        Raises: InvalidRequest, RequestTooLarge, QueueFull, NoReplicaReady, DeadlineExceeded,
        Draining, EngineFailed, ReplicaLost.
        """
        refuse_unsupported(asked.settings, self._engine, features_of(self._engine))
        _check_length(asked.n_characters)
        if self._n_inside >= _MAX_INSIDE:
            raise QueueFull("Too many wait to be told the tokens of a prompt.", _RETRY_S)
        limit_s = _TIMEOUT_S if timeout_s is None else min(timeout_s, _TIMEOUT_S)
        self._n_inside += 1
        try:
            prompt = await self._prompt(asked)
            async with asyncio.timeout(limit_s):
                return await self._told(prompt, asked.n_characters)
        except TimeoutError as error:
            if not self._pool.loads():
                raise NoReplicaReady(_NO_ENGINE, _RETRY_S) from error
            message = f"The engine did not tell the tokens of the prompt within {limit_s:g} s."
            raise DeadlineExceeded(message) from error
        finally:
            self._n_inside -= 1

    async def _told(self, prompt: Input, n_characters: int) -> Tokens:
        """Have an engine tell the tokens, in turn."""
        now = asyncio.get_running_loop().time
        async with self._turn:
            # Whoever asked before may have left, but his prompt is still in the engine's hands: one
            # in a long step would else have them pile up before it.
            if self._telling is not None:
                await asyncio.wait([self._telling])
            await asyncio.sleep(self._free_at - now())
            load = await self._ready()
            if load.running:
                self._free_at = now() + n_characters / _CHARACTERS_PER_S
            telling = asyncio.create_task(self._pool.replica(load.replica).tokenize(prompt))
            telling.add_done_callback(_seen)
            self._telling = telling
            return Tokens(await asyncio.shield(telling), load.context_tokens)

    async def _prompt(self, asked: TokenizeBody) -> Input:
        """Return what the engine is to read.  Raises: InvalidRequest."""
        if asked.messages is not None:
            chat = chat_input(asked.messages)
            return (
                chat if self._chat_format is None else await rendered_chat(chat, self._chat_format)
            )
        text = asked.prompt or ""
        if asked.add_special_tokens is False and self._chat_format is not None:
            return self._chat_format.unframed(text)
        return TextInput(text)

    async def _ready(self) -> Load:
        """Return the engine that has least to do, once there is one.

        Raises: NoReplicaReady, Draining, where nobody is to wait for one.
        """
        while True:
            refusal = self._pool.refusal()
            if refusal is not None:
                raise refusal
            alive = [load for load in self._pool.loads() if load.context_tokens]
            if alive:
                return min(alive, key=lambda load: load.running)
            self._changed.clear()
            await self._changed.wait()


def _seen(telling: "asyncio.Task[Sequence[int]]") -> None:
    if not telling.cancelled():
        telling.exception()  # Whoever asked may have left.


def _check_length(n_characters: int) -> None:
    if n_characters > _MAX_CHARACTERS:
        raise RequestTooLarge(
            f"The text has {n_characters:,} characters; the tokens of at most "
            f"{_MAX_CHARACTERS:,} are told at a time."
        )
