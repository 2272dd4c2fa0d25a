import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.prompt_values import ChatPromptValue, ChatPromptValueConcrete
from pydantic import BaseModel

from locktender.app.serialization import WellKnownSerializer

RECORDED: Mapping[str, Any] = json.loads(
    (Path(__file__).parents[1] / "compat" / "wellknown.json").read_text(encoding="utf-8")
)
# Recorded without the fields of the message's own class, which LangServe loses.
LOSSY = {"ChatGeneration", "ChatGenerationChunk"}
CALLS = AIMessage("x", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c1"}])

serializer = WellKnownSerializer()


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
    [{"type": "human"}, {"type": "nobody", "content": "x"}, {"type": ["human"]}, {"type": None}],
)
def test_a_dict_that_only_looks_like_one_stays_a_dict(value: dict[str, Any]) -> None:
    assert serializer.loadd(value) == value


@pytest.mark.parametrize("value", [{1, 2}, b"x", ValueError("x"), {1: 2}, object(), 2**70])
def test_what_json_cannot_hold_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        serializer.dumps(value)


def test_what_is_no_number_is_null() -> None:
    assert serializer.dumps([float("nan"), float("inf"), (1,)]) == b"[null,null,[1]]"
