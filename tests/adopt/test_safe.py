"""What serves many callers by itself is left alone, and nothing is said of it."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI

from adopt.safe import SAFE
from locktender import add_routes
from locktender.adopt.contents import contents_of, is_opaque
from locktender.adopt.discover import survey
from locktender.adopt.doctor import examine
from locktender.adopt.swap import PLAIN


@pytest.mark.parametrize("make", SAFE, ids=lambda make: make.__name__)
def test_what_is_safe_is_left_alone(
    make: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    chain = make()
    add_routes(FastAPI(), chain)
    diagnosis = examine([("chain", chain)])
    assert (diagnosis.findings, diagnosis.cuts, diagnosis.open_places) == ((), (), ())
    assert [kind for kind in _classes(chain) if hasattr(kind, PLAIN)] == []
    assert [record.message for record in caplog.records if "guard" in record.message] == []


def test_there_are_more_than_twenty_safe_things() -> None:
    assert len(SAFE) > 20


def _classes(root: object) -> list[type]:
    """Return the class of everything in `root`."""
    waiting, seen = [root], dict[int, object]()
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            waiting.extend(part for _, part in contents_of(value) if not is_opaque(part))
    found = [each.model for each in survey([("chain", root)]).found]
    return [type(value) for value in (*seen.values(), *found)]
