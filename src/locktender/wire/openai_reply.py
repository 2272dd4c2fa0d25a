"""Write the answers of OpenAI's chat completions and models, ready for the socket.

Knows the shapes of the answers and nothing of where the text comes from.  Above it, `model.service`
passes it text, finish reasons and usage; what callers send is read by `wire.openai`.

A stream's chunk is written once for each token of each stream, so that what does not change from
one to the next is encoded once for the stream.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from locktender.core.request import FinishReason
from locktender.wire.problem import Problem
from locktender.wire.sse import encode_event

__all__ = [
    "DONE",
    "ChunkEncoder",
    "Usage",
    "completion",
    "error_frame",
    "model_card",
    "model_list",
]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request cost."""

    prompt_tokens: int
    completion_tokens: int

    def fields(self) -> dict[str, int]:
        """Return it as OpenAI writes it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


def completion(
    *,
    id: str,  # noqa: A002 - the field's own name
    model: str,
    created: int,
    text: str,
    finish_reason: FinishReason,
    usage: Usage,
) -> bytes:
    """Return a whole answer; `id` is the one that the caller sees ("chatcmpl-...")."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    head = _head(id, "chat.completion", created, model)
    return orjson.dumps({**head, "choices": [choice], "usage": usage.fields()})


class ChunkEncoder:
    """One stream's chunks, each a complete frame.

    A stream is `first`, any number of `text`, `last`, then `usage` if it was asked for, then
    `DONE`; one that fails ends in `error_frame` instead, wherever it is.
    """

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the field's own name
        model: str,
        created: int,
        include_usage: bool,
    ) -> None:
        self._head = _head(id, "chat.completion.chunk", created, model)
        # With the usage asked for, the chunks before it say that it is not there yet.
        self._tail: dict[str, Any] = {"usage": None} if include_usage else {}
        before, after = self._chunk({"content": ""}).split(b'"content":""')
        self._before_text = before + b'"content":'
        self._after_text = after

    def first(self) -> bytes:
        """Return the chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def text(self, text: str) -> bytes:
        """Return the chunk of a piece of the answer."""
        return self._before_text + orjson.dumps(text) + self._after_text

    def last(self, finish_reason: FinishReason) -> bytes:
        """Return the chunk that says why the answer ends."""
        return self._chunk({}, finish_reason)

    def usage(self, usage: Usage) -> bytes:
        """Return the chunk that follows the last one when the usage was asked for."""
        return _frame({**self._head, "choices": [], "usage": usage.fields()})

    def _chunk(self, delta: dict[str, Any], finish_reason: FinishReason | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _frame({**self._head, "choices": [choice], **self._tail})


def error_frame(problem: Problem) -> bytes:
    """Return the frame that ends a stream which had begun when the error came.

    Its data is the body of the HTTP answer; OpenAI's clients raise an APIError from it.
    """
    return encode_event(problem.body.decode(), event="error")


def model_card(name: str, *, created: int) -> bytes:
    """Return the answer about one model."""
    return orjson.dumps(_card(name, created))


def model_list(names: Iterable[str], *, created: int) -> bytes:
    """Return the answer about all models."""
    return orjson.dumps({"object": "list", "data": [_card(name, created) for name in names]})


def _card(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "locktender"}


def _head(answer_id: str, kind: str, created: int, model: str) -> dict[str, Any]:
    return {
        "id": answer_id,
        "object": kind,
        "created": created,
        "model": model,
        "system_fingerprint": None,
    }


def _frame(fields: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"
