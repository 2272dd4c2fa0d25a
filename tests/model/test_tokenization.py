"""Tokens are told past the gate, so that the bounds are here: how many, how long, by whom."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest

from locktender.core.errors import (
    CapacityError,
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    NoReplicaReady,
    QueueFull,
    RequestTooLarge,
)
from locktender.core.request import Input, TextInput
from locktender.model.replica import Load
from locktender.model.tokenization import Tokenization, Tokens
from locktender.wire.token_count import TokenizeBody


def body(prompt: str, **more: Any) -> TokenizeBody:
    return TokenizeBody.model_validate({"model": "m", "prompt": prompt, **more})


PROMPT = body("a b c")
TOLD = Tokens((7, 8), 64)


class Engines:
    """A pool whose engines tell tokens when they are let."""

    def __init__(self, *loads: Load) -> None:
        self._loads = loads
        self.why: CapacityError | None = None
        self.asked: list[tuple[str, Input]] = []
        self._changed: list[Callable[[], None]] = []
        self.may_tell = asyncio.Event()
        self.n_at_once = self.most_at_once = 0

    @property
    def size(self) -> int:
        return 1

    def refusal(self) -> CapacityError | None:
        return self.why

    def loads(self) -> Sequence[Load]:
        return self._loads

    def replica(self, name: str) -> Any:
        return Teller(self, name)

    def excuse(self, name: str) -> None: ...

    def subscribe(self, changed: Callable[[], None]) -> None:
        self._changed.append(changed)

    def become(self, *loads: Load) -> None:
        """Have others than before."""
        self._loads = loads
        for changed in self._changed:
            changed()


class Teller:
    """One of its engines, as far as it is asked for here."""

    def __init__(self, engines: Engines, name: str) -> None:
        self._engines, self._name = engines, name

    async def tokenize(self, prompt: Input) -> Sequence[int]:
        engines = self._engines
        engines.asked.append((self._name, prompt))
        engines.n_at_once += 1
        engines.most_at_once = max(engines.most_at_once, engines.n_at_once)
        try:
            await engines.may_tell.wait()
        finally:
            engines.n_at_once -= 1
        return (7, 8)


def load(name: str, running: int = 0) -> Load:
    return Load(name, running, 1, 100, 64)


def tokenization(engines: Engines) -> Tokenization:
    return Tokenization(engines, "echo", None)


async def test_the_engine_that_has_least_to_do_is_asked() -> None:
    engines = Engines(load("m-0", 3), load("m-1", 1), load("m-2", 2))
    engines.may_tell.set()
    assert await tokenization(engines).of(PROMPT) == TOLD
    assert engines.asked == [("m-1", TextInput("a b c"))]


async def test_one_prompt_is_read_at_a_time_and_too_many_are_refused() -> None:
    engines = Engines(load("m-0"))
    service = tokenization(engines)
    with anyio.fail_after(10):
        asked = [asyncio.create_task(service.of(PROMPT)) for _ in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await service.of(PROMPT)
        engines.may_tell.set()
        assert await asyncio.gather(*asked) == [TOLD] * 64
        assert await service.of(PROMPT) == TOLD
    assert engines.most_at_once == 1


async def test_whoever_waits_too_long_is_told_and_leaves_nothing_behind() -> None:
    engines = Engines(load("m-0"))
    service = tokenization(engines)
    with anyio.fail_after(10):
        first = asyncio.create_task(service.of(PROMPT))
        await asyncio.sleep(0)
        for _ in range(100):
            with pytest.raises(DeadlineExceeded, match=r"within 0\.001 s"):
                await service.of(PROMPT, timeout_s=0.001)
        first.cancel()
        engines.may_tell.set()
        assert await service.of(PROMPT) == TOLD


async def test_what_an_engine_has_in_hand_ends_before_it_gets_the_next() -> None:
    engines = Engines(load("m-0"))
    service = tokenization(engines)
    with anyio.fail_after(10):
        for _ in range(100):
            with pytest.raises(DeadlineExceeded):
                await service.of(PROMPT, timeout_s=0.001)
        assert len(engines.asked) == 1
        engines.may_tell.set()
        assert await service.of(PROMPT) == TOLD
    assert len(engines.asked) == 2


async def test_an_engine_with_answers_under_way_is_left_to_them_after_a_long_text() -> None:
    long = body("a" * 250_000)
    for running, n_read in ((1, 1), (0, 2)):
        engines = Engines(load("m-0", running))
        engines.may_tell.set()
        service = tokenization(engines)
        assert await service.of(long) == TOLD
        with suppress(DeadlineExceeded):
            await service.of(PROMPT, timeout_s=0.01)
        assert len(engines.asked) == n_read


async def test_while_an_engine_starts_they_wait_for_it() -> None:
    engines = Engines(Load("m-0", 0, 0, 0, 0))  # it is gone, which the pool does not know yet
    engines.may_tell.set()
    service = tokenization(engines)
    with anyio.fail_after(10):
        asked = [asyncio.create_task(service.of(PROMPT)) for _ in range(3)]
        await asyncio.sleep(0)
        engines.become()
        await asyncio.sleep(0)
        assert engines.asked == []
        engines.become(load("m-0"))
        assert await asyncio.gather(*asked) == [TOLD] * 3


async def test_without_an_engine_it_is_said_why() -> None:
    none = Engines()
    with pytest.raises(NoReplicaReady, match="being started"):
        await tokenization(none).of(PROMPT, timeout_s=0.001)
    with anyio.fail_after(10):
        waiting = asyncio.create_task(tokenization(none).of(PROMPT))
        await asyncio.sleep(0)
        none.why = Draining("The service is shutting down.")
        none.become()
        with pytest.raises(Draining):
            await waiting


async def test_what_is_too_long_or_of_another_chat_reaches_no_engine() -> None:
    engines = Engines(load("m-0"))
    with pytest.raises(RequestTooLarge, match="250,001 characters"):
        await tokenization(engines).of(body("a" * 250_001))
    turns = [{"role": "user", "content": "a" * 125_000}, {"role": "user", "content": "b" * 125_001}]
    with pytest.raises(RequestTooLarge, match="250,001 characters"):
        await tokenization(engines).of(
            TokenizeBody.model_validate({"model": "m", "messages": turns})
        )
    with pytest.raises(InvalidRequest, match="`return_token_str` is not known here"):
        await tokenization(engines).of(body("a", return_token_str=True))
    engines.may_tell.set()
    assert await tokenization(engines).of(body("a", temperature=0, user="ann")) == TOLD
    engines.asked.clear()
    with pytest.raises(InvalidRequest, match="`tools` is not supported by the engine `echo`"):
        await tokenization(engines).of(body("a", tools=[1]))
    assert engines.asked == []
