"""The shape of a callback event, as it is written and as it is read."""

import json
from typing import Any

import pytest

from locktender.wire.callback_event import PAYLOADS, event_json, parse_events

RUN_ID = "00000000-0000-0000-0000-0000000000aa"


def told(**changes: Any) -> dict[str, Any]:
    event = {
        "run_id": RUN_ID,
        "parent_run_id": None,
        "tags": ["t"],
        "metadata": {"m": 1},
        "serialized": None,
        "inputs": 1,
        "kwargs": {"name": "n"},
        "type": "on_chain_start",
    }
    return {**event, **changes}


def test_an_event_is_written_in_langserve_s_order() -> None:
    written = event_json(
        "on_chain_end", {"outputs": b"2"}, {"run_id": b'"x"', "tags": b"[]"}, b"{}"
    )
    assert written == (
        b'{"run_id":"x","parent_run_id":null,"tags":[],"metadata":null,"outputs":2,"kwargs":{},'
        b'"type":"on_chain_end"}'
    )


def test_what_is_written_is_read_back() -> None:
    for kind, names in PAYLOADS.items():
        payload = dict.fromkeys(names, b"1")
        where = {"run_id": json.dumps(RUN_ID).encode()}
        (event,) = parse_events([json.loads(event_json(kind, payload, where, b'{"k":1}'))])
        assert (event.kind, event.run_id, event.parent_run_id) == (kind, RUN_ID, None)
        assert event.payload == dict.fromkeys(names, 1)
        assert event.kwargs == {"k": 1}


@pytest.mark.parametrize("value", [None, 5, "x", {"a": 1}])
def test_what_is_no_list_has_no_events(value: object) -> None:
    assert parse_events(value) == []


@pytest.mark.parametrize(
    "bad",
    [
        5,
        None,
        [],
        {},
        told(type="on_nothing"),
        told(type=["on_chain_start"]),
        told(run_id="x"),
        told(run_id=5),
        told(run_id=RUN_ID.upper()),
        told(parent_run_id=5),
        told(run_id=None),
        told(parent_run_id="x"),
        told(parent_run_id=[1]),
        told(tags="t"),
        told(tags=[1]),
        told(metadata=[1]),
        told(kwargs=[1]),
        told(type="on_chain_end"),  # without its outputs
    ],
)
def test_what_is_no_event_is_left_out(bad: object) -> None:
    assert len(parse_events([told(), bad, told()])) == 2


def test_a_runnable_may_have_nothing_to_say_of_itself() -> None:
    event = told(tags=None, metadata=None, kwargs=None)
    del event["serialized"]
    (read,) = parse_events([event])
    assert (read.payload["serialized"], read.tags, read.metadata, read.kwargs) == (
        None,
        None,
        None,
        {},
    )


def test_more_events_than_a_run_can_have_are_cut_off() -> None:
    assert len(parse_events([told()] * 20_000)) == 10_000
