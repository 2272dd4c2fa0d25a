"""The requests to chains of each make, with each kind of input.

The routes are `shapes_app`'s.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from compat.exchange import Sent, post
from harness.shape import CONFIG, HEADS, INPUTS

MESSAGE = {"type": "human", "content": "hi"}
_ODD = {"typed_dict": {"a": 1}, "class": {"a": 1}, "unknown_name": {"a": 1}, "generator": "ab"}


def requests() -> Iterator[Sent]:
    for head, kind in product(HEADS, INPUTS):
        value = MESSAGE if kind == "message" else INPUTS[kind]
        yield from _each(f"/shape/{head}", value, config=CONFIG)
    for head in HEADS:
        yield Sent(f"/shape/{head}/input_schema", method="GET")
    wishes: tuple[dict[str, Any], ...] = ({}, {"configurable": {}}, {**CONFIG, "tags": ["t"]})
    for wish in wishes:
        yield from _each("/shape/history", [MESSAGE], config=wish)
    for name, value in _ODD.items():
        yield from _each(f"/odd/{name}", value)
        yield Sent(f"/odd/{name}/input_schema", method="GET")


def _each(path: str, value: Any, **more: Any) -> Iterator[Sent]:
    yield post(f"{path}/invoke", {"input": value, **more})
    yield post(f"{path}/stream", {"input": value, **more})
    yield post(f"{path}/batch", {"inputs": [value], **more})
