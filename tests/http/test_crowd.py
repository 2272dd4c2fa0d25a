from hypothesis import given
from hypothesis import strategies as st

from locktender.http.crowd import Crowd


def test_the_one_that_is_idle_for_longest_goes_for_a_newcomer() -> None:
    crowd = Crowd(3)
    assert [crowd.enter(name, n, 0.0) for n, name in enumerate("abc")] == [None] * 3
    crowd.begin("a")
    assert crowd.enter("d", 3, 0.0) == "b"
    crowd.end("a", 1.0, is_kept=True)
    assert [crowd.enter(name, 3, 1.0) for name in "ef"] == ["c", "d"]
    assert crowd.enter("g", 3, 1.0) == "a"


def test_where_all_are_busy_the_newcomer_goes() -> None:
    crowd = Crowd(1)
    crowd.enter("a", 0, 0.0)
    crowd.begin("a")
    assert crowd.enter("b", 1, 12.0) == "b"
    crowd.end("a", 1.0, is_kept=False)
    assert crowd.enter("c", 0, 1.0) is None


def test_who_keeps_its_server_waiting_goes_where_nobody_is_idle() -> None:
    crowd = Crowd(3)
    for n, name in enumerate("abc"):
        crowd.enter(name, n, 0.0)
        crowd.begin(name)
    crowd.stall("b", 1.0)
    crowd.stall("a", 2.0)
    crowd.stall("b", 3.0)  # it has done so since before
    assert crowd.enter("d", 3, 2.5) == "d"
    assert crowd.enter("d", 3, 3.5) == "b"
    crowd.begin("d")
    crowd.move("a")
    assert crowd.enter("e", 3, 100.0) == "e"


def test_who_has_left_makes_no_room_twice() -> None:
    crowd = Crowd(2)
    crowd.enter("a", 0, 0.0)
    crowd.enter("b", 1, 12.0)
    crowd.leave("a")
    assert crowd.enter("c", 2, 0.0) == "b"


def test_when_to_come_again_follows_the_pace_of_the_answers() -> None:
    crowd = Crowd(1)
    crowd.enter("a", 0, 0.0)
    assert crowd.retry_after_s(0.0) == 5.0
    for now in (0.0, 4.0, 8.0):
        crowd.begin("a")
        crowd.end("a", now, is_kept=True)
    crowd.begin("a")
    crowd.enter("b", 1, 12.0)
    first = crowd.retry_after_s(12.0)
    crowd.enter("c", 1, 12.0)
    assert (first, crowd.retry_after_s(12.0)) == (4.0, 8.0)
    assert crowd.retry_after_s(10_000.0) == 5.0  # of a pace so long ago nothing follows


def test_few_of_those_that_are_turned_away_may_stay_to_hear_it() -> None:
    crowd = Crowd(1)
    assert sum(crowd.linger(n) for n in range(100)) == 64
    crowd.leave(0)
    assert crowd.linger(100)


@given(st.lists(st.tuples(st.sampled_from(["enter", "begin", "end", "leave"]), st.integers(0, 9))))
def test_nobody_who_is_being_answered_ever_goes(steps: list[tuple[str, int]]) -> None:
    crowd, idle, busy = Crowd(4), set[int](), set[int]()
    for now, (step, member) in enumerate(steps):
        if step == "enter" and member not in idle | busy:
            goes = crowd.enter(member, len(idle) + len(busy), float(now))
            assert goes not in busy
            assert goes is not None or len(idle) + len(busy) < 4
            idle = idle | {member} if goes != member else idle
            idle.discard(goes)
        elif step == "begin" and member in idle:
            crowd.begin(member)
            idle.discard(member)
            busy.add(member)
        elif step == "end" and member in busy:
            crowd.end(member, float(now), is_kept=True)
            busy.discard(member)
            idle.add(member)
        elif step == "leave":
            crowd.leave(member)
            idle.discard(member)
            busy.discard(member)
        assert len(idle) + len(busy) <= 4
