"""A crowd begins a few at a time, in order, and nobody waits for another's run."""

import asyncio

import anyio

from locktender.app.turn import Turns


async def test_one_who_comes_alone_does_not_wait() -> None:
    turns = Turns()
    for _ in range(9):
        with anyio.fail_after(5):
            await turns.take()
        await asyncio.sleep(0)


async def test_a_crowd_begins_a_few_at_a_time_in_the_order_of_its_coming() -> None:
    turns, begun = Turns(per_turn=4), list[int]()
    per_turn = []

    async def begin(n: int) -> None:
        await turns.take()
        begun.append(n)

    runs = [asyncio.create_task(begin(n)) for n in range(22)]
    with anyio.fail_after(5):
        while len(begun) < len(runs):
            before = len(begun)
            await asyncio.sleep(0)
            per_turn.append(len(begun) - before)
    assert begun == list(range(22))
    assert max(per_turn) <= 4
    assert len(per_turn) < 22


async def test_one_who_leaves_while_it_waits_takes_no_turn() -> None:
    turns = Turns(per_turn=1)
    runs = [asyncio.create_task(turns.take()) for _ in range(6)]
    await asyncio.sleep(0)
    for run in runs[1:5]:
        run.cancel()
    with anyio.fail_after(5):
        await asyncio.wait(runs)
    assert [run.cancelled() for run in runs] == [False, True, True, True, True, False]


def test_a_loop_that_ended_in_the_middle_does_not_stop_the_next_one() -> None:
    turns, left = Turns(per_turn=1), list[asyncio.Task[None]]()

    async def leave_one_waiting() -> None:
        await turns.take()
        left.append(asyncio.create_task(turns.take()))

    async def take_two() -> None:
        with anyio.fail_after(5):
            await turns.take()
            await turns.take()

    asyncio.run(leave_one_waiting())
    asyncio.run(take_two())
    asyncio.run(take_two())


async def test_another_loop_is_not_held_up() -> None:
    turns = Turns(per_turn=1)
    await turns.take()

    def elsewhere() -> None:
        asyncio.run(asyncio.wait_for(turns.take(), 5))

    await asyncio.to_thread(elsewhere)
    await turns.take()
