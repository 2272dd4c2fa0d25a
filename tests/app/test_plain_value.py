"""What stands in JSON for a value that JSON lacks."""

import datetime as dt
import subprocess
import sys
from collections import deque, namedtuple
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch

from locktender.app.plain_value import MAX_ARRAY_NUMBERS, plain_value
from locktender.app.serialization import WellKnownSerializer

Point = namedtuple("Point", "x y")  # noqa: PYI024 - as users still make them
JSON = WellKnownSerializer()


class Stamp(dt.datetime):
    """As the time of a data frame is one."""


class Share(float):
    """A number of somebody's own."""


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("ba"), ["a", "b"]),
        ({(2, "b"), (1, "a")}, [[1, "a"], [2, "b"]]),
        (set(), []),
        ("é".encode(), "é"),
        (b"\xff\xfe", "//4="),
        (bytearray(b"x"), "x"),
        (memoryview(b"x"), "x"),
        (Decimal("1.50"), "1.50"),
        (Decimal("NaN"), "NaN"),
        (Path("a/b.txt"), "a/b.txt"),
        (PureWindowsPath("c:/a"), "c:\\a"),
        (dt.timedelta(days=1, seconds=3.5), "P1DT3.5S"),
        (dt.timedelta(seconds=-1), "-PT1S"),
        (Point(1, {2}), [1, [2]]),
        (deque([1, 2]), [1, 2]),
        (Stamp(2026, 1, 2), "2026-01-02T00:00:00"),
        (Share(0.5), 0.5),
    ],
)
def test_python_s_own(value: object, written: object) -> None:
    assert JSON.dumpd({"k": [value]}) == {"k": [written]}


def test_a_set_whose_members_cannot_be_compared_is_a_list_all_the_same() -> None:
    assert sorted(JSON.dumpd({1, "a", None}), key=str) == [1, None, "a"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.25), 0.25),
        (np.float16(1), 1.0),
        (np.longdouble(1.5), 1.5),
        (np.float32("nan"), None),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.bytes_(b"x"), "x"),
        (np.datetime64("2026-01-02T03:04:05"), "2026-01-02T03:04:05"),
        (np.datetime64("NaT"), None),
        (np.timedelta64(90, "s"), "PT1M30S"),
        (np.array(5), 5),
        (np.array([[1, 2], [3, 4]], dtype=np.uint8), [[1, 2], [3, 4]]),
        (np.array([0.5, np.inf]), [0.5, None]),
        (np.array([{1}, None], dtype=object), [[1], None]),
        (np.array(["2026-01-02", "NaT"], dtype="datetime64[D]"), ["2026-01-02", None]),
        (np.array([[1, 2]], dtype="timedelta64[s]"), [["PT1S", "PT2S"]]),
        (np.array(1, dtype="timedelta64[s]"), "PT1S"),
        (np.zeros(0), []),
        (np.zeros(1, dtype=[("a", "i4"), ("b", "f4")]), [[0, 0.0]]),
    ],
)
def test_numpy_s(value: object, written: object) -> None:
    assert JSON.dumpd({"k": value}) == {"k": written}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (torch.tensor(0.5), 0.5),
        (torch.tensor([[1, 2]]), [[1, 2]]),
        (torch.nn.Parameter(torch.ones(2)), [1.0, 1.0]),
        (torch.ones(1, dtype=torch.bfloat16), [1.0]),
        (torch.Size([1, 2]), [1, 2]),
    ],
)
def test_torch_s(value: object, written: object) -> None:
    assert JSON.dumpd({"k": value}) == {"k": written}


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_an_array_has_a_bound_and_says_so(make: Any) -> None:
    assert len(plain_value(make(MAX_ARRAY_NUMBERS))) == MAX_ARRAY_NUMBERS
    with pytest.raises(TypeError, match="of 100,001 numbers is too large for JSON"):
        plain_value(make(MAX_ARRAY_NUMBERS + 1))


@pytest.mark.parametrize(
    "value",
    [1j, np.complex64(1), np.clongdouble(1), np.array([1j]), torch.eye(2).to_sparse(), object()],
)
def test_what_json_cannot_hold_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=r"^\['k'\]"):
        JSON.dumps({"k": value})


def test_neither_library_is_imported_by_us() -> None:
    code = (
        "import sys\n"
        "from locktender.app.serialization import WellKnownSerializer\n"
        "try:\n"
        "    WellKnownSerializer().dumps([{1}, 1j])\n"
        "except TypeError:\n"
        "    print(sorted({'numpy', 'torch'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
