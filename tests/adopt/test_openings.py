"""A place where a model may come later is said in words, and a plain one is not."""

import functools
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from adopt.chains.models import Echo, pipeline
from locktender.adopt.discover import survey
from locktender.adopt.holders import UNSET
from locktender.adopt.openings import Opening

_missing: Any
_none: Any = None
_nothing: dict[str, Any] = {}
_full = {"a": "text"}
_number = 7


class _Lazy:
    """A class whose model comes when it is asked for."""

    def __init__(self) -> None:
        self._llm: Any = None
        self.title: str | None = None

    @functools.cached_property
    def other(self) -> Any:
        return Echo()

    def llm(self) -> Any:
        self._llm = self._llm or pipeline()
        return self._llm


@functools.lru_cache
def _cached() -> int:
    return 1


def _imports() -> Any:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - the place

    return AutoModelForCausalLM


_variable: ContextVar[Any] = ContextVar("variable")
_local = threading.local()


@pytest.mark.parametrize(
    ("function", "places"),
    [
        (lambda _: _none, ["chain.func:_none is None so far"]),
        (lambda _: _nothing["a"], ["chain.func:_nothing is empty so far"]),
        (lambda _: _missing, ["chain.func:_missing is not assigned yet"]),  # noqa: F821 - so it is
        (lambda _: _cached(), ["chain.func:_cached has not been called yet"]),
        (lambda _: _variable.get(), ["chain.func:_variable is not assigned yet"]),
        (lambda _: _local.llm, ["chain.func:_local has another value in each thread"]),
        (lambda _: Echo(), ["chain.func:Echo makes a model when it runs"]),
        (_imports, ["chain.func:AutoModelForCausalLM makes a model when it runs"]),
        (lambda _: _full["a"], []),
        (lambda _: _number + len(sys.argv), []),
        (lambda text: {"a": [], "b": None, "c": text}, []),
    ],
)
def test_what_a_function_names_is_said_where_nothing_is_there(
    function: Callable[[Any], Any], places: list[str]
) -> None:
    assert _said(RunnableLambda(function)) == places


def test_what_an_object_sets_later_is_said_and_its_other_fields_are_not() -> None:
    lazy = _Lazy()
    assert _said(RunnableLambda(lambda _: lazy.llm())) == [
        "chain.func:lazy.other is not computed yet",
        "chain.func:lazy._llm is None so far",
        "chain.func:lazy.other:Echo makes a model when it runs",
        "chain.func:lazy.llm:pipeline:HuggingFacePipeline makes a model when it runs",
    ]


def test_holders_that_are_empty_are_said() -> None:
    box = _Lazy()
    gone = weakref.ref(box)
    kept: deque[Any] = deque()
    del box
    assert _said(RunnableLambda(lambda _: (gone(), kept))) == [
        "chain.func:kept is empty so far",
        "chain.func:gone refers to an object that is gone",
    ]


def test_a_place_tells_what_is_new_once() -> None:
    held: dict[str, Any] = {}
    opening = Opening("chain", lambda: held.get("a", UNSET))
    assert (opening.news() is UNSET, opening.is_filled) == (True, False)
    held["a"] = []
    assert (opening.news(), opening.is_filled) == ([], False)
    held["a"].append(1)
    assert (opening.news(), opening.is_filled) == ([1], True)
    assert opening.news() is UNSET


def _said(chain: object) -> list[str]:
    return [f"{opening.path} {opening.why}" for opening in survey([("chain", chain)]).said]
