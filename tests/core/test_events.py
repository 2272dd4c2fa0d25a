import dataclasses
import inspect
from typing import get_args

from locktender.core import events
from locktender.core.events import DrainStarted, Event, RequestReceived, tell_all


def test_every_event_of_the_module_is_in_the_union_and_is_a_frozen_value() -> None:
    classes = {
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if dataclasses.is_dataclass(kind)
    }
    assert classes == set(get_args(Event))
    for kind in classes:
        assert vars(kind)["__dataclass_params__"].frozen
        assert "__slots__" in vars(kind)


def test_each_observer_is_told_of_every_event_in_order() -> None:
    told: list[tuple[str, Event]] = []
    tell = tell_all(
        lambda event: told.append(("a", event)), lambda event: told.append(("b", event))
    )
    first, second = RequestReceived("1", "m"), DrainStarted(1)
    tell(first)
    tell(second)
    assert told == [("a", first), ("b", first), ("a", second), ("b", second)]


def test_without_observers_an_event_is_told_to_nobody() -> None:
    tell_all()(DrainStarted(0))
