"""The requests to graphs and agents."""

from collections.abc import Iterator
from typing import Any

from compat.exchange import Sent, post

_STATES = (
    {"text": "hi", "n": 1},
    {"text": "hi"},
    {"n": "many", "text": "hi"},
    {"text": 5},
    5,
    None,
)
_HUMAN = {"type": "human", "content": "hi"}
_TALKS = (
    *(
        {"messages": [_HUMAN]},
        {"messages": [["human", "hi"]]},
        {"messages": 5},
        {"messages": ["hi"]},
        {"messages": ["human", "hi"]},
        {"messages": "hi"},
        {"messages": _HUMAN},
    ),
    {"messages": [{"role": "user", "content": "hi"}, {"type": "ai", "content": "ho"}, _HUMAN]},
)
_GRAPHS: dict[str, tuple[Any, ...]] = {
    "part": _STATES,
    "whole": _STATES,
    "model": _STATES,
    "talk": _TALKS,
    "vague": _TALKS,
    "agent": _TALKS,
    "kept": _STATES[:2],
}
_THREAD = {"configurable": {"thread_id": "a", "__pregel_store": 1}}


def requests() -> Iterator[Sent]:
    for name, values in _GRAPHS.items():
        path = f"/graph/{name}"
        for schema in ("input_schema", "output_schema", "config_schema"):
            yield Sent(f"{path}/{schema}", method="GET")
        config = _THREAD if name == "kept" else {}
        for value in values:
            yield post(f"{path}/invoke", {"input": value, "config": config})
            yield post(f"{path}/batch", {"inputs": [value], "config": config})
            yield post(f"{path}/stream", {"input": value, "config": config})
        for told in ("stream_log", "stream_events"):
            yield post(f"{path}/{told}", {"input": values[0], "config": config})
    for name in ("invoke", "stream"):
        yield post(f"/graph/kept/{name}", {"input": _STATES[0]})
        yield post(f"/graph/talk/{name}", {"input": _TALKS[0], "config": _THREAD})
        yield post(f"/graph/talk/{name}", {"input": {"messages": []}, "config": {"tags": ["a"]}})
