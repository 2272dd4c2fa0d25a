"""What comes after the route was added is guarded, and looking for it costs little."""

import logging
from collections.abc import Callable
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from adopt.chains.models import AsyncEcho, Echo, EchoChat, EchoEmbeddings, remote
from adopt.raw import llama
from locktender.adopt.discover import survey
from locktender.adopt.guard import guard_all
from locktender.adopt.swap import plain_class
from locktender.adopt.watch import Watch


def _is_guarded(model: object) -> bool:
    return plain_class(model) is not type(model)


def _begin(watch: Watch, call: Callable[[], Any] = lambda: None) -> Any:
    """Call as a run does, which has a context of its own."""

    def run() -> Any:
        watch.before_run()
        return call()

    return copy_context().run(run)


def _watch(root: object, choice: Any = "auto") -> Watch:
    watch = guard_all(root, choice)
    assert watch is not None
    return watch


@pytest.mark.parametrize("make", [Echo, EchoChat, EchoEmbeddings])
def test_what_is_put_in_an_open_place_is_guarded_before_the_next_run(
    make: Callable[[], Any],
) -> None:
    models: dict[str, Any] = {}
    watch = _watch(RunnableLambda(lambda _: models["a"]))
    models["a"] = make()
    assert not _is_guarded(models["a"])
    _begin(watch)
    assert _is_guarded(models["a"])
    models["b"] = make()
    _begin(watch)
    assert _is_guarded(models["b"])


def test_a_place_that_opens_within_what_has_come_is_watched_too() -> None:
    outer: dict[str, Any] = {}

    class Service:
        def __init__(self) -> None:
            self.llm: Any = None

        def start(self) -> None:
            self.llm = Echo()

    watch = _watch(RunnableLambda(lambda _: outer["service"].llm))
    outer["service"] = Service()
    _begin(watch)
    outer["service"].start()
    _begin(watch)
    assert _is_guarded(outer["service"].llm)


@pytest.mark.parametrize("make", [Echo, llama])
def test_what_an_app_puts_into_its_state_when_it_starts_is_guarded(
    make: Callable[[], Any],
) -> None:
    state = SimpleNamespace(model=None)
    watch = _watch(RunnableLambda(lambda text: state.model(text.strip())))
    state.model = make()
    _begin(watch)
    assert _is_guarded(state.model)


def test_a_model_that_is_met_in_a_run_is_guarded_at_that_call() -> None:
    watch = _watch(RunnableLambda(lambda _: 1))
    before, model = Echo(), Echo()
    before.invoke("a")
    assert _begin(watch, lambda: model.invoke("a")) == "a"
    before.invoke("a")
    assert (_is_guarded(before), _is_guarded(model)) == (False, True)


def test_what_is_safe_or_turned_off_is_left_alone_when_it_is_met(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = _watch(RunnableLambda(lambda _: remote()), {"Echo": "off"})
    caplog.clear()
    models: list[Any] = [Echo(), Echo(), AsyncEcho()]
    _begin(watch, lambda: [model.invoke("a") for model in models])
    assert [type(model) for model in models] == [Echo, Echo, AsyncEcho]
    assert len(caplog.records) == 1


def test_where_there_is_no_code_of_the_users_nothing_is_watched() -> None:
    assert guard_all(remote() | remote()) is None
    assert guard_all(RunnableLambda(lambda _: 1), "off") is None


def test_a_place_that_grows_with_each_request_is_looked_at_less_and_less() -> None:
    kept: dict[int, Any] = {}
    looked: list[object] = []
    seen = survey([("chain", RunnableLambda(lambda n: kept[n]))])
    watch = Watch(seen.openings, looked.extend)
    for n in range(200):
        kept[n] = Echo()
        _begin(watch)
    assert len(looked) < 199 * 200 // 4  # all of them each time would be twice that


def test_places_in_what_requests_leave_behind_are_not_kept() -> None:
    class Session:
        def __init__(self) -> None:
            self.said: list[str] = []

    sessions: dict[int, Any] = {0: Session()}
    seen = survey([("chain", RunnableLambda(lambda n: sessions[n].said))])
    watch = Watch(seen.openings, lambda _: None)
    n_places = len(watch)
    for n in range(50):
        sessions[n] = Session()
        _begin(watch)
    assert len(watch) == n_places


def test_a_model_that_cannot_be_guarded_does_not_stop_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    models: dict[str, Any] = {}
    watch = _watch(RunnableLambda(lambda _: models["a"]))

    class Closed(Echo):
        def __init_subclass__(cls, **_options: Any) -> None:
            raise TypeError("no subclasses")

    models["a"] = Closed()
    with caplog.at_level(logging.WARNING):
        _begin(watch)
    assert "Closed cannot be guarded (no subclasses)" in caplog.text
