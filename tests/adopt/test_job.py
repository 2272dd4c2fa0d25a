"""A job ends once, tells its reader, and keeps what its reader has not read."""

import pytest

from locktender.adopt.job import Job


def job() -> Job[int]:
    return Job(lambda _call: None)


def test_the_reader_is_told_of_each_piece_and_of_the_end() -> None:
    n_told = 0

    def wake() -> None:
        nonlocal n_told
        n_told += 1

    mine = job()
    mine.watch(wake)
    mine.put("a")
    mine.end(1)
    assert n_told == 3  # the first is for what came before
    mine.let_go()
    assert n_told == 4
    assert mine.take() == ["a"]


def test_a_job_ends_once() -> None:
    mine = job()
    mine.end(1)
    mine.fail(ValueError("late"))
    mine.put("late")
    assert mine.result() == 1
    assert mine.take() == []


def test_pieces_that_nobody_reads_are_merged() -> None:
    mine = job()
    for _ in range(10_000):
        mine.put("ab")
    pieces = mine.take()
    assert len(pieces) < 5_000
    assert "".join(pieces) == "ab" * 10_000


def test_a_failed_job_raises_its_error() -> None:
    mine, error = job(), ValueError("mine")
    mine.fail(error)
    with pytest.raises(ValueError, match="mine") as raised:
        mine.result()
    assert raised.value is error
