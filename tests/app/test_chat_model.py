"""What the chat model is without a service: its settings, its refusals, its broken peers."""

import asyncio
import copy
import pickle  # noqa: TID251 - that users may pickle the model is what is tested
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import ConfigurableField
from pydantic import SecretStr, ValidationError

from locktender.app.chat_body import chat_messages
from locktender.app.chat_model import ChatLocktender
from locktender.core.errors import InvalidRequest, LocktenderError, NoReplicaReady, PeerError

NOBODY = "http://127.0.0.1:9/v1"  # the port of the discard protocol, which nobody serves any more
CALL = {"name": "f", "args": {}, "id": "1", "type": "tool_call"}


def test_messages_are_written_as_openai_does() -> None:
    messages = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "one"}, "two"]),
        AIMessage("Yes."),
        AIMessage([]),
        ChatMessage(role="developer", content="Go on."),
        HumanMessage("Hi.", name="ann"),
    ]
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert chat_messages(messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "Yes."},
        {"role": "assistant", "content": ""},
        {"role": "developer", "content": "Go on."},
        {"role": "user", "content": "Hi.", "name": "ann"},
    ]


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "id": "rs_1"},
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "reasoning_content", "reasoning_content": {"text": "Hm."}},
    ],
)
def test_what_a_model_has_thought_is_left_out_of_its_turn(thought: dict[str, Any]) -> None:
    said = {"type": "text", "text": "Yes."}
    kept = AIMessage("Yes.", additional_kwargs={"reasoning_content": "Hm."})
    messages = [AIMessage([thought, said]), AIMessage([thought]), kept]
    with pytest.raises(InvalidRequest, match=f"of the kind `{thought['type']}`"):
        chat_messages([HumanMessage([thought, said])])
    assert chat_messages(messages) == [
        {"role": "assistant", "content": [said]},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "Yes."},
    ]


@pytest.mark.parametrize(
    "message",
    [
        ToolMessage("42", tool_call_id="1"),
        AIMessage("", tool_calls=[CALL]),
        AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}}),
        ChatMessage(role="wizard", content="hi"),
        HumanMessage([{"type": "image", "url": "http://example.org/cat.png"}]),
        HumanMessage([{"type": "text"}]),
    ],
)
def test_what_the_service_cannot_take_is_refused_and_not_left_out(message: BaseMessage) -> None:
    with pytest.raises(InvalidRequest, match="not supported by the model service"):
        ChatLocktender(base_url=NOBODY).invoke([HumanMessage("hi"), message])


@pytest.mark.parametrize("name", ["temprature", "repetiton_penalty", "stream_options"])
def test_a_setting_that_no_service_knows_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"`{name}` is not known here") as refused:
        ChatLocktender(base_url=NOBODY).bind(**{name: 1}).invoke("hi")
    assert refused.value.param == name
    with pytest.raises(ValidationError, match=f"`{name}` is not known here"):
        ChatLocktender(model_kwargs={name: 1})


async def test_what_a_service_may_know_is_sent_from_the_model_and_from_the_call() -> None:
    seen: list[bytes] = []
    refusal = {"message": "no", "code": "invalid_request", "param": "top_k"}
    body = orjson.dumps({"error": refusal})
    head = f"HTTP/1.1 400 No\r\nContent-Length: {len(body)}\r\n\r\n"
    async with _peer(head.encode() + body, seen) as url:
        model = ChatLocktender(base_url=url, model_kwargs={"top_k": 3, "user": "ann", "n": None})
        bound = model.bind(guided_choice=["yes", "no"], top_k=5)
        for asked in (model, bound):
            with pytest.raises(InvalidRequest, match="no") as refused:
                await asked.ainvoke("hi")
            assert refused.value.param == "top_k"
    sent = [orjson.loads(each) for each in seen]
    assert [each["top_k"] for each in sent] == [3, 5]
    assert sent[1]["guided_choice"] == ["yes", "no"]
    assert sent[0]["user"] == sent[1]["user"] == "ann"
    assert "n" not in sent[0]


@pytest.mark.parametrize("name", ["temperature", "stop", "timeout_s", "model"])
def test_what_has_a_field_of_its_own_does_not_stand_among_the_others(name: str) -> None:
    with pytest.raises(ValidationError, match=f"must not hold `{name}`"):
        ChatLocktender(model_kwargs={name: "x"})


def test_an_answer_from_a_cache_has_the_same_settings() -> None:
    one, other = (ChatLocktender(model_kwargs={"top_k": n}) for n in (1, 2))
    assert one._get_llm_string() != other._get_llm_string()  # noqa: SLF001 - what caches ask for


def test_tools_are_refused_when_they_are_bound() -> None:
    with pytest.raises(InvalidRequest, match="`tools` is not supported"):
        ChatLocktender(base_url=NOBODY).bind_tools([])


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "localhost:8001"},
        {"base_url": "http://127.0.0.1:8001/v1/chat/completions"},
        {"tenant": "two words"},
        {"timeout_s": 0},
        {"max_concurrency": 0},
        {"temprature": 1},
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatLocktender(**settings)


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ChatLocktender().base_url == "http://127.0.0.1:8001/v1"
    monkeypatch.setenv("LOCKTENDER_BASE_URL", "http://10.0.0.1:1/v1")
    assert ChatLocktender().base_url == "http://10.0.0.1:1/v1"
    assert ChatLocktender(base_url=NOBODY).base_url == NOBODY


