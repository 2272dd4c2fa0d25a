import asyncio
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from locktender.app.paced_batch import run_batch


async def test_others_have_their_turn_while_the_runs_of_a_batch_begin() -> None:
    n_begun: list[int] = []
    turns: list[int] = []
    may_end = asyncio.Event()

    async def begin(value: int) -> int:
        n_begun.append(value)
        await may_end.wait()
        return value

    async def look() -> None:
        while len(n_begun) < 100:
            turns.append(len(n_begun))
            await asyncio.sleep(0)
        may_end.set()

    runnable: Any = RunnableLambda(begin).with_types(input_type=int)
    outputs, _ = await asyncio.gather(run_batch(runnable, range(100), [{}] * 100), look())
    assert outputs == list(range(100))
    assert max(after - before for before, after in pairwise(turns)) < 20


async def test_what_a_run_raises_stands_in_its_place_and_the_others_end() -> None:
    async def fail_at_two(value: int) -> int:
        await asyncio.sleep(0)
        if value == 2:
            raise ValueError(value)
        return value

    outputs = await run_batch(RunnableLambda(fail_at_two), [1, 2, 3], [{}] * 3)
    assert outputs[0::2] == [1, 3]
    assert isinstance(outputs[1], ValueError)


async def test_runs_end_with_the_batch_that_is_cancelled() -> None:
    ended: list[int] = []

    async def wait(value: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(value)

    batch = asyncio.create_task(run_batch(RunnableLambda(wait), range(10), [{}] * 10))
    for _ in range(50):
        await asyncio.sleep(0)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert sorted(ended) == list(range(10))


async def test_a_runnable_that_has_a_batch_of_its_own_is_asked() -> None:
    asked: list[int] = []

    class Counting(FakeListLLM):
        async def abatch(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            asked.append(len(inputs))
            return await super().abatch(inputs, *args, **kwargs)

    runnable: Runnable[Any, Any] = Counting(responses=["x"])
    assert await run_batch(runnable, ["a", "b"], [{}, {}]) == ["x", "x"]
    assert asked == [2]


async def test_a_limit_is_langchain_s_to_keep() -> None:
    n_now, most = 0, 0

    async def count(_: Any) -> None:
        nonlocal n_now, most
        n_now += 1
        most = max(most, n_now)
        await asyncio.sleep(0)
        n_now -= 1

    by_caller: RunnableConfig = {"max_concurrency": 2}
    for limited, config in (
        (RunnableLambda(count), by_caller),
        (RunnableLambda(count).with_config(max_concurrency=2), RunnableConfig()),
    ):
        await run_batch(limited, range(20), [config] * 20)
        assert most == 2
