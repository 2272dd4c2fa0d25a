from typing import Any

import httpx2
import openai
import orjson
import pytest
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from locktender.core.errors import ReplicaLost
from locktender.core.request import FinishReason
from locktender.wire.openai_reply import (
    DONE,
    ChunkEncoder,
    Usage,
    completion,
    error_frame,
    model_card,
    model_list,
)
from locktender.wire.problem import openai_problem
from locktender.wire.sse import SseDecoder, encode_event

# What would break a frame, or the head that is encoded once, were it pasted and not encoded.
_HOSTILE = 'a"b\\c\n\r\n\ndata: [DONE]\n\n"content":"" \u2028 \0 \U0001f600'


def _encoder(*, include_usage: bool = False, model: str = "smollm2") -> ChunkEncoder:
    return ChunkEncoder(id="chatcmpl-1", model=model, created=17, include_usage=include_usage)


def _bodies(stream: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(event.data) for event in SseDecoder().feed(stream)]


def test_a_whole_answer_has_openai_s_form() -> None:
    body = completion(
        id="chatcmpl-1",
        model="smollm2",
        created=17,
        text=_HOSTILE,
        finish_reason=FinishReason.LENGTH,
        usage=Usage(prompt_tokens=3, completion_tokens=4),
    )
    assert orjson.loads(body) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 17,
        "model": "smollm2",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _HOSTILE, "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    ChatCompletion.model_validate_json(body, strict=True)


def test_a_stream_names_the_speaker_then_gives_the_text_then_the_reason() -> None:
    encoder = _encoder()
    stream = encoder.first() + encoder.text("Hi") + encoder.last(FinishReason.STOP)
    first, text, last = _bodies(stream)
    assert first == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 17,
        "model": "smollm2",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
    }
    assert text["choices"][0]["delta"] == {"content": "Hi"}
    assert text["choices"][0]["finish_reason"] is None
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == "stop"
    for body in (first, text, last):
        assert "usage" not in body
        ChatCompletionChunk.model_validate_json(orjson.dumps(body), strict=True)


def test_usage_comes_last_when_asked_for_and_is_null_before() -> None:
    encoder = _encoder(include_usage=True)
    stream = encoder.first() + encoder.text("Hi") + encoder.last(FinishReason.STOP)
    assert [body["usage"] for body in _bodies(stream)] == [None, None, None]
    (usage,) = _bodies(encoder.usage(Usage(prompt_tokens=3, completion_tokens=4)))
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize("include_usage", [False, True])
def test_neither_text_nor_model_name_can_break_a_frame(*, include_usage: bool) -> None:
    encoder = _encoder(include_usage=include_usage, model=_HOSTILE)
    (body,) = _bodies(encoder.text(_HOSTILE))
    assert body["model"] == _HOSTILE
    assert body["choices"][0]["delta"] == {"content": _HOSTILE}


def test_the_end_is_the_frame_that_openai_s_clients_wait_for() -> None:
    assert encode_event("[DONE]") == DONE


def test_an_error_in_a_stream_has_the_body_of_the_http_answer() -> None:
    problem = openai_problem(ReplicaLost("The model stopped while it answered."))
    assert error_frame(problem) == b"event: error\ndata: " + problem.body + b"\n\n"


def test_models_are_listed_and_shown_alone() -> None:
    listed = orjson.loads(model_list(["a", "b"], created=17))
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == ["a", "b"]
    assert orjson.loads(model_card("a", created=17)) == listed["data"][0]
    assert Model.model_validate(listed["data"][0]).owned_by == "locktender"


def _texts_from_openai_s_client(stream: bytes) -> list[str | None]:
    """Read a stream with OpenAI's own client; what it raises comes out."""
    answer = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)
    with (
        httpx2.Client(transport=httpx2.MockTransport(lambda _: answer)) as http_client,
        openai.OpenAI(
            api_key="none", base_url="http://model/v1", http_client=http_client
        ) as client,
    ):
        chunks = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]


def test_openai_s_client_reads_the_text_and_stops_at_the_end() -> None:
    encoder = _encoder(include_usage=True)
    stream = encoder.first() + b": keep-alive\n\n" + encoder.text("Hi") + encoder.text("!")
    stream += encoder.last(FinishReason.STOP) + encoder.usage(Usage(1, 2)) + DONE
    assert _texts_from_openai_s_client(stream) == ["", "Hi", "!", None]


def test_openai_s_client_raises_an_error_that_comes_within_a_stream() -> None:
    problem = openai_problem(ReplicaLost("The model stopped while it answered."))
    encoder = _encoder()
    with pytest.raises(openai.APIError, match=r"^The model stopped while it answered\.$") as raised:
        _texts_from_openai_s_client(encoder.first() + encoder.text("Hi") + error_frame(problem))
    assert raised.value.code == "replica_lost"
    assert raised.value.type == "service_unavailable_error"
