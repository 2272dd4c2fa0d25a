import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.core.errors import InvalidRequest
from locktender.wire.header import TIMEOUT, parse_id, parse_timeout


@pytest.mark.parametrize(
    ("value", "timeout_s"),
    [(None, None), ("2", 2.0), ("0.25", 0.25), ("1e3", 1000.0), (" 86400 ", 86400.0)],
)
def test_a_timeout_is_read(value: str | None, timeout_s: float | None) -> None:
    assert parse_timeout(value) == timeout_s


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "86401", "nan", "inf", "1e999", "9" * 10_000, "2s", "0x1"]
)
def test_a_timeout_that_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_timeout(value)
    assert raised.value.param == TIMEOUT


@given(st.one_of(st.text(), st.floats().map(str), st.integers().map(str)))
def test_any_timeout_is_refused_or_in_range(value: str) -> None:
    try:
        timeout_s = parse_timeout(value)
    except InvalidRequest:
        return
    assert timeout_s is not None
    assert 0 < timeout_s <= 86400


@pytest.mark.parametrize(
    ("value", "repeated"),
    [
        (None, None),
        ("", None),
        ("abc-123", "abc-123"),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        ("a b", None),
        ("a\n", None),
        ("a\u00e9", None),
    ],
)
def test_an_id_is_repeated_only_when_it_can_break_neither_log_nor_header(
    value: str | None, repeated: str | None
) -> None:
    assert parse_id(value) == repeated
