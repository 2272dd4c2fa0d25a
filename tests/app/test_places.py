import asyncio

import pytest

from locktender.app.places import Places


async def settle() -> None:
    """Let everybody come to where they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


def askers(places: Places, n: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(places.take()) for _ in range(n)]


async def test_so_many_have_a_place_as_there_are_and_the_others_follow_in_order() -> None:
    places = Places(2)
    tasks = askers(places, 4)
    await settle()
    assert [task.done() for task in tasks] == [True, True, False, False]
    places.give_back()
    await settle()
    assert [task.done() for task in tasks] == [True, True, True, False]
    places.give_back()
    await tasks[3]


async def test_when_there_are_fewer_those_under_way_are_left_alone() -> None:
    places = Places(3)
    tasks = askers(places, 4)
    await settle()
    places.limit(1)
    for n_done in (3, 3, 4):
        places.give_back()
        await settle()
        assert [task.done() for task in tasks].count(True) == n_done


async def test_when_there_are_more_those_who_wait_have_them_at_once() -> None:
    places = Places(1)
    tasks = askers(places, 3)
    await settle()
    places.limit(3)
    await asyncio.gather(*tasks)


async def test_who_leaves_while_waiting_takes_no_place() -> None:
    places = Places(1)
    first, second, third = askers(places, 3)
    await settle()
    second.cancel()
    await settle()
    places.give_back()
    await asyncio.gather(first, third)


async def test_who_leaves_in_the_moment_of_being_given_a_place_gives_it_back() -> None:
    places = Places(1)
    _, second, third = askers(places, 3)
    await settle()
    places.give_back()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await third


async def test_they_know_whether_any_of_them_asks() -> None:
    places = Places(1)
    assert not places.are_asking
    with places.asking():
        assert places.are_asking
    assert not places.are_asking
