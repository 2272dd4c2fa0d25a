"""A chat over the real model: the plain object's content, and what the plain object cannot do."""

import warnings
from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from harness.pipe import job_of
from locktender.adopt.call import Call
from locktender.adopt.pipeline_chat import ChatCall, ChunkMaker, chat_call, chat_result
from locktender.adopt.text_pipeline import Completion
from locktender.core.errors import InvalidRequest

QUESTION = [HumanMessage("What is the capital of France?")]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object"}}}
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
LOOP = [
    HumanMessage("Rain in Paris?"),
    AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Paris"}, "id": "call00001"}]),
    ToolMessage("Dry, 21 degrees.", tool_call_id="call00001"),
]


@pytest.fixture(scope="module")
def plain_chat(hf_folder: Path) -> Any:
    from langchain_huggingface import (  # noqa: PLC0415 - it takes seconds
        ChatHuggingFace,
        HuggingFacePipeline,
    )
    from transformers import pipeline  # noqa: PLC0415 - as above

    pipe = pipeline(
        "text-generation", model=str(hf_folder), device="cpu", do_sample=False, max_new_tokens=12
    )
    llm = HuggingFacePipeline(pipeline=pipe, model_id="smollm2")
    with warnings.catch_warnings():
        # It looks for classes in a package that says that it is on its way out.
        warnings.filterwarnings("ignore", "`langchain-community`", DeprecationWarning)
        return ChatHuggingFace(llm=llm, tokenizer=pipe.tokenizer)


@pytest.fixture
def chat(plain_chat: Any) -> Any:
    """Return a chat object whose fields are the test's own."""
    return plain_chat.model_copy()


@pytest.mark.parametrize(
    ("messages", "kwargs"),
    [
        (QUESTION, {"skip_prompt": True}),
        (QUESTION, {"pipeline_kwargs": {"return_full_text": False, "max_new_tokens": 3}}),
        ([SystemMessage("Be brief."), *QUESTION, AIMessage("Paris."), *QUESTION], {}),
    ],
)
def test_the_content_is_the_plain_objects(
    chat: Any, messages: Sequence[BaseMessage], kwargs: dict[str, Any]
) -> None:
    assert _message(chat, messages, kwargs).content == chat.invoke(messages, **kwargs).content


@pytest.mark.parametrize("kwargs", [{}, {"skip_prompt": False}])
def test_the_streamed_text_is_the_plain_objects(chat: Any, kwargs: dict[str, Any]) -> None:
    plain = "".join(chunk.content for chunk in chat.stream(QUESTION, **kwargs))
    assert "".join(chunk.text for chunk in _chunks(chat, QUESTION, kwargs)) == plain


def test_an_answer_says_how_it_came_about(chat: Any) -> None:
    result = _result(chat, QUESTION, {})
    (generation,) = result.generations
    assert _ai(generation).usage_metadata == {
        "input_tokens": 37,
        "output_tokens": 8,
        "total_tokens": 45,
    }
    assert generation.generation_info == {"finish_reason": "stop", "model_name": "smollm2"}
    assert result.llm_output == {
        "token_usage": {"prompt_tokens": 37, "completion_tokens": 8, "total_tokens": 45},
        "model_name": "smollm2",
    }


def test_the_last_chunk_says_how_the_stream_came_about(chat: Any) -> None:
    *texts, last = _chunks(chat, QUESTION, {"max_tokens": 3})
    message = _ai(last)
    assert [_ai(chunk).chunk_position for chunk in texts] == [None] * len(texts)
    assert (message.content, message.chunk_position) == ("", "last")
    assert message.usage_metadata == {"input_tokens": 37, "output_tokens": 3, "total_tokens": 40}
    assert last.generation_info == {"finish_reason": "length", "model_name": "smollm2"}


def test_a_stream_leaves_its_usage_out_if_it_is_told_to(chat: Any) -> None:
    assert _ai(_chunks(chat, QUESTION, {"stream_usage": False})[-1]).usage_metadata is None


