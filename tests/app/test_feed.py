"""What a run tells, on its way to one reader: in order, bounded, and gone when the reader is."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from locktender.app.feed import Feed, fed_by

N_ITEMS = 100


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def give_turns(n_turns: int = 1000) -> None:
    for _ in range(n_turns):
        await anyio.lowlevel.checkpoint()


async def fill(feed: Feed[int]) -> None:
    for n in range(N_ITEMS):
        feed.put(n)
        await feed.room()


def fill_now(feed: Feed[int]) -> None:
    for n in range(N_ITEMS):
        feed.put(n)
        feed.room_now()


async def fill_from_a_thread(feed: Feed[int]) -> None:
    await asyncio.to_thread(fill_now, feed)


async def fill_from_a_loop_of_another_thread(feed: Feed[int]) -> None:
    await asyncio.to_thread(lambda: asyncio.run(fill(feed)))


async def fill_while_the_loop_stands_still(feed: Feed[int]) -> None:
    fill_now(feed)


async def fill_while_the_loop_waits_for_the_thread(feed: Feed[int]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fill_now, feed).result()


@pytest.mark.parametrize(
    "run",
    [
        fill,
        fill_from_a_thread,
        fill_from_a_loop_of_another_thread,
        fill_while_the_loop_stands_still,
        fill_while_the_loop_waits_for_the_thread,
    ],
)
async def test_items_are_read_in_order_wherever_they_are_put(run: Any) -> None:
    feed: Feed[int] = Feed(max_ahead=4)
    with anyio.fail_after(20):
        assert [item async for item in feed.read(run(feed))] == list(range(N_ITEMS))


@pytest.mark.parametrize("run", [fill, fill_from_a_thread, fill_from_a_loop_of_another_thread])
async def test_a_run_is_held_while_its_reader_is_behind(run: Any) -> None:
    feed: Feed[int] = Feed(max_ahead=4)
    n_put = 0
    put = feed.put

    def count(item: int) -> None:
        nonlocal n_put
        n_put += 1
        put(item)

    feed.put = count  # type: ignore[method-assign] # to see how far the run is
    n_read = 0
    async with aclosing(feed.read(run(feed))) as items:
        async for _ in items:
            n_read += 1
            await until(lambda: n_put - n_read >= 4 or n_put == N_ITEMS)  # noqa: B023 - called at once
            await give_turns(50)
            assert n_put - n_read <= 4
    assert n_read == N_ITEMS


async def test_many_tasks_of_a_run_are_held_together() -> None:
    feed: Feed[int] = Feed(max_ahead=4)

    async def run() -> None:
        await asyncio.gather(*(fill(feed) for _ in range(10)))

    async with aclosing(feed.read(run())) as items:
        assert await anext(items) == 0
        await give_turns()
        assert len(feed._items) <= 4 + 10  # noqa: SLF001 - how much is kept is the promise
        assert len([item async for item in items]) == 10 * N_ITEMS - 1


async def test_what_a_run_raises_is_raised_after_its_items() -> None:
    async def run(feed: Feed[int]) -> None:
        feed.put(1)
        raise ValueError("broken")

    items = fed_by(run)
    assert await anext(items) == 1
    with pytest.raises(ValueError, match="broken"):
        await anext(items)


async def test_a_reader_that_leaves_cancels_the_run_and_all_tasks_that_joined_it() -> None:
    ended: list[str] = []
    has_begun = asyncio.Event()

    async def wait(name: str) -> None:
        try:
            has_begun.set()
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def part(feed: Feed[int]) -> None:
        feed.join()
        await wait("part")

    async def run(feed: Feed[int]) -> None:
        task = asyncio.create_task(part(feed))
        feed.put(1)
        await wait("run")
        await task

    before = asyncio.all_tasks()
    items: AsyncGenerator[int, None] = fed_by(run)
    assert await anext(items) == 1
    await has_begun.wait()
    await items.aclose()
    assert sorted(ended) == ["part", "run"]
    assert asyncio.all_tasks() == before


async def test_a_reader_that_leaves_lets_a_held_thread_go_on_to_its_end() -> None:
    has_ended = threading.Event()
    feeds: list[Feed[int]] = []

    def work(feed: Feed[int]) -> None:
        feeds.append(feed)
        for _ in range(100):
            fill_now(feed)
        has_ended.set()

    async def run(feed: Feed[int]) -> None:
        await asyncio.to_thread(work, feed)

    items = fed_by(run)
    assert await anext(items) == 0
    await items.aclose()
    await until(has_ended.is_set)
    assert len(feeds[0]._items) <= 300  # noqa: SLF001 - what nobody will read is not kept


def test_a_thread_that_is_held_when_the_loop_ends_goes_on_to_its_end() -> None:
    has_ended = threading.Event()
    kept: list[Any] = []

    def work(feed: Feed[int]) -> None:
        kept.append(feed)
        for _ in range(10):
            fill_now(feed)
        has_ended.set()

    async def run(feed: Feed[int]) -> None:
        await asyncio.to_thread(work, feed)

    async def abandon() -> None:
        kept.append(fed_by(run))
        assert await anext(kept[0]) == 0
        await until(lambda: len(kept[1]._items) >= 256)  # noqa: SLF001 - until it is held

    asyncio.run(abandon())
    assert has_ended.wait(20)
