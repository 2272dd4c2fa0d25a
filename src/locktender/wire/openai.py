"""Read what a caller sends to ``/v1/chat/completions``.

The only way from a wire body to a `GenerationRequest`: what passes here has the types and ranges
that the rest of the house relies on, and what does not is an `InvalidRequest` whose sentence names
the field.  As strict as OpenAI's own service: "12" is no number, true and 5.0 are no integers.

Settings that do not change the text (user, metadata, store, service_tier and the like) are passed
over; those that would, and that the model's engine does not obey, are refused by the table in
`wire.openai_setting`, and so are those that nobody knows.  Whether a model exists, and whether the
prompt fits its context, is decided further down.  Answers are written by `wire.openai_reply`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    model_validator,
)

from locktender.core.errors import InvalidRequest
from locktender.core.request import ChatInput, Feature, GenerationRequest, Message, Sampling
from locktender.wire.openai_field import Absent, read_part, shown, stop_strings, text_said
from locktender.wire.openai_setting import SETTINGS, not_known, refuse_unsupported

__all__ = [
    "MAX_MESSAGES",
    "ChatCompletionBody",
    "ChatMessageBody",
    "ModelBounds",
    "StreamOptionsBody",
    "StrictModel",
    "chat_input",
    "generation_request",
    "parse_body",
    "parse_chat_completion",
]

MAX_MESSAGES = 2000
_MAX_MODEL_CHARACTERS = 256
_MAX_NAME_CHARACTERS = 64
_NAME = f"a string of at most {_MAX_NAME_CHARACTERS} characters"
# Engines compute in float32, where logits divided by less than this overflow, and where a smaller
# share than the second is 0.  Both mean the likeliest token and nothing else.
_GREEDY_BELOW_TEMPERATURE = 1e-5
_MIN_TOP_P = 1e-6
_MIN_PENALTY = 0.01  # what is divided by less overflows as well
_MAX_TOP_K = 2**31 - 1
_SHORT_SEEDS = 2**32  # of engines that have no `Feature.LONG_SEED`

_MaxTokens = Annotated[int | None, Field(ge=1, description="an integer of 1 or more")]


class StrictModel(BaseModel):
    """A body, or a part of one."""

    # What a caller wrote does not belong into a log, where the cause of a refusal goes.
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )


class ChatMessageBody(StrictModel):
    """One message; its content is already plain text.

    What a model has thought in a turn of its own (`reasoning`, `reasoning_content`, `thinking`) is
    left out, and so are notes beside a message, such as its id.  What nobody knows is refused.
    """

    # In the OpenAPI document notes stay allowed.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"additionalProperties": True})

    _leave_out_notes = model_validator(mode="before")(read_part)

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="system, developer, user or assistant",
    )
    content: Annotated[str, BeforeValidator(text_said)]
    name: str | None = Field(None, max_length=_MAX_NAME_CHARACTERS, description=_NAME)
    # Without these the chat would read differently: turns of an assistant that called tools or
    # refused, those that bring tools, and what services show to a model beside the text.
    audio: Absent = None
    refusal: Absent = None
    function_call: Absent = None
    tool_calls: Absent = None
    tool_call_id: Absent = None
    tool_plan: Absent = None
    tools: Absent = None
    images: Absent = None
    image_url: Absent = None
    video: Absent = None
    input_audio: Absent = None
    documents: Absent = None
    files: Absent = None
    attachments: Absent = None
    # A turn that is to be gone on with, by the names of Mistral and DeepSeek, and of Qwen.
    prefix: Absent = None
    partial: Absent = None
    continue_final_message: Absent = None


class StreamOptionsBody(StrictModel):
    """What a stream carries beside the text."""

    include_usage: bool | None = Field(None, description="true or false")


class ChatCompletionBody(StrictModel):
    """A valid request for a chat completion.  The descriptions end up in refusals."""

    # What is not named here is kept until it is known which engine it is for.
    model_config = ConfigDict(extra="allow")

    model: str = Field(
        min_length=1,
        max_length=_MAX_MODEL_CHARACTERS,
        description=f"a string of 1 to {_MAX_MODEL_CHARACTERS} characters",
    )
    messages: Annotated[list[ChatMessageBody], FailFast()] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"a list of 1 to {MAX_MESSAGES} messages",
    )
    max_tokens: _MaxTokens = None
    max_completion_tokens: _MaxTokens = None  # OpenAI's newer name for the same
    temperature: float | None = Field(None, ge=0, le=2, description="a number from 0 to 2")
    top_p: float | None = Field(None, gt=0, le=1, description="a number above 0 and up to 1")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="a 64-bit integer")
    stop: Annotated[tuple[str, ...], BeforeValidator(stop_strings)] = ()
    top_k: int | None = Field(
        None, ge=-1, le=_MAX_TOP_K, description="an integer of 1 or more; 0 or -1 for all"
    )
    min_p: float | None = Field(None, ge=0, le=1, description="a number from 0 to 1")
    repetition_penalty: float | None = Field(
        None, ge=_MIN_PENALTY, le=100, description=f"a number from {_MIN_PENALTY} to 100"
    )
    n: int | None = Field(None, ge=1, le=1, description="1")
    stream: bool | None = Field(None, description="true or false")
    stream_options: StreamOptionsBody | None = Field(None, description="an object")

    @property
    def include_usage(self) -> bool:
        """Whether the stream's last chunk is to carry the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def asked_max_tokens(self) -> int | None:
        """The caller's limit, under whichever name it came."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `refuse_unsupported` is to see: the fields of the table, and what has no field."""
        known = {name: getattr(self, name) for name in type(self).model_fields if name in SETTINGS}
        return {**(self.model_extra or {}), **known}


