"""Read and write what crosses the socket at ``/tokenize``, in the shape of vLLM's.

A prompt comes in, or a chat as of a chat completion; its tokens go out, how many they are, and how
many the model takes.  What would make a chat another one is refused by the table of settings
(`wire.openai_setting`).  The client's side is in `wire.openai_answer`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import ConfigDict, Field

from locktender.core.errors import InvalidRequest
from locktender.wire.openai import MAX_MESSAGES, ChatMessageBody, StrictModel, parse_body

__all__ = ["TokenizeBody", "parse_tokenize", "tokenize_reply"]


class TokenizeBody(StrictModel):
    """A valid request for the tokens of a prompt, or of a chat."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="a string")
    prompt: str | None = Field(None, description="a string")
    messages: list[ChatMessageBody] | None = Field(
        None,
        fail_fast=True,
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"a list of 1 to {MAX_MESSAGES} messages",
    )
    # Those that the tokenizer puts around a prompt; to a chat its template has written them.
    add_special_tokens: bool | None = Field(None, description="true or false")
    return_token_strs: Literal[False] | None = Field(None, description="false")

    @property
    def n_characters(self) -> int:
        """How long the text is, or the texts of the chat are together."""
        texts = [each.content for each in self.messages or ()]
        return sum(map(len, texts if self.prompt is None else [self.prompt]))

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `refuse_unsupported` is to see: what has no field here."""
        return self.model_extra or {}


def parse_tokenize(body: bytes) -> TokenizeBody:
    """Validate a body.  Raises: InvalidRequest, and nothing else, for whatever bytes."""
    parsed = parse_body(TokenizeBody, body)
    if (parsed.prompt is None) == (parsed.messages is None):
        raise InvalidRequest("Send either `prompt` or `messages`.", "prompt")
    if parsed.messages is not None and parsed.add_special_tokens:
        message = "`add_special_tokens` is for a `prompt`: a chat's are those of its template."
        raise InvalidRequest(message, "add_special_tokens")
    return parsed


def tokenize_reply(ids: Sequence[int], context_tokens: int) -> bytes:
    """Return the answer."""
    fields = {
        "count": len(ids),
        "max_model_len": context_tokens,
        "tokens": ids,
        "token_strs": None,
    }
    return orjson.dumps(fields)
