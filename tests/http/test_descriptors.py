import logging
import resource

import pytest

from locktender.http.descriptors import possible_connections


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand for the system: the soft and the hard limit of the process."""
    told = [1024, 1024]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(told))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: told.__setitem__(slice(None), new))
    return told


@pytest.mark.parametrize("hard", [1_000_000, resource.RLIM_INFINITY])
def test_the_system_is_asked_for_as_much_room_as_is_needed(limits: list[int], hard: int) -> None:
    limits[1] = hard
    assert possible_connections(2048) == 2048
    assert limits == [2048 + 256, hard]


def test_where_there_is_room_nothing_is_changed(limits: list[int]) -> None:
    limits[:] = [resource.RLIM_INFINITY, resource.RLIM_INFINITY]
    assert possible_connections(2048) == 2048
    assert limits == [resource.RLIM_INFINITY, resource.RLIM_INFINITY]


@pytest.mark.parametrize(("hard", "possible"), [(1024, 768), (100, 50), (1, 1)])
def test_where_there_is_not_the_bound_is_lower_and_that_is_said(
    limits: list[int], hard: int, possible: int, caplog: pytest.LogCaptureFixture
) -> None:
    limits[:] = [hard, hard]
    with caplog.at_level(logging.WARNING):
        assert possible_connections(2048) == possible
    assert f"{possible} connections at once instead of 2048" in caplog.text
