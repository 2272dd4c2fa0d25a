import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.prompt_values import ChatPromptValue, ChatPromptValueConcrete
from pydantic import BaseModel, SecretStr

from locktender.app.serialization import WellKnownSerializer

RECORDED: Mapping[str, Any] = json.loads(
    (Path(__file__).parents[1] / "compat" / "wellknown.json").read_text(encoding="utf-8")
)
# Recorded without the fields of the message's own class, which LangServe loses.
LOSSY = {"ChatGeneration", "ChatGenerationChunk"}
CALLS = AIMessage("x", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c1"}])

serializer = WellKnownSerializer()


@dataclass
class Placed:
    inside: Any


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_objects_are_read_as_langserve_reads_them(name: str) -> None:
    read = serializer.loadd(RECORDED[name]["json"])
    assert type(read).__name__ == RECORDED[name]["decodes_to"]


@pytest.mark.parametrize("name", sorted(set(RECORDED) - LOSSY))
def test_recorded_objects_are_written_as_langserve_writes_them(name: str) -> None:
    recorded = RECORDED[name]["json"]
    written = serializer.dumps(serializer.loadd(recorded))
    assert written == json.dumps(recorded, separators=(",", ":")).encode()


def test_a_message_within_a_generation_keeps_its_calls() -> None:
    generation = ChatGeneration(message=CALLS)
    assert serializer.loads(serializer.dumps(generation)).message.tool_calls == CALLS.tool_calls


def test_messages_in_a_model_s_field_keep_the_fields_of_their_class() -> None:
    class Answer(BaseModel):
        messages: list[BaseMessage]

    (message,) = serializer.dumpd(Answer(messages=[CALLS]))["messages"]
    assert message["tool_calls"][0]["args"] == {"a": 1}


def test_a_prompt_value_comes_back_as_one() -> None:
    value = ChatPromptValue(messages=[HumanMessage("hi")])
    assert serializer.loads(serializer.dumps(value)) == ChatPromptValueConcrete(
        messages=[HumanMessage("hi")]
    )


def test_known_objects_are_found_at_any_depth() -> None:
    value = {"a": [{"b": CALLS}], "c": "human"}
    assert serializer.loads(serializer.dumps(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        {"type": "human"},
        {"type": "nobody", "content": "x"},
        {"type": ["human"]},
        {"type": None},
        {"type": "tool", "name": "hammer", "price": 3},
        {"type": "tool", "content": 5, "artifact": {"size": 1}},
        {"steps": [{"type": "tool", "name": "search"}]},
        {"type": "Document"},
        {"type": "Document", "title": "x"},
        {"type": "AgentAction", "tool": "x"},
        {"type": "AgentFinish"},
        {"type": "ai", "content": "x", "tool_calls": [1]},
        {"type": "ai", "content": "x", "additional_kwargs": 5},
        {"type": "AIMessageChunk", "content": "x", "tool_call_chunks": [1]},
        {"type": "ToolMessageChunk"},
        {"type": "ChatGeneration", "message": 1},
        {"type": "LLMResult", "generations": 1},
    ],
)
def test_a_dict_that_only_looks_like_one_stays_a_dict(value: dict[str, Any]) -> None:
    before = json.loads(json.dumps(value))
    assert serializer.loadd(value) == before
    assert value == before


@pytest.mark.parametrize("value", [ValueError("x"), {1: 2}, object(), 2**70, 1j, SecretStr("x")])
def test_what_json_cannot_hold_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        serializer.dumps(value)


def test_what_is_no_number_is_null() -> None:
    assert serializer.dumps([float("nan"), float("inf"), (1,)]) == b"[null,null,[1]]"


def test_values_that_json_lacks_are_written_wherever_they_stand() -> None:
    class Answer(BaseModel):
        price: Decimal
        seen: set[str]

    value: dict[str, Any]
    value = {"found": [Document("a", metadata={"path": Path("a/b"), "tags": {"y", "x"}})]}
    value["answer"] = [Answer(price=Decimal("1.50"), seen={"b", "a"})]
    written = serializer.dumpd(value)
    assert written["found"][0]["metadata"] == {"path": "a/b", "tags": ["x", "y"]}
    assert written["answer"] == [{"price": "1.50", "seen": ["a", "b"]}]


def test_they_are_written_below_what_orjson_can_nest_as_well() -> None:
    deep: Any = {Decimal(1)}
    for _ in range(300):
        deep = [deep]
    assert b'["1"]' in serializer.dumps(deep)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1j, "The value cannot be written as JSON: A value of type complex"),
        ({"a": [0, {"b": object()}]}, "['a'][1]['b'] cannot be written as JSON: A value of type"),
        ([Document("x", metadata={"s": 1j})], "[0]['metadata']['s'] cannot be written"),
        ({"a": {"b": 0, 1: 2}}, "['a'][1] cannot be written as JSON: Dict key must be str"),
        ({"a": Placed({1j})}, "['a']['inside'][0] cannot be written"),
        ({"n": 2**70}, "['n'] cannot be written as JSON: Integer exceeds 64-bit range"),
        ({"x" * 99: 1j}, f"['{'x' * 79}...] cannot be written"),
    ],
)
def test_an_error_names_the_place_and_the_reason(value: object, told: str) -> None:
    with pytest.raises(TypeError) as caught:
        serializer.dumps(value)
    assert str(caught.value).startswith(told)


def test_the_search_for_the_place_ends_in_a_circle() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TypeError, match="Circular reference"):
        serializer.dumps({"a": circle})