def test_a_stop_string_ends_the_answer(chat: Any) -> None:
    assert _message(chat, QUESTION, {}, stop=[" is"]).text.endswith("The capital of France")
    texts = [chunk.text for chunk in _chunks(chat, QUESTION, {}, stop=[" is"])]
    assert "".join(texts) == "The capital of France"


def test_the_fields_of_the_chat_object_are_options(chat: Any) -> None:
    chat.max_tokens, chat.temperature, chat.seed, chat.stop = 5, 0.5, 3, "x"
    settings = chat_call(chat, QUESTION, None, {}, wants_pieces=False).task.settings
    assert settings.parameters == (("do_sample", True), ("max_new_tokens", 5), ("temperature", 0.5))
    assert (settings.stop, settings.seed) == (("x",), 3)
    kwargs = {"temperature": 0, "max_new_tokens": 2, "seed": 4}
    settings = chat_call(chat, QUESTION, ["y"], kwargs, wants_pieces=False).task.settings
    assert settings.parameters == (("do_sample", False), ("max_new_tokens", 2))
    assert (settings.stop, settings.seed) == (("y",), 4)


def test_model_kwargs_are_options_unless_they_are_what_the_model_was_loaded_with(
    chat: Any,
) -> None:
    chat.llm = chat.llm.model_copy(update={"model_kwargs": {"top_k": 5}})
    chat.model_kwargs = {"top_k": 5}
    assert not chat_call(chat, QUESTION, None, {}, wants_pieces=False).task.settings.parameters
    chat.model_kwargs = {"top_k": 6}
    call = chat_call(chat, QUESTION, None, {}, wants_pieces=False)
    assert call.task.settings.parameters == (("top_k", 6),)


@pytest.mark.parametrize(
    "tool_choice",
    [
        "weather",
        "any",
        "required",
        True,
        {"type": "function", "function": {"name": "any"}},
        WEATHER,
    ],
)
def test_a_tool_is_named_by_the_prompt_if_it_must_be_called(chat: Any, tool_choice: Any) -> None:
    kwargs = {"tools": [WEATHER], "tool_choice": tool_choice}
    call = chat_call(chat, QUESTION, None, kwargs, wants_pieces=False)
    assert call.start == '<tool_call>\n{"name": "weather", "arguments": {"city": "'
    assert call.task.prompt.endswith(call.start)
    assert call.task.settings.stop == ("</tool_call>",)


def test_a_tool_that_must_be_called_is_called(chat: Any) -> None:
    messages = [HumanMessage("What is the weather in Paris?")]
    kwargs = {"tools": [WEATHER], "tool_choice": "weather", "max_new_tokens": 24}
    (generation,) = _result(chat, messages, kwargs).generations
    message = _ai(generation)
    (call,) = message.tool_calls
    assert (message.content, call["name"], call["args"]) == ("", "weather", {"city": "Paris"})
    assert (generation.generation_info or {})["finish_reason"] == "tool_calls"


def test_a_forced_call_is_streamed_as_a_call(chat: Any) -> None:
    messages = [HumanMessage("What is the weather in Paris?")]
    kwargs = {"tools": [WEATHER], "tool_choice": "weather", "max_new_tokens": 24}
    (last,) = _chunks(chat, messages, kwargs)
    (call,) = _ai(last).tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
    assert (last.generation_info or {})["finish_reason"] == "tool_calls"


def test_one_of_several_tools_must_be_called_if_that_is_required(chat: Any) -> None:
    kwargs = {"tools": [WEATHER, TIME], "tool_choice": "required"}
    call = chat_call(chat, QUESTION, None, kwargs, wants_pieces=False)
    assert call.task.prompt.endswith('<tool_call>\n{"name": "')


def test_after_a_tools_result_the_model_answers_in_text(chat: Any) -> None:
    message = _message(chat, LOOP, {"tools": [WEATHER]})
    assert message.text
    assert not message.text.startswith("<|im_start|>")


