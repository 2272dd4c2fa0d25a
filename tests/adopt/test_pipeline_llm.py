"""Every option of a pipeline's call counts, and the answers are those of the plain object."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.pipe import job_of
from locktender.adopt.call import Call
from locktender.adopt.pipeline_llm import (
    last_chunk,
    stream_head,
    text_generation,
    text_settings,
    text_task,
)
from locktender.adopt.text_pipeline import Completion
from locktender.core.errors import InvalidRequest

PROMPT = "Once upon a time"
ANSWER = Completion(
    text=f"{PROMPT}, a lock",
    new_text=", a lock",
    prompt_tokens=4,
    n_tokens=3,
    finish_reason="length",
)
FACTS = {
    "finish_reason": "length",
    "model_name": "a-model",
    "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
}


@pytest.fixture(scope="module")
def llm(hf_folder: Path) -> Any:
    from langchain_huggingface import HuggingFacePipeline  # noqa: PLC0415 - it takes seconds
    from transformers import pipeline  # noqa: PLC0415 - it takes seconds

    pipe = pipeline(
        "text-generation", model=str(hf_folder), device="cpu", do_sample=False, max_new_tokens=6
    )
    return HuggingFacePipeline(pipeline=pipe)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"skip_prompt": True},
        {"pipeline_kwargs": {"return_full_text": False, "max_new_tokens": 3}},
        {"pipeline_kwargs": {"truncation": True, "max_length": 2}, "an_option_of_nobody": 1},
    ],
)
def test_the_text_is_the_plain_objects(llm: Any, kwargs: dict[str, Any]) -> None:
    assert text_generation(llm, _answer(llm, None, kwargs)).text == llm.invoke(PROMPT, **kwargs)


def test_an_option_given_directly_does_what_it_says(llm: Any) -> None:
    for name in ("max_new_tokens", "max_tokens"):
        answer = _answer(llm, None, {name: 2})
        assert (answer.n_tokens, answer.finish_reason) == (2, "length")
    whole, stop = _answer(llm, None, {}), [" of"]
    assert stop[0] in whole.new_text
    assert _answer(llm, stop, {}).new_text == whole.new_text.partition(stop[0])[0]


def test_a_stream_begins_with_the_prompt_if_it_is_not_to_be_skipped(llm: Any) -> None:
    prompt = "Hi<|im_end|> there"
    streamed = "".join(llm.stream(prompt, skip_prompt=False))
    assert streamed.startswith(stream_head(llm, prompt, {"skip_prompt": False}))
    assert stream_head(llm, prompt, {"skip_prompt": False}) == "Hi there"
    assert stream_head(llm, prompt, {}) == ""


def test_the_nearer_option_wins() -> None:
    llm = _llm(max_new_tokens=1, top_k=1, top_p=0.1, repetition_penalty=1.1)
    per_call = {"max_new_tokens": 3, "top_k": 3}
    kwargs = {"pipeline_kwargs": per_call, "max_new_tokens": 4}
    settings = text_settings(llm, None, kwargs, {"max_new_tokens": 2, "top_k": 2, "top_p": 0.2})
    assert dict(settings.parameters) == {
        "max_new_tokens": 4,
        "repetition_penalty": 1.1,
        "top_k": 3,
        "top_p": 0.2,
    }


@pytest.mark.parametrize(
    ("kwargs", "parameters"),
    [
        ({"temperature": 0}, {"do_sample": False}),
        ({"temperature": 0.0, "do_sample": True}, {"do_sample": False}),
        ({"temperature": 0.5}, {"do_sample": True, "temperature": 0.5}),
        ({"temperature": 0.5, "do_sample": False}, {"do_sample": False, "temperature": 0.5}),
        (
            {"temperature": 0.5, "pipeline_kwargs": {"do_sample": False}},
            {"do_sample": False, "temperature": 0.5},
        ),
        ({"pipeline_kwargs": {"temperature": 0.5}}, {"temperature": 0.5}),
        ({"pipeline_kwargs": {"temperature": 0}}, {"do_sample": False}),
        ({"temperature": None, "max_tokens": None}, {}),
        ({"max_tokens": 5, "max_new_tokens": 6}, {"max_new_tokens": 6}),
        ({"eos_token_id": [1, 2]}, {"eos_token_id": [1, 2]}),
        (
            {"pipeline_kwargs": {"tokenizer_encode_kwargs": {"padding": False}}},
            {"tokenizer_encode_kwargs": {"padding": False}},
        ),
        ({"min_p": 0.1, "metadata": {}, "_private": 1}, {"min_p": 0.1}),
        ({"pipeline_kwargs": {"batch_size": 4}}, {}),
        ({"skip_prompt": True}, {"return_full_text": False}),
    ],
)
def test_options_become_what_the_pipeline_knows(
    kwargs: dict[str, Any], parameters: dict[str, Any]
) -> None:
    assert dict(text_settings(_llm(), None, kwargs).parameters) == parameters


def test_what_the_pipeline_was_built_with_is_no_option_of_a_call() -> None:
    llm = _llm(dtype="float32", device_map="auto", trust_remote_code=True, max_new_tokens=2)
    assert text_settings(llm, None, {}).parameters == (("max_new_tokens", 2),)


def test_a_greedy_call_forgets_the_temperature_that_the_object_has() -> None:
    settings = text_settings(_llm(temperature=0.7, do_sample=True), None, {"temperature": 0})
    assert settings.parameters == (("do_sample", False),)


def test_stop_strings_and_a_seed_are_no_parameters() -> None:
    kwargs = {"seed": 3, "pipeline_kwargs": {"stop": "a"}}
    assert text_settings(_llm(), ["b", ""], kwargs).stop == ("b",)
    assert text_settings(_llm(), None, kwargs).stop == ("a",)
    assert text_settings(_llm(), None, {"stop_strings": ["c"]}).stop == ("c",)
    assert text_settings(_llm(), None, kwargs).seed == 3
    assert text_settings(_llm(), None, kwargs).parameters == ()


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_tokens": "9"}, "max_new_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"seed": 1.5}, "seed"),
        ({"pipeline_kwargs": 3}, "pipeline_kwargs"),
        ({"pipeline_kwargs": {"stop": 3}}, "stop"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_its_name(kwargs: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        text_settings(_llm(), None, kwargs)
    assert refusal.value.param == name


def test_a_task_is_the_prompt_and_its_settings() -> None:
    task = text_task(_llm(), PROMPT, "x", {"max_tokens": 2}, wants_pieces=True)
    assert (task.prompt, task.wants_pieces) == (PROMPT, True)
    assert task.settings == text_settings(_llm(), ["x"], {"max_new_tokens": 2})


def test_an_answer_and_the_end_of_a_stream_say_how_they_came_about() -> None:
    answer, end = text_generation(_llm(), ANSWER), last_chunk(_llm(), ANSWER)
    assert (answer.text, answer.generation_info) == (ANSWER.text, FACTS)
    assert (end.text, end.generation_info) == ("", FACTS)


def _llm(**pipeline_kwargs: Any) -> Any:
    """Return what of a `HuggingFacePipeline` is looked at."""
    config = SimpleNamespace(min_p=None, eos_token_id=None, stop_strings=None, _private=None)
    return SimpleNamespace(
        pipeline=SimpleNamespace(
            task="text-generation", model=SimpleNamespace(generation_config=config)
        ),
        pipeline_kwargs=pipeline_kwargs or None,
        model_id="a-model",
    )


def _answer(llm: Any, stop: list[str] | None, kwargs: dict[str, Any]) -> Completion:
    job = job_of(llm.pipeline, text_task(llm, PROMPT, stop, kwargs, wants_pieces=False))
    job.work(Call([job]))
    return job.result()