_Body = TypeVar("_Body", bound=StrictModel)


def parse_chat_completion(body: bytes) -> ChatCompletionBody:
    """Validate a body.  Raises: InvalidRequest, and nothing else, for whatever bytes."""
    parsed = parse_body(ChatCompletionBody, body)
    _refuse_contradictions(parsed)
    return parsed


def parse_body(kind: type[_Body], body: bytes) -> _Body:
    """Validate a body of that kind.  Raises: InvalidRequest, and nothing else."""
    try:
        # Refuses invalid UTF-8, lone surrogates, NaN and nesting deeper than 1,024.
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = "The body is not valid JSON."
        raise InvalidRequest(message) from error
    if not isinstance(fields, dict):
        message = f"The body must be a JSON object, not {shown(fields)}."
        raise InvalidRequest(message)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise _refusal(error, kind) from error


@dataclass(frozen=True, slots=True)
class ModelBounds:
    """What one model takes, and its engine obeys."""

    default_max_tokens: int  # not above `max_tokens`
    max_tokens: int
    engine: str  # its name, for refusals
    features: frozenset[Feature]


def generation_request(
    body: ChatCompletionBody,
    bounds: ModelBounds,
    *,
    id: str,  # noqa: A002 - the field's own name
) -> GenerationRequest:
    """Apply what the model takes.

    Raises: InvalidRequest for a setting beyond it, or one that its engine does not obey.
    """
    asked = body.asked_max_tokens
    if asked is not None and asked > bounds.max_tokens:
        name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
        message = f"`{name}` must be at most {bounds.max_tokens} for this model, not {asked}."
        raise InvalidRequest(message, name)
    refuse_unsupported(body.settings, bounds.engine, bounds.features)
    _refuse_long_seed(body.seed, bounds)
    return GenerationRequest(
        id=id,
        model=body.model,
        input=chat_input(body.messages),
        max_tokens=bounds.default_max_tokens if asked is None else asked,
        sampling=_sampling(body),
        stop=body.stop,
        stream=bool(body.stream),
        is_default_max_tokens=asked is None,
    )


def chat_input(messages: Sequence[ChatMessageBody]) -> ChatInput:
    """Return the chat that is meant; a developer speaks as the system."""
    return ChatInput(
        tuple(
            Message("system" if each.role == "developer" else each.role, each.content, each.name)
            for each in messages
        )
    )


def _sampling(body: ChatCompletionBody) -> Sampling:
    temperature = 1.0 if body.temperature is None else body.temperature
    top_p = 1.0 if body.top_p is None else body.top_p
    return Sampling(
        temperature=0.0 if temperature < _GREEDY_BELOW_TEMPERATURE else temperature,
        top_p=max(top_p, _MIN_TOP_P),
        seed=None if body.seed is None else body.seed % 2**64,  # engines take unsigned ones
        top_k=max(body.top_k or 0, 0),
        min_p=body.min_p or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
    )


def _refuse_long_seed(seed: int | None, bounds: ModelBounds) -> None:
    """Refuse what an engine would cut short: two seeds would be one."""
    if seed is None or 0 <= seed < _SHORT_SEEDS or Feature.LONG_SEED in bounds.features:
        return
    message = (
        f"`seed` must be from 0 to {_SHORT_SEEDS - 1} for the engine `{bounds.engine}`, "
        f"not {seed}; leave it out to get another text each time."
    )
    raise InvalidRequest(message, "seed")


def _refuse_contradictions(body: ChatCompletionBody) -> None:
    if None not in (body.max_tokens, body.max_completion_tokens) and (
        body.max_tokens != body.max_completion_tokens
    ):
        message = "`max_tokens` and `max_completion_tokens` must be equal when both are given."
        raise InvalidRequest(message, "max_completion_tokens")
    if body.stream_options is not None and not body.stream:
        message = "`stream_options` is only allowed when `stream` is true."
        raise InvalidRequest(message, "stream_options")


def _refusal(error: ValidationError, kind: type[StrictModel]) -> InvalidRequest:
    """Make one sentence of the first thing that is wrong."""
    first = error.errors(include_url=False)[0]
    param = _path(first["loc"])
    if first["type"] == "missing":
        return InvalidRequest(f"`{param}` is missing.", param)
    if first["type"] == "value_error":
        return InvalidRequest(f"`{param}` {first['ctx']['error']}.", param)
    if first["type"] == "extra_forbidden":
        *place, name = first["loc"]
        return not_known(str(name), ChatMessageBody.model_fields, _path(place))
    parts = (ChatMessageBody, StreamOptionsBody, kind)
    told = (part.model_fields.get(str(first["loc"][-1])) for part in parts)
    expected = next((field.description for field in told if field), None)
    expected = expected or "an object with a role and a content"
    return InvalidRequest(f"`{param}` must be {expected}, not {shown(first['input'])}.", param)


def _path(steps: Sequence[int | str]) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return path.removeprefix(".")