def test_calls_are_read_from_an_answer_and_from_its_pieces_alike(chat: Any) -> None:
    call = _call_with_tools(chat)
    answer = _completion(f"Let me see. {HERMES}")
    message, streamed = _read(chat, call, answer)
    assert message.content == streamed.content == "Let me see."
    assert [one["args"] for one in message.tool_calls] == [{"city": "Paris"}]
    assert [one["args"] for one in streamed.tool_calls] == [{"city": "Paris"}]


def test_a_call_that_breaks_off_is_an_invalid_one_in_both_ways(chat: Any) -> None:
    call = _call_with_tools(chat)
    answer = _completion('<tool_call>\n{"name": "weather", "arguments": {"city": "Par')
    message, streamed = _read(chat, call, answer)
    assert message.tool_calls == streamed.tool_calls == []
    assert [one["name"] for one in message.invalid_tool_calls] == ["weather"]
    assert [one["name"] for one in streamed.invalid_tool_calls] == ["weather"]


def test_calls_are_one_at_a_time_if_that_is_wanted(chat: Any) -> None:
    answer = _completion(HERMES + HERMES)
    assert len(_read(chat, _call_with_tools(chat), answer)[0].tool_calls) == 2
    one = _call_with_tools(chat, parallel_tool_calls=False)
    assert [len(message.tool_calls) for message in _read(chat, one, answer)] == [1, 1]


def test_without_tools_nothing_is_read_as_a_call(chat: Any) -> None:
    answer = _completion(HERMES)
    for kwargs in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
        call = chat_call(chat, QUESTION, None, kwargs, wants_pieces=True)
        for message in _read(chat, call, answer):
            assert (message.text, message.tool_calls) == (HERMES, [])


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"tools": [WEATHER], "tool_choice": "rain"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": 3}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"max_tokens": 0}, "max_new_tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(
    chat: Any, kwargs: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        chat_call(chat, QUESTION, None, kwargs, wants_pieces=False)
    assert refusal.value.param == name


def _call_with_tools(chat: Any, **kwargs: Any) -> ChatCall:
    return chat_call(chat, QUESTION, None, {"tools": [WEATHER], **kwargs}, wants_pieces=True)


def _completion(text: str) -> Completion:
    return Completion(text, text, prompt_tokens=1, n_tokens=1, finish_reason="stop")


def _read(chat: Any, call: ChatCall, answer: Completion) -> tuple[AIMessage, AIMessage]:
    """Return the message of an answer, and that of its stream in small pieces."""
    maker = ChunkMaker(chat, call)
    pieces = [maker.piece(answer.new_text[at : at + 5]) for at in range(0, len(answer.new_text), 5)]
    chunks = [*filter(None, pieces), *maker.last(answer)]
    streamed = reduce(add, [_ai(chunk) for chunk in chunks])
    return _ai(chat_result(chat, call, answer).generations[0]), streamed


def _result(
    chat: Any, messages: Sequence[BaseMessage], kwargs: dict[str, Any], stop: Any = None
) -> ChatResult:
    call = chat_call(chat, messages, stop, kwargs, wants_pieces=False)
    job = job_of(chat.llm.pipeline, call.task)
    job.work(Call([job]))
    return chat_result(chat, call, job.result())


def _message(
    chat: Any, messages: Sequence[BaseMessage], kwargs: dict[str, Any], stop: Any = None
) -> AIMessage:
    return _ai(_result(chat, messages, kwargs, stop).generations[0])


def _chunks(
    chat: Any, messages: Sequence[BaseMessage], kwargs: dict[str, Any], stop: Any = None
) -> list[ChatGenerationChunk]:
    call = chat_call(chat, messages, stop, kwargs, wants_pieces=True)
    job, maker = job_of(chat.llm.pipeline, call.task), ChunkMaker(chat, call)
    job.work(Call([job]))
    chunks = [maker.piece(text) for text in job.take()]
    return [*filter(None, chunks), *maker.last(job.result())]


def _ai(generation: Any) -> AIMessageChunk:
    """Return the message of a generation, or of a chunk of one."""
    message: AIMessageChunk = generation.message
    return message
