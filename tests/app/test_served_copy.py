"""A copy of a chain with stand-ins for some of its steps."""

from typing import Any, cast

import pytest
from langchain_core.runnables import (
    ConfigurableField,
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSequence,
)

from locktender.app.served_copy import with_stand_ins

OLD: Runnable[Any, Any] = RunnableLambda(lambda _: "old")
NEW: Runnable[Any, Any] = RunnableLambda(lambda _: "new")
ALTERNATIVES: Runnable[Any, Any] = RunnablePassthrough().configurable_alternatives(
    ConfigurableField(id="which"), other=OLD
)


def failing(_: Any) -> Any:
    raise ValueError


class Own(RunnableSequence[Any, Any]):
    """A sequence of somebody's own."""


CHAINS: dict[str, Runnable[Any, Any]] = {
    "alone": OLD,
    "sequence": RunnablePassthrough() | OLD | RunnablePassthrough(),
    "parallel": RunnableParallel(a=OLD) | (lambda made: made["a"]),
    "binding": OLD.with_config(tags=["t"]),
    "retry": OLD.with_retry(),
    "each": (lambda value: [value]) | OLD.map() | (lambda made: made[0]),
    "branch": RunnableBranch((lambda _: True, OLD), lambda _: "otherwise"),
    "default of a branch": RunnableBranch((lambda _: False, lambda _: "branch"), OLD),
    "condition": RunnableBranch(
        (OLD | (lambda made: made == "new"), lambda _: "new"), lambda _: "x"
    ),
    "fallback": RunnableLambda(failing).with_fallbacks([OLD]),
    "assign": (lambda value: {"v": value})
    | RunnablePassthrough.assign(a=OLD)
    | (lambda made: made["a"]),
    "router": RunnableLambda(lambda value: {"key": "k", "input": value})
    | cast("Any", RouterRunnable({"k": OLD})),
    "alternative": ALTERNATIVES.with_config(configurable={"which": "other"}),
    "deep": RunnableParallel(a={"b": (RunnablePassthrough() | OLD).with_config(tags=["t"])})
    | (lambda made: made["a"]["b"]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_step_is_found_wherever_langchain_puts_it(name: str) -> None:
    chain = CHAINS[name]
    served = with_stand_ins(chain, lambda step: NEW if step is OLD else step)
    assert served.invoke(1) == "new"
    assert chain.invoke(1) != "new"


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_without_one_is_not_copied(name: str) -> None:
    assert with_stand_ins(CHAINS[name], lambda step: step) is CHAINS[name]


def test_what_a_class_of_the_user_s_holds_is_left_to_it() -> None:
    own = Own(first=RunnablePassthrough(), last=OLD)
    assert with_stand_ins(own, lambda step: NEW if step is OLD else step) is own