def test_the_key_is_not_shown() -> None:
    model = ChatLocktender(api_key=SecretStr("very-secret"))
    assert "very-secret" not in repr(model) + model.model_dump_json()


def test_copies_of_a_used_model_are_equal_and_work() -> None:
    model = ChatLocktender(base_url=NOBODY, temperature=0)
    with pytest.raises(NoReplicaReady):
        model.invoke("hi")
    copies = [
        copy.copy(model),
        copy.deepcopy(model),
        model.model_copy(),
        pickle.loads(pickle.dumps(model)),  # noqa: S301 - it was made a moment ago
    ]
    for other in copies:
        assert other == model
        with pytest.raises(NoReplicaReady):
            other.invoke("hi")


def test_nobody_there_is_told_in_a_sentence_that_helps() -> None:
    with pytest.raises(NoReplicaReady) as refused:
        ChatLocktender(base_url=NOBODY, model="smollm2").invoke("hi")
    message = "No model service answers; start it with `locktender model smollm2`."
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("path", "is_hinted"), [("", True), ("/", True), ("/models", True), ("/v1", False)]
)
@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("body", ['{"detail":"Not Found"}', '{"error":{"message":"No."}}', ""])
async def test_an_address_without_its_version_gets_a_hint(
    path: str, status: int, body: str, *, is_hinted: bool
) -> None:
    head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n"
    async with _peer(f"{head}{body}".encode(), []) as url:
        model = ChatLocktender(base_url=url.removesuffix("/v1") + path)
        with pytest.raises(LocktenderError) as refused:
            await model.ainvoke("hi")
        with pytest.raises(LocktenderError) as uncounted:
            await asyncio.to_thread(model.get_num_tokens, "hi")
    hint = "A `base_url` ends in `/v1`, and this one does not."
    for error in (refused, uncounted):
        assert error.value.message.endswith(hint) is is_hinted


async def test_it_can_be_configured_for_a_call() -> None:
    seen: list[bytes] = []
    async with _peer(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", seen) as url:
        model = ChatLocktender(base_url=url, temperature=0.5).configurable_fields(
            temperature=ConfigurableField(id="temperature")
        )
        with pytest.raises(LocktenderError):
            await model.ainvoke("hi", {"configurable": {"temperature": 0.25}})
        with pytest.raises(LocktenderError):
            await model.with_config(tags=["x"]).ainvoke("hi")
    assert [b'"temperature":0.25' in body for body in seen] == [True, False]
    assert b'"temperature":0.5' in seen[1]


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
BROKEN = {
    "no answer": b"",
    "not HTTP": b"hello\r\n\r\n",
    "an error without a reason": b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    "not JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{",
    "a stream without an end": STREAM + b'\r\ndata: {"choices": []}\n\n',
    "a stream that is cut off": STREAM + b"Transfer-Encoding: chunked\r\n\r\n5\r\nda",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_the_peers_fault(name: str) -> None:
    async with _peer(BROKEN[name], []) as url:
        model = ChatLocktender(base_url=url)
        with anyio.fail_after(10), pytest.raises(PeerError):
            await model.ainvoke("hi")
        with anyio.fail_after(10), pytest.raises(PeerError):
            [chunk async for chunk in model.astream("hi")]


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 2**64), ("user", {1, 2}), ("logit_bias", {5: 1})]
)
async def test_what_is_no_json_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    model = ChatLocktender(base_url=NOBODY).bind(**{name: value})
    with pytest.raises(InvalidRequest, match=f"`{name}` cannot be written as JSON") as raised:
        await model.ainvoke("hi")
    assert raised.value.param == name


async def test_what_is_not_unicode_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="`messages` cannot be written as JSON"):
        await ChatLocktender(base_url=NOBODY).ainvoke("\ud800")


def test_it_works_without_what_only_servers_need(tmp_path: Path) -> None:
    # Installed without extras, a client has none of these.
    source = f"""
import sys
class Refuser:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{
            "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "msgspec",
            "pydantic_settings", "typer", "rich", "openvino_genai", "numpy",
        }}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuser())
from locktender.app.chat_model import ChatLocktender
from locktender.core.errors import NoReplicaReady
try:
    ChatLocktender(base_url="{NOBODY}").invoke("hi")
except NoReplicaReady as error:
    print(error.code)
assert not {{"locktender.model", "locktender.wire.openai"}} & set(sys.modules)
"""
    finished = subprocess.run(
        [sys.executable, "-I", "-X", "dev", "-W", "error::ResourceWarning", "-c", source],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        text=True,
        timeout=60,
    )
    # Nothing is said at the end either: the background thread has closed its connections.
    assert finished.stdout == "no_replica_ready\n"


@asynccontextmanager
async def _peer(answer: bytes, seen: list[bytes]) -> AsyncIterator[str]:
    """Serve `answer` to every request, note its body in `seen`, and close the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        seen.append(await reader.readexactly(length))
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/v1"
