"""Any value as JSON."""

import json
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from pydantic import BaseModel, model_serializer

from locktender.app.callback_value import value_json
from locktender.app.serialization import WellKnownSerializer

SERIALIZER = WellKnownSerializer()


def told(value: Any) -> Any:
    return json.loads(value_json(value, SERIALIZER))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({1}, [1]),
        (b"ab", "ab"),
        (b"\xff", "/w=="),
        (Decimal("1.50"), "1.50"),
        (object(), "<object>"),
        (ValueError("secret"), "<ValueError>"),
        ({1: 2, None: 3}, {"1": 2, "null": 3}),
        ({(1, "a"): 2}, {"1,a": 2}),
        ([2**70, float("inf"), {1}, object(), 0.5], [2**70, None, [1], "<object>", 0.5]),
        ("\ud800", "\ud800"),
        ({"x": float("nan")}, {"x": None}),
    ],
)
def test_what_json_does_not_know_is_told_as_well_as_it_can_be(value: Any, shown: Any) -> None:
    assert told(value) == shown


def test_what_json_knows_is_as_the_serializer_writes_it() -> None:
    value = {"m": AIMessage("x"), "n": [1, "a", None]}
    assert value_json(value, SERIALIZER) == SERIALIZER.dumps(value)


def test_a_message_beside_something_odd_is_whole() -> None:
    message = AIMessage("x", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
    assert told([message, {1}]) == [json.loads(SERIALIZER.dumps(message)), [1]]
    assert told([message, 2**70])[0]["tool_calls"][0]["name"] == "f"


def test_a_circle_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert b'"<list>"' in value_json(circle, SERIALIZER)


def test_what_is_held_by_many_that_hold_it_is_told_in_time() -> None:
    parent: dict[str, Any] = {}
    parent["children"] = [{"parent": parent, "n": n} for n in range(3)]
    children = [{"parent": "<dict>", "n": n} for n in range(3)]
    assert told(parent) == {"children": children}


def test_what_is_there_twice_is_told_twice() -> None:
    twice = [2**70]
    assert told([twice, twice]) == [twice, twice]


def test_a_generator_is_not_used_up() -> None:
    generator = iter([1, 2])
    assert told({"rows": generator, "n": 2**70}) == {"rows": "<list_iterator>", "n": 2**70}
    assert list(generator) == [1, 2]


class Broken(BaseModel):
    @model_serializer
    def shown(self) -> dict[str, Any]:
        raise RuntimeError("broken")


def test_a_model_that_cannot_be_written_is_told_by_its_name() -> None:
    assert told(Broken()) == "<Broken>"
    assert told([Broken(), 2**70]) == ["<Broken>", 2**70]
