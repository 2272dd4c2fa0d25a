"""What a search left undone is said when a route is added, with the place and what to do."""

from typing import Any

import pytest
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda

from adopt.chains.models import Echo, remote
from locktender import add_routes, guard
from locktender.adopt.discover import survey
from locktender.adopt.remark import remarks
from locktender.adopt.swap import plain_class


def test_where_the_search_was_cut_off_is_logged_and_what_was_found_is_guarded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    near, far = Echo(), Echo()
    kept: list[Any] = [near, *([] for _ in range(100_001)), far]
    add_routes(FastAPI(), RunnableLambda(lambda n: kept[n].invoke("")))
    assert "met its bound at chain.func:kept[" in caplog.text
    assert "locktender.guard(model)" in caplog.text
    assert (plain_class(near) is type(near), plain_class(far) is type(far)) == (False, True)
    caplog.clear()
    guard(RunnableLambda(lambda n: kept[n].invoke("")))
    assert "met its bound" in caplog.text


def test_open_places_are_one_warning_and_not_all_of_them_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables: list[dict[str, Any]] = [{} for _ in range(12)]

    def reads(table: dict[str, Any]) -> Any:
        return RunnableLambda(lambda _: table["a"])

    functions = [reads(table) for table in tables]
    add_routes(FastAPI(), remote() | {str(n): each for n, each in enumerate(functions)})
    assert len([one for one in caplog.records if "Models may come later" in one.message]) == 1


def test_of_many_places_the_first_are_named() -> None:
    def answer(_: object) -> object:
        return (_a, _b, _c, _d, _e, _f, _g, _h, _i, _j)

    (said,) = remarks(survey([("chain", RunnableLambda(answer))]))
    assert said.count("is None so far") == 8
    assert "; and 2 more (see `locktender doctor`)" in said
    assert remarks(survey([("chain", remote())])) == []


_a = _b = _c = _d = _e = _f = _g = _h = _i = _j = None
