"""Read what a caller sends to a LangServe route, and write what it gets back.

Holds the shapes of the bodies and the bytes of the answers, to the letter of LangServe 0.3.3: the
order of keys, where a space stands, which line ends.  Of the input itself it knows nothing: that is
validated by the runnable's own schema, in `app.input`, and outputs come here as JSON already.
Which error becomes which status stands in `wire.problem`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from locktender.wire.feedback import FeedbackToken
from locktender.wire.json_tree import has_slow_arguments, is_deeper
from locktender.wire.problem import Problem
from locktender.wire.sse import encode_event

__all__ = [
    "END_FRAME",
    "BatchBody",
    "BatchRequestShallowValidator",
    "InvokeBody",
    "InvokeRequestShallowValidator",
    "RunNotes",
    "Unprocessable",
    "batch_answer",
    "broken_by_config",
    "chunk_frame",
    "error_details",
    "error_fields",
    "error_frame",
    "invoke_answer",
    "metachunk_frame",
    "parse_batch",
    "parse_invoke",
    "parse_json",
]

_Shallow = TypeVar("_Shallow", bound=BaseModel)
_NO_CONFIG: Mapping[str, Any] = {}
_NO_TOKENS = b"[]"
_LINE_END = "\r\n"
_UNREADABLE = ["Invalid JSON body"]
_SLOW = "The arguments of `tool_call_chunks` that are no whole JSON are too long to be completed."
_SHORT = 1024  # bytes, in which nothing is slow
# Without one of these there is no such chunk: its name, or a way to spell it otherwise.
_OF_CHUNKS = (b"AIMessageChunk", b"tool_call_chunks", b"\\u", b"\0")
_MAX_DEPTH = 320  # beyond some 490 those fail who look through a value by recursion
_MAX_SPELT_OUT = 1_000_000
_MAX_ERRORS = 1000  # of one input; a message for each of 100,000 takes half a second
_FRAME_END = b"\r\n\r\n"
_DATA = b"event: data\r\ndata: "
END_FRAME = b"event: end" + _FRAME_END  # LangServe's last event has no data


class Unprocessable(Exception):
    """A body that is answered 422; `detail` is what LangServe says of it."""

    def __init__(self, detail: object) -> None:
        super().__init__(detail)
        self.detail = detail


class InvokeRequestShallowValidator(BaseModel):
    """The outside of an invoke or stream body; callers read its name in errors."""

    input: Any
    config: dict[str, Any] | None = Field(default_factory=dict)


class BatchRequestShallowValidator(BaseModel):
    """The outside of a batch body; callers read its name in errors."""

    inputs: Any
    config: dict[str, Any] | list[dict[str, Any]] | None = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InvokeBody:
    """One input, not yet validated, and the config that its caller wishes for."""

    input: Any
    config: Mapping[str, Any]
    kwargs: Any = None  # of whatever type; LangServe does not look at them


@dataclass(frozen=True, slots=True)
class BatchBody:
    """Many inputs, and one config for all of them or one for each."""

    inputs: list[Any]
    config: Mapping[str, Any] | list[Mapping[str, Any]]
    kwargs: Any = None  # as an invoke's


@dataclass(frozen=True, slots=True)
class RunNotes:
    """What an answer tells of each of its runs beside the output; JSON already."""

    feedback_tokens: Sequence[bytes]
    callback_events: Sequence[bytes] | None  # None: the route does not tell of them


def parse_json(body: bytes) -> Any:
    """Read a body, whatever it holds.  Raises: Unprocessable."""
    tree = _parsed(body)
    if len(body) > _SHORT and any(mark in body for mark in _OF_CHUNKS) and has_slow_arguments(tree):
        raise Unprocessable(_SLOW)
    return tree


def _parsed(body: bytes) -> Any:
    if body.count(b"\\u") <= _MAX_SPELT_OUT:
        try:
            return from_json(body)
        except ValueError:
            pass
    # What is left is wrong, or it is what Python alone can read: UTF-16, half a surrogate pair,
    # what is nested more than 200 deep.  It also reads letters that are spelt out in a third of
    # the time, in which nobody else is served.
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unprocessable(_UNREADABLE) from error
    if is_deeper(tree, _MAX_DEPTH):
        raise Unprocessable(_UNREADABLE)
    return tree


def parse_invoke(body: bytes) -> InvokeBody:
    """Read the body of an invoke or a stream.  Raises: Unprocessable."""
    fields = parse_json(body)
    if isinstance(fields, dict) and "input" in fields and "config" not in fields:
        return InvokeBody(fields["input"], _NO_CONFIG, fields.get("kwargs"))  # most bodies
    shallow = _checked(InvokeRequestShallowValidator, fields)
    return InvokeBody(shallow.input, shallow.config or _NO_CONFIG, fields.get("kwargs"))


def parse_batch(body: bytes) -> BatchBody:
    """Read the body of a batch.  Raises: Unprocessable."""
    fields = parse_json(body)
    shallow = _checked(BatchRequestShallowValidator, fields)
    if shallow.config is None:
        raise Unprocessable("Value for 'config' key must be a dict or list if provided")
    if not isinstance(shallow.inputs, list):
        raise Unprocessable(
            [
                {
                    "type": "list_type",
                    "loc": ["inputs"],
                    "msg": "Input should be a valid list",
                    "input": shallow.inputs,
                }
            ]
        )
    config = shallow.config
    kwargs = fields.get("kwargs")
    return BatchBody(shallow.inputs, list(config) if isinstance(config, list) else config, kwargs)


def error_details(error: ValidationError, *at: str | int) -> list[dict[str, Any]]:
    """Return what LangServe tells of a failed validation, with `at` before each place."""
    n_errors = error.error_count()
    if n_errors > _MAX_ERRORS:
        message = f"Input has {n_errors:,} errors, and no more than {_MAX_ERRORS:,} are told"
        return [{"type": "too_many_errors", "loc": [*at], "msg": message}]
    details = []
    for entry in error.errors():
        detail: dict[str, Any] = {**entry, "loc": [*at, *entry["loc"]]}
        if isinstance(detail.get("ctx", {}).get("error"), Exception):
            detail["ctx"] = {**detail["ctx"], "error": {}}
        details.append(detail)
    return details


def broken_by_config(error: ValidationError) -> Unprocessable:
    """Return the refusal of a config with which the runnable cannot be made.

    What was validated is not told: it is the runnable's own fields, of which some may be secret.
    """
    details = error_details(error)
    return Unprocessable(
        [{key: told for key, told in each.items() if key != "input"} for each in details]
    )


def invoke_answer(output: bytes, run_id: str, notes: RunNotes | None = None) -> bytes:
    """Return the body of an invoke's answer."""
    if notes is None:
        return b'{"output":%b,"metadata":%b}' % (output, _response_metadata(run_id))
    metadata = _response_metadata(run_id, notes.feedback_tokens[0])
    events = notes.callback_events
    told = b"" if events is None else b',"callback_events":%b' % events[0]
    return b'{"output":%b,"metadata":%b%b}' % (output, metadata, told)


