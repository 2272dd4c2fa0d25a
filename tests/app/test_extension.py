import inspect
import sys
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.agents import AgentAction, AgentActionMessageLog, AgentFinish, AgentStep
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
    RunInfo,
)
from langchain_core.prompt_values import (
    ChatPromptValue,
    ChatPromptValueConcrete,
    ImagePromptValue,
    StringPromptValue,
)
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel

from locktender.app import extension
from locktender.app.extension import ExtensionSerializer
from locktender.app.serialization import WellKnownSerializer

SERIALIZER = ExtensionSerializer(WellKnownSerializer())
CALL: Any = {"name": "f", "args": {"pair": (1, 2), "raw": b"x"}, "id": "1"}
USAGE: Any = {
    "input_tokens": 1,
    "output_tokens": 2,
    "total_tokens": 3,
    "output_token_details": {"reasoning": 1},
}
BLOCKS: list[str | dict[str, Any]] = [
    {"type": "text", "text": "x"},
    {"type": "reasoning", "reasoning": "y"},
    {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
]
PIECE: Any = {"name": "f", "args": '{"a":', "id": "1", "index": 0}
WHOLE_PIECE: Any = {"name": "f", "args": '{"a": 1}', "id": "1", "index": 0}

OBJECTS: list[Any] = [
    AIMessage("x", tool_calls=[CALL], usage_metadata=USAGE, id="1", response_metadata={"m": ()}),
    AIMessage(BLOCKS, invalid_tool_calls=[{"name": "f", "args": "{", "id": "1", "error": "e"}]),
    AIMessageChunk(content="x", tool_call_chunks=[PIECE]),
    AIMessageChunk(content="x", tool_call_chunks=[WHOLE_PIECE], chunk_position="last"),
    HumanMessage("x", name="bob", more=(1,)),
    HumanMessage(BLOCKS),
    HumanMessageChunk(content="x"),
    SystemMessage("x"),
    SystemMessageChunk(content="x"),
    ChatMessage(content="x", role="r"),
    ChatMessageChunk(content="x", role="r"),
    FunctionMessage(content="x", name="f"),
    FunctionMessageChunk(content="x", name="f"),
    ToolMessage("x", tool_call_id="1", artifact={"rows": [(1, b"2", {3})]}, status="error"),
    ToolMessageChunk(content="x", tool_call_id="1"),
    RemoveMessage("1"),
    Document("x", metadata={"at": (1,)}, id="9"),
    Generation(text="x", generation_info={"a": 1}),
    GenerationChunk(text="x"),
    ChatGeneration(message=AIMessage("x", tool_calls=[CALL])),
    ChatGenerationChunk(message=AIMessageChunk(content="x", tool_call_chunks=[PIECE])),
    ChatResult(generations=[ChatGeneration(message=AIMessage("x"))]),
    LLMResult(
        generations=[
            [ChatGenerationChunk(message=AIMessageChunk(content="x")), GenerationChunk(text="y")]
        ],
        run=[RunInfo(run_id=uuid.UUID(int=1))],
    ),
    StringPromptValue(text="x"),
    ImagePromptValue(image_url={"url": "x"}),
    ChatPromptValue(messages=[HumanMessage("x"), AIMessage("y", tool_calls=[CALL])]),
    ChatPromptValueConcrete(messages=[HumanMessage("x"), AIMessage("y", tool_calls=[CALL])]),
    AgentAction(tool="t", tool_input={"a": 1}, log="l"),
    AgentActionMessageLog(tool="t", tool_input="x", log="l", message_log=[AIMessage("x")]),
    AgentFinish({"output": 1}, "l"),
    AgentStep(action=AgentAction("t", "i", "l"), observation=(1,)),
    uuid.UUID(int=5),
    Interrupt(value=({"q": "ok?"}, AIMessage("x")), id="7"),
    Interrupt(value=1, id="7", response_schema={"type": "object"}),
    Command(resume={"a": (1, HumanMessage("x"))}),
    Command(resume=()),
    Command(graph=Command.PARENT, update={"messages": [AIMessage("x")]}, goto=[Send("a", 1), "b"]),
    {"type": "human", "content": "somebody's own"},
]


def crossed(value: Any) -> Any:
    return SERIALIZER.loads(SERIALIZER.dumps(value))


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_every_object_comes_back_whole(value: Any) -> None:
    again = crossed(value)
    assert again == value
    assert type(again) is type(value)
    assert repr(again) == repr(value)


@given(
    st.recursive(
        st.sampled_from(OBJECTS) | st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.text(), inner, max_size=3)
            | st.builds(lambda value: Interrupt(value=value, id="1"), inner)
            | st.builds(lambda value: Command(resume=value), inner)
            | st.builds(lambda value: ToolMessage("x", tool_call_id="1", artifact=value), inner)
            | st.builds(lambda value: AIMessage("x", response_metadata={"in": value}), inner)
        ),
        max_leaves=10,
    )
)
def test_objects_within_objects_come_back_whole(value: Any) -> None:
    assert repr(crossed(value)) == repr(value)


def test_a_message_of_a_class_of_ones_own_arrives_as_its_parent() -> None:
    class Own(AIMessage):
        mood: str = "good"

    again = crossed(Own(content="x", tool_calls=[CALL]))
    assert type(again) is AIMessage
    assert again.tool_calls == [{**CALL, "type": "tool_call"}]


def test_a_model_of_ones_own_arrives_as_the_plain_wire_has_it() -> None:
    class Own(BaseModel):
        messages: list[BaseMessage]
        pair: tuple[int, int]

    value = Own(messages=[AIMessage("x")], pair=(1, 2))
    assert crossed(value) == {"messages": [AIMessage("x")], "pair": [1, 2]}


def test_without_langgraph_stand_ins_of_ours_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    written = SERIALIZER.dumps([Interrupt(value=(1,), id="7"), Command(goto=[Send("a", 1)])])
    monkeypatch.setitem(sys.modules, "langgraph.types", None)
    interrupt, command = SERIALIZER.loads(written)
    assert interrupt == extension.Interrupt(value=(1,), id="7")
    assert command == extension.Command(goto=[extension.Send("a", 1)])
    sent = SERIALIZER.dumps([interrupt, command, extension.Command(resume=True)])
    monkeypatch.undo()
    assert SERIALIZER.loads(sent) == [
        Interrupt(value=(1,), id="7"),
        Command(goto=[Send("a", 1)]),
        Command(resume=True),
    ]


@pytest.mark.skipif(
    "timeout" not in inspect.signature(Send).parameters, reason="this LangGraph has no such limit"
)
def test_a_send_with_a_time_limit_of_its_own_is_refused() -> None:
    with pytest.raises(TypeError, match="time limit"):
        SERIALIZER.dumps(Send("a", 1, timeout=5))


@pytest.mark.parametrize(
    "tree",
    [
        {"__locktender__": "AIMessage", "value": {"content": 5}},
        {"__locktender__": "AIMessage", "value": []},
        {"__locktender__": "Command", "value": {"go": 1}},
        {"__locktender__": "Interrupt", "value": {}},
        {"__locktender__": "langgraph.types.Interrupt", "value": {"value": 1, "id": "1"}},
        {"__locktender__": "uuid", "value": 5},
    ],
)
def test_what_is_no_object_is_a_value_error(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"kind of value|There is no"):
        SERIALIZER.loadd(tree)
