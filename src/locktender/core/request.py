"""What a caller asks of a model, and the pieces it gets back.

Plain frozen values.  A wire body becomes a `GenerationRequest` only by validation (`wire.openai`),
so whoever holds one may trust its ranges; what depends on the model (its vocabulary, its context)
is checked by the engine.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = [
    "ChatInput",
    "Delta",
    "Feature",
    "FinishReason",
    "GenerationRequest",
    "Input",
    "Message",
    "RenderedInput",
    "Sampling",
    "TextInput",
    "TokenInput",
]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str  # system, user or assistant
    content: str
    name: str | None = None  # whose turn it is, for templates that tell speakers apart


@dataclass(frozen=True, slots=True)
class ChatInput:
    """A chat as it came; the service renders it, unless its engine has no template to render."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class RenderedInput:
    """A chat as its template has written it, in which no caller's text is a control token.

    Offsets are those of characters in `text`.
    """

    text: str
    controls: tuple[tuple[int, int], ...] = ()  # from and to of the template's own control tokens
    cuts: tuple[int, ...] = ()  # where it is cut, each within what would be another control token


@dataclass(frozen=True, slots=True)
class TextInput:
    """A prompt of its author's own, control tokens and all."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenInput:
    """A prompt that is already tokenized."""

    ids: tuple[int, ...]


Input: TypeAlias = ChatInput | RenderedInput | TextInput | TokenInput


class Feature(StrEnum):
    """What only some engines obey; what a request asks for beyond it, all of them do."""

    TOP_K = "top_k"
    MIN_P = "min_p"
    REPETITION_PENALTY = "repetition_penalty"
    LONG_SEED = "long_seed"  # seeds of 64 bits; without it of 32


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen.  `temperature` 0 is greedy; `top_p` is in (0, 1]."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None  # unsigned
    # Each needs the feature of its name where it is not as here, which changes nothing.
    top_k: int = 0  # the likeliest tokens to choose from; 0 is all
    min_p: float = 0.0  # the least share of the likeliest one's, from 0 to 1
    repetition_penalty: float = 1.0  # over prompt and answer: logits divided, or times it below 0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt and how it is to be continued."""

    id: str  # ours and unique; never the caller's, whose ids may collide
    model: str
    input: Input
    max_tokens: int  # new tokens at most, at least 1
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    stream: bool = False
    # Whether `max_tokens` is the model's default, which shrinks to what the context leaves,
    # rather than the caller's word, which must fit.
    is_default_max_tokens: bool = False

    def digest(self) -> bytes:
        """Name what an engine is to do: not for whom, nor how the answer is delivered.

        Requests of one digest are one prompt to whoever asks what has ended an engine.
        """
        asked = (self.model, self.input, self.max_tokens, self.sampling, self.stop)
        return hashlib.blake2b(repr(asked).encode(errors="surrogatepass"), digest_size=16).digest()


class FinishReason(StrEnum):
    """Why a generation ended; OpenAI's words."""

    STOP = "stop"  # the model's end token, or a stop string
    LENGTH = "length"  # max_tokens, or the end of the context


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer.

    The first one of a request carries `prompt_tokens` and may have no text: it says that the
    engine has taken the request and what it really costs.  The last one, and no other, carries
    `finish_reason`.
    """

    text: str = ""
    n_tokens: int = 0  # new tokens that this piece stands for; text may lag behind tokens
    prompt_tokens: int | None = None
    finish_reason: FinishReason | None = None

    def __add__(self, later: "Delta") -> "Delta":
        """Merge with the piece that follows; nothing is lost and the order stays."""
        prompt_tokens = later.prompt_tokens if self.prompt_tokens is None else self.prompt_tokens
        return Delta(
            text=self.text + later.text,
            n_tokens=self.n_tokens + later.n_tokens,
            prompt_tokens=prompt_tokens,
            finish_reason=later.finish_reason,
        )