def batch_answer(
    outputs: Sequence[bytes], run_ids: Sequence[str], notes: RunNotes | None = None
) -> bytes:
    """Return the body of a batch's answer."""
    tokens = [_NO_TOKENS] * len(run_ids) if notes is None else notes.feedback_tokens
    events = None if notes is None else notes.callback_events
    return b'{"output":[%b],"metadata":{"responses":[%b],"run_ids":%b}%b}' % (
        b",".join(outputs),
        b",".join(map(_response_metadata, run_ids, tokens)),
        orjson.dumps(list(run_ids)),
        b"" if events is None else b',"callback_events":[%b]' % b",".join(events),
    )


def metachunk_frame(run_id: str, tokens: Sequence[FeedbackToken] | None = None) -> bytes:
    """Return the event that names the run; it goes before the first chunk."""
    if tokens is None:
        return f'event: metadata\r\ndata: {{"run_id": "{run_id}"}}\r\n\r\n'.encode()
    fields = {"run_id": run_id, "feedback_tokens": [asdict(token) for token in tokens]}
    told = json.dumps(fields, default=datetime.isoformat)
    return encode_event(told, event="metadata", line_end=_LINE_END)


def chunk_frame(chunk: bytes) -> bytes:
    """Return the event of one chunk, which is JSON."""
    if b"\n" in chunk or b"\r" in chunk:  # a serializer of the user's may indent
        return encode_event(chunk.decode(), event="data", line_end=_LINE_END)
    return _DATA + chunk + _FRAME_END


def error_frame(problem: Problem) -> bytes:
    """Return the event of an error that comes too late to be a status."""
    return encode_event(json.dumps(error_fields(problem)), event="error", line_end=_LINE_END)


def error_fields(problem: Problem) -> dict[str, Any]:
    """Return what is told of an error within a stream."""
    told = orjson.loads(problem.body)
    fields = {"status_code": problem.status, "message": told["message"]}
    return {**fields, "code": told["code"]} if "code" in told else fields


def _response_metadata(run_id: str, tokens: bytes = _NO_TOKENS) -> bytes:
    return b'{"run_id":"%b","feedback_tokens":%b}' % (run_id.encode(), tokens)


def _checked(model: type[_Shallow], fields: object) -> _Shallow:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise Unprocessable(error_details(error)) from error
