"""Wherever a model is, and whenever it comes, it is guarded at its first use."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI

from adopt.places import LATE, PRESENT, made_by_a_coroutine, made_by_a_function
from adopt.probe import Probe, Probed, ProbedChat, ProbedMoved, crowd, crowd_at_a_route
from locktender import add_routes
from locktender.adopt.doctor import examine


@pytest.mark.parametrize("place", PRESENT, ids=lambda place: place.__name__)
def test_a_model_that_is_there_is_guarded(place: Callable[[Any], Any]) -> None:
    model = Probed()
    chain = place(model)
    assert [each.class_name for each in examine([("chain", chain)]).findings] == ["Probed"]
    add_routes(FastAPI(), chain)
    assert crowd(chain.invoke) == []
    assert (model.probe.n_calls >= 16, model.probe.most) == (True, 1)


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        *((place, Probed) for place in LATE),
        *((made_by_a_function, kind) for kind in (ProbedChat, ProbedMoved)),
        *((made_by_a_coroutine, kind) for kind in (ProbedChat, ProbedMoved)),
    ],
    ids=lambda each: each.__name__,
)
def test_a_model_that_comes_later_is_guarded_at_its_first_use(
    place: Callable[[Callable[[], Any]], Any], kind: type[Any]
) -> None:
    probe = Probe()
    chain, start = place(lambda: kind(probe=probe))
    assert crowd_at_a_route(chain, start) == []
    assert (probe.n_calls, probe.most) == (16, 1)
