import traceback
from typing import Any

import orjson
import pytest

from locktender.core.errors import InvalidRequest
from locktender.core.request import (
    ChatInput,
    Feature,
    GenerationRequest,
    Message,
    Sampling,
)
from locktender.wire.openai import ModelBounds, generation_request, parse_chat_completion

_MESSAGES = [{"role": "user", "content": "hi"}]
_ALL = ModelBounds(100, 200, "able", frozenset(Feature))
_NONE = ModelBounds(100, 200, "plain", frozenset())


def _body(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "messages": _MESSAGES, **fields})


def _accepted(**fields: Any) -> GenerationRequest:
    return generation_request(parse_chat_completion(_body(**fields)), _ALL, id="1")


def _refused(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        parse_chat_completion(body)
    return raised.value


def test_the_smallest_body_takes_the_model_s_defaults() -> None:
    assert _accepted() == GenerationRequest(
        id="1",
        model="m",
        input=ChatInput((Message("user", "hi"),)),
        max_tokens=100,
        is_default_max_tokens=True,
    )


def test_every_setting_reaches_the_request() -> None:
    request = _accepted(
        max_completion_tokens=7,
        temperature=0,
        top_p=0.5,
        seed=3,
        top_k=4,
        min_p=0.25,
        repetition_penalty=1.5,
        stop=["a", "b"],
        n=1,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert request.max_tokens == 7
    assert not request.is_default_max_tokens
    assert request.sampling == Sampling(0.0, 0.5, 3, top_k=4, min_p=0.25, repetition_penalty=1.5)
    assert request.stop == ("a", "b")
    assert request.stream


def test_null_means_the_default_for_every_setting() -> None:
    names = "max_tokens max_completion_tokens temperature top_p seed stop n stream stream_options"
    names += " top_k min_p repetition_penalty"
    assert _accepted(**dict.fromkeys(names.split())) == _accepted()


def test_settings_that_do_not_change_the_text_are_passed_over() -> None:
    ignored = "user metadata store service_tier parallel_tool_calls"
    ignored += " prompt_cache_key safety_identifier prediction"
    assert _accepted(**{name: {"a": ["b"]} for name in ignored.split()}) == _accepted()


@pytest.mark.parametrize(
    "name", ["something_new", "temprature", "asked_max_tokens", "settings", ""]
)
def test_a_field_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not known here") as raised:
        _accepted(**{name: 1})
    assert raised.value.param == name


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("max_tokens", -5, "`max_tokens` must be an integer of 1 or more, not -5."),
        ("max_tokens", 0, "`max_tokens` must be an integer of 1 or more, not 0."),
        ("max_tokens", "12", '`max_tokens` must be an integer of 1 or more, not "12".'),
        ("max_tokens", 5.0, "`max_tokens` must be an integer of 1 or more, not 5.0."),
        ("max_tokens", True, "`max_tokens` must be an integer of 1 or more, not true."),
        ("max_completion_tokens", [], None),
        ("temperature", 2.1, "`temperature` must be a number from 0 to 2, not 2.1."),
        ("temperature", -1, "`temperature` must be a number from 0 to 2, not -1."),
        ("temperature", "1", '`temperature` must be a number from 0 to 2, not "1".'),
        ("temperature", True, "`temperature` must be a number from 0 to 2, not true."),
        ("top_p", 0, "`top_p` must be a number above 0 and up to 1, not 0."),
        ("top_p", 1.5, "`top_p` must be a number above 0 and up to 1, not 1.5."),
        ("seed", 2**63, "`seed` must be a 64-bit integer, not 9223372036854775808."),
        ("seed", 1.5, "`seed` must be a 64-bit integer, not 1.5."),
        ("top_k", -2, "`top_k` must be an integer of 1 or more; 0 or -1 for all, not -2."),
        ("top_k", 1.0, None),
        ("min_p", 1.1, "`min_p` must be a number from 0 to 1, not 1.1."),
        ("repetition_penalty", 0, None),
        (
            "repetition_penalty",
            1e-300,
            "`repetition_penalty` must be a number from 0.01 to 100, not 1e-300.",
        ),
        ("n", 2, "`n` must be 1, not 2."),
        ("n", 10**18, "`n` must be 1, not 1000000000000000000."),
        ("n", True, "`n` must be 1, not true."),
        ("stream", "yes", '`stream` must be true or false, not "yes".'),
        ("stream_options", 5, "`stream_options` must be an object, not 5."),
        ("model", "", '`model` must be a string of 1 to 256 characters, not "".'),
        ("model", None, "`model` must be a string of 1 to 256 characters, not null."),
        ("model", "x" * 257, None),
        ("messages", None, "`messages` must be a list of 1 to 2000 messages, not null."),
        ("messages", [], "`messages` must be a list of 1 to 2000 messages, not a list of 0."),
        ("messages", _MESSAGES * 2001, None),
        ("messages", {}, "`messages` must be a list of 1 to 2000 messages, not an object."),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence_that_names_its_field(
    field: str, value: object, sentence: str | None
) -> None:
    error = _refused(_body(**{field: value}))
    assert error.param == field
    assert sentence is None or error.message == sentence


@pytest.mark.parametrize(
    ("message", "param", "sentence"),
    [
        (3, "messages[1]", "must be an object with a role and a content, not 3."),
        ({"content": "x"}, "messages[1].role", "is missing."),
        ({"role": "user"}, "messages[1].content", "is missing."),
        (
            {"role": "tool", "content": "x", "tool_call_id": "1"},
            "messages[1].role",
            'must be system, developer, user or assistant, not "tool".',
        ),
    ],
)
def test_a_wrong_message_is_refused_with_its_place(
    message: object, param: str, sentence: str
) -> None:
    error = _refused(_body(messages=[*_MESSAGES, message]))
    assert error.param == param
    assert error.message == f"`{param}` {sentence}"


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_called_missing(field: str) -> None:
    fields = {"model": "m", "messages": _MESSAGES}
    del fields[field]
    assert _refused(orjson.dumps(fields)).message == f"`{field}` is missing."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{} {}",
        b'{"model": NaN}',
        b'{"model": Infinity}',
        b'{"temperature": 1e999}',
        b'{"seed": 1' + b"0" * 5000 + b"}",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b'{"model": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    assert _refused(body).message == "The body is not valid JSON."


@pytest.mark.parametrize(
    ("body", "shown"), [(b"[1]", "a list of 1"), (b"null", "null"), (b'"x"', '"x"'), (b"5", "5")]
)
def test_what_is_not_an_object_is_refused(body: bytes, shown: str) -> None:
    assert _refused(body).message == f"The body must be a JSON object, not {shown}."


@pytest.mark.parametrize("field", ["messages", "max_tokens", "stop", "stream_options", "tools"])
def test_the_deepest_nesting_that_is_json_is_refused_wherever_it_stands(field: str) -> None:
    nested = b"[" * 1000 + b"]" * 1000
    body = _body()[:-1] + b',"' + field.encode() + b'":' + nested + b"}"
    with pytest.raises(InvalidRequest) as raised:
        generation_request(parse_chat_completion(body), _ALL, id="1")
    assert raised.value.param


@pytest.mark.parametrize("seed", [99999999999999999999999999, -(2**63) - 1])
def test_an_integer_beyond_64_bits_is_refused(seed: int) -> None:
    assert _refused(_body()[:-1] + f',"seed":{seed}}}'.encode()).param == "seed"


def test_a_long_wrong_value_is_quoted_in_short() -> None:
    assert len(_refused(_body(temperature="x" * 100_000)).message) < 120


def test_the_cause_of_a_refusal_does_not_quote_the_caller() -> None:
    error = _refused(_body(messages=[{"role": "user", "content": ["my secret"]}, "my secret"]))
    assert error.__cause__ is not None
    assert "my secret" not in "".join(traceback.format_exception(error))


def test_a_developer_speaks_as_the_system() -> None:
    turns = [{"role": role, "content": role} for role in ("developer", "system", "assistant")]
    assert _accepted(messages=turns).input == ChatInput(
        (
            Message("system", "developer"),
            Message("system", "system"),
            Message("assistant", "assistant"),
        )
    )


def test_whose_turn_it_is_is_kept() -> None:
    turns = [{"role": "user", "content": "hi", "name": name} for name in ("ann", None)]
    assert _accepted(messages=turns).input == ChatInput(
        (Message("user", "hi", "ann"), Message("user", "hi"))
    )
    for name in (5, "x" * 65):
        error = _refused(_body(messages=[{**turns[0], "name": name}]))
        assert error.param == "messages[0].name"


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking"])
@pytest.mark.parametrize("content", [None, "", [{"type": "thinking", "thinking": "Hm."}]])
def test_a_turn_in_which_a_model_has_only_thought_is_one_without_text(
    field: str, content: object
) -> None:
    turn = {"role": "assistant", "content": content, field: "Hm."}
    assert _accepted(messages=[*_MESSAGES, turn]).input == ChatInput(
        (Message("user", "hi"), Message("assistant", ""))
    )
    assert _refused(_body(messages=[{"role": "user", "content": None}])).param


def test_both_names_of_max_tokens_may_be_given_when_they_agree() -> None:
    assert _accepted(max_tokens=5, max_completion_tokens=5).max_tokens == 5
    error = _refused(_body(max_tokens=5, max_completion_tokens=6))
    assert error.param == "max_completion_tokens"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_more_than_the_model_s_maximum_is_refused_and_the_maximum_named(name: str) -> None:
    assert _accepted(**{name: 200}).max_tokens == 200
    with pytest.raises(InvalidRequest) as raised:
        _accepted(**{name: 201})
    assert raised.value.param == name
    assert raised.value.message == f"`{name}` must be at most 200 for this model, not 201."


def test_stream_options_without_a_stream_are_refused() -> None:
    for fields in ({}, {"stream": False}):
        error = _refused(_body(stream_options={"include_usage": True}, **fields))
        assert error.param == "stream_options"


@pytest.mark.parametrize(
    ("options", "include_usage"),
    [
        (None, False),
        ({}, False),
        ({"include_usage": None}, False),
        ({"include_usage": False}, False),
        ({"include_usage": True, "include_obfuscation": False}, True),
    ],
)
def test_usage_in_a_stream_is_asked_for(options: object, *, include_usage: bool) -> None:
    body = parse_chat_completion(_body(stream=True, stream_options=options))
    assert body.include_usage is include_usage


@pytest.mark.parametrize(
    ("seed", "engine_seed"), [(0, 0), (-1, 2**64 - 1), (-(2**63), 2**63), (2**63 - 1, 2**63 - 1)]
)
def test_every_64_bit_seed_becomes_an_unsigned_one_of_its_own(seed: int, engine_seed: int) -> None:
    assert _accepted(seed=seed).sampling.seed == engine_seed


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63 - 1, -(2**63)])
def test_a_seed_that_an_engine_would_cut_short_is_refused(seed: int) -> None:
    for fine in (0, 7, 2**32 - 1):
        body = parse_chat_completion(_body(seed=fine))
        assert generation_request(body, _NONE, id="1").sampling.seed == fine
    with pytest.raises(InvalidRequest) as raised:
        generation_request(parse_chat_completion(_body(seed=seed)), _NONE, id="1")
    assert raised.value.param == "seed"
    assert raised.value.message == (
        f"`seed` must be from 0 to 4294967295 for the engine `plain`, not {seed}; "
        "leave it out to get another text each time."
    )


def test_settings_too_small_for_an_engine_s_numbers_mean_the_likeliest_token() -> None:
    assert _accepted(temperature=1e-300).sampling.temperature == 0
    assert _accepted(temperature=-0.0).sampling.temperature == 0
    assert _accepted(top_p=1e-300).sampling.top_p == 1e-6
