from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig, RunnableLambda
from pydantic import BaseModel, field_validator

from locktender.app.input import InputReader
from locktender.app.user_type import CustomUserType
from locktender.wire.langserve import Unprocessable


class Inner(CustomUserType):
    x: int


class Outer(BaseModel):
    inner: Inner
    again: "Outer | None" = None


def reader(input_type: Any) -> InputReader:
    runnable: Runnable[Any, Any] = RunnableLambda(lambda value: value)
    return InputReader(runnable.with_types(input_type=input_type))


def test_a_plain_model_becomes_a_dict_and_a_user_s_type_stays() -> None:
    value = reader(Outer).read({"inner": {"x": 1}, "again": {"inner": {"x": 2}}}, {})
    assert value == {"inner": Inner(x=1), "again": {"inner": Inner(x=2), "again": None}}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([["human", "hi"], ["ai", "ho"]], [HumanMessage("hi"), AIMessage("ho")]),
        ([{"role": "user", "content": "hi"}], [HumanMessage("hi")]),
        ([{"type": "human", "content": "hi"}], [HumanMessage("hi")]),
    ],
)
def test_messages_are_read_in_each_of_their_forms(given: Any, read: list[AnyMessage]) -> None:
    assert reader(list[AnyMessage]).read(given, {}) == read


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        (BaseMessage, {"type": "human", "content": "hi"}, HumanMessage("hi")),
        (BaseMessage, ["ai", "ho"], AIMessage("ho")),
        (list[BaseMessage], [{"type": "human", "content": "hi"}], [HumanMessage("hi")]),
        (BaseMessage | str, "hi", "hi"),
        (dict[str, Sequence[BaseMessage]], {"a": [["human", "hi"]]}, {"a": [HumanMessage("hi")]}),
    ],
)
def test_a_message_has_its_own_class_where_the_type_names_the_base(
    kind: Any, given: Any, read: Any
) -> None:
    def say(value: Any) -> Any:
        return value

    say.__annotations__["value"] = kind
    assert InputReader(RunnableLambda(say)).read(given, {}) == read
    assert reader(kind).read(given, {}) == read


def test_a_message_of_a_type_that_nobody_knows_stays_what_it_was_read_as() -> None:
    assert type(reader(BaseMessage).read({"type": "odd", "content": "hi"}, {})) is BaseMessage
    with pytest.raises(Unprocessable):
        reader(BaseMessage).read({"content": "hi"}, {})


def test_short_messages_are_found_within_an_input() -> None:
    class Chat(BaseModel):
        history: list[AnyMessage]
        question: str

    value = reader(Chat).read({"history": [["human", "hi"]], "question": "?"}, {})
    assert value == {"history": [HumanMessage("hi")], "question": "?"}


@pytest.mark.parametrize("given", [["hi"], [5], [["nobody", "hi"]], [{"content": "x"}], 5])
def test_what_is_no_message_is_unprocessable(given: Any) -> None:
    with pytest.raises(Unprocessable):
        reader(list[AnyMessage]).read(given, {})


def test_two_strings_that_are_no_message_stay_what_they_are() -> None:
    assert reader(list[str]).read(["human", "hi"], {}) == ["human", "hi"]


def test_a_validator_that_fails_oddly_is_the_input_s_fault() -> None:
    class Odd(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, value: int) -> int:
            raise LookupError(value)

    with pytest.raises(Unprocessable) as raised:
        reader(Odd).read({"n": 1}, {}, "inputs", 0)
    assert isinstance(raised.value.detail, list)
    assert raised.value.detail[0]["loc"] == ["inputs", 0]


def test_a_configured_prompt_is_asked_for_its_own_input() -> None:
    prompt = PromptTemplate.from_template("say {name}").configurable_fields(
        template=ConfigurableField(id="template")
    )
    inputs = InputReader(prompt)
    assert inputs.read({"name": "x"}, {}) == {"name": "x"}
    config: Any = {"configurable": {"template": "bye {who}"}}
    assert inputs.read({"who": "x"}, config) == {"who": "x"}
    with pytest.raises(Unprocessable):
        inputs.read({"name": "x"}, config)


def test_the_schema_is_made_once() -> None:
    inputs = reader(int)
    inputs.read(1, {})
    assert inputs.schema is inputs.schema


def test_a_config_that_breaks_the_runnable_is_refused_without_its_fields() -> None:
    prompt = PromptTemplate.from_template("{key} {name}", partial_variables={"key": "secret"})
    configurable = prompt.configurable_fields(template=ConfigurableField(id="template"))
    config: RunnableConfig = {"configurable": {"template": "{name"}}
    with pytest.raises(Unprocessable, match="before end of string") as caught:
        InputReader(configurable).read({"name": "x"}, config)
    assert "secret" not in str(caught.value.detail)


def test_arguments_that_nest_too_deep_to_be_read_are_the_inputs_fault() -> None:
    arguments = "[" * 1_100 + "]" * 1_100
    function = {"name": "f", "arguments": arguments}
    call = {"id": "1", "type": "function", "function": function}
    with pytest.raises(Unprocessable):
        reader(list[AnyMessage]).read(
            [{"role": "assistant", "content": "", "tool_calls": [call]}], {}
        )


def test_a_number_that_cannot_be_compared_is_the_inputs_fault() -> None:
    with pytest.raises(Unprocessable):
        reader(list[AnyMessage]).read(Decimal("sNaN"), {})
