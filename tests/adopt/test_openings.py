"""A place where a model may come later is said in words, and a plain one is not."""

import functools
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from adopt.chains.models import Echo, pipeline, remote
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


class _State:
    """What an app keeps; it is filled when the app starts."""

    def __init__(self) -> None:
        self.llm: Any = None
        self.size: int | None = None

    def answer(self, text: str) -> Any:
        return self.llm.invoke(text) if self.size is None else self.llm(text)


@dataclass(slots=True)
class _Slotted:
    llm: Any = None


class _Settings:
    llm: Any = None


class _Declared:
    llm: Any


class _Made:
    """An object whose attributes are made up."""

    def __getattr__(self, name: str) -> Any:
        return name

    @property
    def llm(self) -> Any:
        return None


class _Nothing:
    def __get__(self, instance: object, owner: type | None = None) -> None: ...


class _Described:
    llm = _Nothing()


_state = _State()
_outer = SimpleNamespace(inner=_State())


def _places_within(holder: Any) -> list[str]:
    return _said(RunnableLambda(lambda text: holder.llm.invoke(text.strip())))


@pytest.mark.parametrize(
    "holder", [_State(), _Slotted(), _Settings(), _Settings, SimpleNamespace(llm=None)]
)
def test_an_attribute_that_is_filled_later_is_said_if_more_is_asked_of_it(holder: Any) -> None:
    assert _places_within(holder) == ["chain.func:holder.llm is None so far"]
    assert _said(RunnableLambda(lambda text: holder.llm(text.strip()))) == [
        "chain.func:holder.llm is None so far"
    ]


def test_so_are_those_of_globals_of_what_they_hold_and_of_a_method_s_own_object() -> None:
    assert _said(RunnableLambda(lambda text: _state.llm.invoke(text.strip()))) == [
        "chain.func:_state.llm is None so far"
    ]
    assert _said(RunnableLambda(lambda text: _outer.inner.llm(text.strip()))) == [
        "chain.func:_outer.inner.llm is None so far"
    ]
    assert _said(RunnableLambda(_State().answer)) == ["chain.func.__self__.llm is None so far"]
    assert _places_within(_Declared()) == ["chain.func:holder.llm is not assigned yet"]


def test_nothing_is_said_of_attributes_that_are_made_up_or_filled() -> None:
    filled = _State()
    filled.llm = object()
    for holder in (_Made(), filled, remote()):
        assert _places_within(holder) == []
    assert _places_within(_Described()) == []
    slotted = _Slotted()
    assert _said(RunnableLambda(lambda _: slotted.llm)) == []  # it may be a number as well
    made = _Made()
    assert _said(RunnableLambda(lambda text: made.other.invoke(text))) == []


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
