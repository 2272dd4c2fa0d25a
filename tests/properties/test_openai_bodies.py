from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from locktender.core.errors import InvalidRequest
from locktender.core.request import ChatInput, Feature
from locktender.wire.openai import ModelBounds, generation_request, parse_chat_completion

_MAX_TOKENS = 4096
_BOUNDS = ModelBounds(256, _MAX_TOKENS, "able", frozenset(Feature))
_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_NUMBER = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBER, _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXT, inner, max_size=4)),
    max_leaves=10,
)
_PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": _TEXT}),
    st.fixed_dictionaries({"type": st.sampled_from(["image_url", "refusal"])}),
    _JSON,
)
_MESSAGE = st.one_of(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
            "content": st.one_of(_TEXT, _TEXT, st.lists(_PART, max_size=3)),
        },
        optional={"name": _JSON, "tool_calls": _JSON},
    ),
    st.fixed_dictionaries({"role": st.just("user"), "content": _TEXT}),
)
_VALID: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 5000),
    "max_completion_tokens": st.integers(1, 5000),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1, exclude_min=True),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "top_k": st.integers(-1, 100),
    "min_p": st.floats(0, 1),
    "repetition_penalty": st.floats(0, 3, exclude_min=True),
    "stop": st.one_of(_TEXT, st.lists(_TEXT, max_size=5)),
    "n": st.just(1),
    "stream": st.just(value=True),
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
    "tools": st.just([]),
    "response_format": st.just({"type": "text"}),
    "logprobs": st.just(value=False),
    "user": _TEXT,
}
_BODY = st.fixed_dictionaries(
    {"model": st.text("ab", min_size=1), "messages": st.lists(_MESSAGE, min_size=1, max_size=3)},
    optional=_VALID,
)
_FIELD = st.sampled_from(["model", "messages", *_VALID])


def _check(body: bytes) -> None:
    """Parse `body`: whatever is not refused is a request whose ranges hold."""
    try:
        parsed = parse_chat_completion(body)
        request = generation_request(parsed, _BOUNDS, id="1")
    except InvalidRequest:
        return
    assert isinstance(request.input, ChatInput)
    assert 1 <= len(request.input.messages) <= 2000
    for message in request.input.messages:
        assert message.role in ("system", "user", "assistant")
        assert type(message.content) is str
    sampling = request.sampling
    assert type(request.max_tokens) is int
    assert 1 <= request.max_tokens <= _MAX_TOKENS
    assert type(sampling.temperature) is float
    assert sampling.temperature == 0 or 1e-5 <= sampling.temperature <= 2
    assert type(sampling.top_p) is float
    assert 0 < sampling.top_p <= 1
    assert sampling.seed is None or 0 <= sampling.seed < 2**64
    assert len(request.stop) <= 16
    assert all(1 <= len(string) <= 256 for string in request.stop)


@given(st.binary())
def test_any_bytes_are_refused_or_valid(body: bytes) -> None:
    _check(body)


@given(_JSON)
def test_any_json_is_refused_or_valid(value: object) -> None:
    _check(orjson.dumps(value))


@given(_BODY)
def test_a_body_of_mostly_valid_fields_is_refused_or_valid(fields: dict[str, Any]) -> None:
    _check(orjson.dumps(fields))


@given(_BODY, st.dictionaries(_FIELD, _JSON, max_size=3), st.sets(_FIELD, max_size=1))
def test_a_body_with_changed_and_missing_fields_is_refused_or_valid(
    fields: dict[str, Any], changes: dict[str, Any], missing: set[str]
) -> None:
    kept = {name: value for name, value in (fields | changes).items() if name not in missing}
    _check(orjson.dumps(kept))


@given(_BODY, st.integers(min_value=0), st.integers(0, 3), st.binary(max_size=3))
def test_a_body_with_changed_bytes_is_refused_or_valid(
    fields: dict[str, Any], place: int, n_lost: int, new: bytes
) -> None:
    body = orjson.dumps(fields)
    place %= len(body)
    _check(body[:place] + new + body[place + n_lost :])
