from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from locktender.core.errors import InvalidRequest
from locktender.core.request import Feature
from locktender.wire.openai import ChatCompletionBody
from locktender.wire.openai_setting import (
    SETTINGS,
    WITHOUT_EFFECT,
    is_known,
    refuse_unsupported,
)

_EVERY = frozenset(Feature)
OPENAI = {*CompletionCreateParamsBase.__annotations__, "stream"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio", {}),
        ("best_of", 2),
        ("chat_template", "{{ messages }}"),
        ("echo", True),
        ("format", "json"),
        ("format", {"type": "object"}),
        ("frequency_penalty", 0.1),
        ("frequency_penalty", False),
        ("enable_thinking", False),
        ("function_call", {"name": "f"}),
        ("functions", [{"name": "f"}]),
        ("guided_choice", ["yes", "no"]),
        ("ignore_eos", True),
        ("ignore_eos", 1),
        ("include_reasoning", False),
        ("logit_bias", {"50256": -100}),
        ("logprobs", True),
        ("logprobs", 0),
        ("min_tokens", 5),
        ("mirostat", 2),
        ("modalities", ["text", "audio"]),
        ("moderation", {"model": "x"}),
        ("options", {"temperature": 0.2}),
        ("presence_penalty", -2),
        ("reasoning_budget", 0),
        ("reasoning_effort", "none"),
        ("reasoning_format", "deepseek"),
        ("response_format", {"type": "json_object"}),
        ("safe_prompt", True),
        ("think", False),
        ("tool_choice", "required"),
        ("tools", [{"type": "function"}]),
        ("top_logprobs", 5),
        ("web_search_options", {}),
    ],
)
def test_a_setting_that_no_engine_obeys_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as raised:
        refuse_unsupported({field: value}, "able", _EVERY)
    assert raised.value.param == field
    assert raised.value.message == (
        f"`{field}` is not supported by the engine `able` of this model: leave it out."
    )


@pytest.mark.parametrize("name", ["top_k", "min_p", "repetition_penalty"])
def test_a_setting_that_only_some_engines_obey_needs_their_feature(name: str) -> None:
    feature = SETTINGS[name].feature
    assert feature
    refuse_unsupported({name: 0.5}, "able", frozenset({feature}))
    with pytest.raises(InvalidRequest, match=f"`{name}` is not supported by the engine `plain`"):
        refuse_unsupported({name: 0.5}, "plain", _EVERY - {feature})


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("repeat_penalty", "repetition_penalty"),
        ("max_new_tokens", "max_tokens"),
        ("num_predict", "max_tokens"),
        ("stop_sequences", "stop"),
    ],
)
def test_another_familys_name_is_refused_with_the_one_that_is_known_here(
    name: str, instead: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"of this model: send `{instead}`.$"):
        refuse_unsupported({name: 1.5}, "able", _EVERY)


@pytest.mark.parametrize("name", ["repeat_penalty", "repetiton_penalty"])
def test_no_refusal_advises_what_is_refused_too(name: str) -> None:
    obeyed = frozenset({Feature.REPETITION_PENALTY})
    with pytest.raises(InvalidRequest, match="`repetition_penalty`"):
        refuse_unsupported({name: 1.5}, "able", obeyed)
    with pytest.raises(InvalidRequest, match=r": leave it out\.$"):
        refuse_unsupported({name: 1.5}, "plain", _EVERY - obeyed)


def test_what_is_to_be_sent_instead_is_a_field() -> None:
    known = {setting.instead for setting in SETTINGS.values()} - {""}
    assert known <= set(ChatCompletionBody.model_fields)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_value_that_asks_for_nothing_is_let_through(name: str) -> None:
    for neutral in (None, *SETTINGS[name].neutral):
        refuse_unsupported({name: neutral}, "plain", frozenset())


@pytest.mark.parametrize(
    ("name", "value"),
    [("repetition_penalty", 1.0), ("top_k", -1), ("top_k", 0.0), ("presence_penalty", 0.0)],
)
def test_numbers_are_compared_as_numbers(name: str, value: object) -> None:
    refuse_unsupported({name: value}, "plain", frozenset())


def test_the_first_of_several_is_named_by_the_table_and_not_by_chance() -> None:
    fields: dict[str, Any] = {"tools": [1], "mirostat": 1, "min_tokens": 3}
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="`mirostat`"):
            refuse_unsupported(dict(reversed(fields.items())), "plain", frozenset())


def test_no_setting_has_an_effect_and_none() -> None:
    assert not SETTINGS.keys() & WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temprature", "did you mean `temperature`?"),
        ("max_token", "did you mean `max_tokens`?"),
        ("repetiton_penalty", "did you mean `repetition_penalty`?"),
        ("quantum_foam", "leave it out."),
    ],
)
def test_what_nobody_knows_is_refused_with_the_name_that_was_meant(name: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        refuse_unsupported({"user": "ann", name: 0}, "able", _EVERY)
    assert (raised.value.param, raised.value.message) == (
        name,
        f"`{name}` is not known here: {hint}",
    )
    refuse_unsupported({name: None}, "able", _EVERY)


def test_a_name_without_an_end_is_refused_in_short() -> None:
    with pytest.raises(InvalidRequest) as raised:
        refuse_unsupported({"x" * 1_000_000: 1}, "able", _EVERY)
    assert len(raised.value.message) < 120


def test_every_field_of_openais_own_client_is_known() -> None:
    assert {name for name in OPENAI if not is_known(name)} == {
        *("model", "messages", "stream", "stream_options")
    }
