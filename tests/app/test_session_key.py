"""Which keys of `configurable` a runnable asks for, wherever its history of messages stands."""

import warnings
from typing import Any, cast

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.runnables import (
    ConfigurableField,
    ConfigurableFieldSpec,
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.runnables.history import RunnableWithMessageHistory

from locktender.app.session_key import bound_keys, required_session_keys, session_keys

PLAIN: Any = RunnablePassthrough()
SESSION = frozenset({"session_id"})


def by_session(session_id: str) -> InMemoryChatMessageHistory:  # noqa: ARG001 - LangChain's name
    return InMemoryChatMessageHistory()


def for_all() -> InMemoryChatMessageHistory:
    return InMemoryChatMessageHistory()


def by_user(user: str, talk: str) -> InMemoryChatMessageHistory:  # noqa: ARG001 - names of keys
    return InMemoryChatMessageHistory()


def history(find: Any = by_session, *keys: str) -> Any:
    specs = [ConfigurableFieldSpec(id=key, annotation=str) for key in keys]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return RunnableWithMessageHistory(PLAIN, find, history_factory_config=specs or None)


TALK = history()


def by_itself(value: Any) -> Any:
    return TALK.invoke(value)


OTHER = history(by_user, "user", "talk")
BOUND = TALK.with_config(configurable={"session_id": "mine"})
ALTERNATIVES = PLAIN.configurable_alternatives(ConfigurableField(id="which"), talk=TALK)

NEEDED: dict[str, Any] = {
    "alone": TALK,
    "sequence": PLAIN | TALK,
    "map": RunnableParallel(a=PLAIN, b=TALK),
    "assign": RunnablePassthrough.assign(a=TALK),
    "each": TALK.map(),
    "binding": TALK.with_config(tags=["t"]),
    "retry": TALK.with_retry(),
    "every way": RunnableBranch((lambda _: True, TALK), TALK),
    "condition": RunnableBranch((TALK, PLAIN), PLAIN),
    "fallback too": TALK.with_fallbacks([TALK]),
    "deep": RunnableParallel(a={"b": PLAIN | TALK.with_retry()}) | PLAIN,
}
PERHAPS: dict[str, Any] = {
    "way": RunnableBranch((lambda _: True, TALK), PLAIN),
    "default": RunnableBranch((lambda _: True, PLAIN), TALK),
    "later condition": RunnableBranch((lambda _: True, PLAIN), (TALK, PLAIN), PLAIN),
    "first of fallbacks": TALK.with_fallbacks([PLAIN]),
    "fallback": PLAIN.with_fallbacks([TALK]),
    "router": cast("Any", RouterRunnable({"a": TALK, "b": PLAIN})),
    "alternative": ALTERNATIVES,
    "function": RunnableLambda(by_itself),
}


@pytest.mark.parametrize("name", NEEDED)
def test_what_every_run_needs_is_asked_for(name: str) -> None:
    assert required_session_keys(NEEDED[name]) == session_keys(NEEDED[name]) == SESSION


@pytest.mark.parametrize("name", PERHAPS)
def test_what_some_runs_do_without_is_only_known(name: str) -> None:
    assert required_session_keys(PERHAPS[name]) == frozenset()
    assert session_keys(PERHAPS[name]) == SESSION


def test_a_history_is_found_by_the_keys_of_its_factory() -> None:
    assert required_session_keys(OTHER) == {"user", "talk"}
    assert required_session_keys(PLAIN | OTHER | TALK) == {"user", "talk", "session_id"}
    assert session_keys(history(for_all)) == frozenset()


def test_what_the_author_has_bound_is_asked_of_nobody_there() -> None:
    runnable: Runnable[Any, Any] = RunnableParallel(a=BOUND, b=PLAIN)
    assert required_session_keys(runnable) == frozenset()
    assert required_session_keys(RunnableParallel(a=BOUND, b=TALK)) == SESSION
    assert session_keys(runnable) == bound_keys(runnable) == SESSION


@pytest.mark.parametrize(
    "around",
    [
        lambda bound: RunnablePassthrough.assign(a=bound),
        lambda bound: RunnableBranch((lambda _: True, bound), PLAIN),
        lambda bound: PLAIN.with_fallbacks([bound]),
        lambda bound: bound.map(),
        lambda bound: PLAIN.configurable_alternatives(ConfigurableField(id="w"), x=bound),
    ],
)
def test_what_is_bound_is_found_wherever_langchain_puts_it(around: Any) -> None:
    assert bound_keys(around(PLAIN.with_config(configurable={"user": 1}))) == {"user"}
