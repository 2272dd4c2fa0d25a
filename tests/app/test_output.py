from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from pydantic import BaseModel

from locktender.app.output import OutputWriter
from locktender.app.serialization import WellKnownSerializer
from locktender.wire.langserve import Unprocessable


class Answer(BaseModel):
    a: int = 7


class Longer(Answer):
    z: int = 1


class Tagged(BaseModel):
    tags: set[str]
    n: int = 1


def write(output_type: Any, output: Any) -> bytes:
    runnable: Runnable[Any, Any] = RunnableLambda(lambda value: value)
    typed = runnable.with_types(output_type=output_type)
    return OutputWriter(typed, WellKnownSerializer()).write(output)


@pytest.mark.parametrize(
    ("output_type", "output", "written"),
    [
        (int, 5, b"5"),
        (float, 5, b"5.0"),
        (Any, {"root": 1, "b": 2}, b'{"root":1,"b":2}'),
        (dict, {"root": 1, "b": 2}, b'{"root":1,"b":2}'),
        (int | str, "x", b'"x"'),
        (Answer, {}, b'{"a":7}'),
        (tuple[int, str], (1, "a"), b'[1,"a"]'),
    ],
)
def test_the_schema_may_add_to_an_output(output_type: Any, output: Any, written: bytes) -> None:
    assert write(output_type, output) == written


@pytest.mark.parametrize(
    ("output_type", "output", "written"),
    [
        (Answer, {"a": 1, "b": 2}, b'{"a":1,"b":2}'),
        (Answer, Longer(), b'{"a":7,"z":1}'),
        (int, "x", b'"x"'),
        (list[Answer], [{"a": 1}, {"b": {"c": None}}], b'[{"a":1},{"b":{"c":null}}]'),
    ],
)
def test_the_schema_may_take_nothing_away(output_type: Any, output: Any, written: bytes) -> None:
    assert write(output_type, output) == written


def test_a_message_keeps_its_calls_whatever_the_schema_knows_of_them() -> None:
    message = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c1"}])
    assert b'"id":"c1"' in write(list[BaseMessage], [message])


def test_a_config_that_breaks_the_runnable_is_refused_without_its_fields() -> None:
    prompt = PromptTemplate.from_template("{key} {name}", partial_variables={"key": "secret"})
    configurable = prompt.configurable_fields(template=ConfigurableField(id="template"))
    writer = OutputWriter(configurable, WellKnownSerializer())
    with pytest.raises(Unprocessable, match="before end of string") as caught:
        writer.schema_for({"configurable": {"template": "{name"}})
    assert "secret" not in str(caught.value.detail)


def test_what_cannot_be_written_raises() -> None:
    with pytest.raises(TypeError):
        write(Any, {1j})


@pytest.mark.parametrize(
    ("output_type", "output", "written"),
    [
        (set[str], {"c", "a", "b"}, b'["a","b","c"]'),
        (Tagged, {"tags": {"c", "a", "b"}}, b'{"tags":["a","b","c"],"n":1}'),
        (Tagged, Tagged(tags={"c", "a", "b"}), b'{"tags":["a","b","c"],"n":1}'),
        (list[set[int]], [{300, 20, 1}], b"[[1,20,300]]"),
        (set[int], [300, 20, 1], b"[300,20,1]"),
    ],
)
def test_a_set_is_a_sorted_list_whatever_the_schema_makes_of_it(
    output_type: Any, output: Any, written: bytes
) -> None:
    assert write(output_type, output) == written
