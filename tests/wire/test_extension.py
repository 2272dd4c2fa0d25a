import contextlib
import datetime as dt
import json
import math
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from locktender.wire.extension import TAG, Codec, Kind, with_tag


class Point(NamedTuple):
    x: int
    y: int


class Colour(StrEnum):
    RED = "r"


@dataclass
class Place:
    name: str
    seen: tuple[int, ...]
    _kept: str = "not told"


class Box:
    """Something of a listed kind."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside


class Odd:
    """Something of no kind."""


BOX = Kind("box", lambda box: box.inside, Box)


def _plain(value: object) -> Any:
    if isinstance(value, Odd):
        return {"odd": {TAG: "tuple", "value": [1]}}
    raise TypeError(type(value).__name__)


CODEC = Codec(
    writing=lambda value: BOX if isinstance(value, Box) else None,
    reading={"box": BOX},
    plain=_plain,
    revive=lambda tree: ("revived", tree),
)


def _is_once(at: dt.datetime) -> bool:
    """Whether `at` may equal a time of another zone; in an hour that comes twice it does not."""
    offset = at.utcoffset()
    return offset is None or at == at.replace(tzinfo=dt.timezone(offset))


hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.timezones()).filter(_is_once)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.sampled_from([TAG, "value"]), inner, max_size=3)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
    ),
    max_leaves=15,
)


def crossed(value: Any) -> Any:
    return CODEC.load(json.loads(CODEC.dumps(value)))


def typed(value: Any) -> Any:
    """Return a form in which 1, 1.0 and True are three."""
    if isinstance(value, dict):
        return "dict", [(typed(key), typed(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), {typed(item) if not isinstance(item, tuple) else item for item in value}
    return type(value), value


@given(values)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    assert crossed(value) == value
    assert type(crossed(value)) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        {TAG: "tuple", "value": [1]},
        {TAG: 5},
        {"a": [{TAG: "bytes", "value": "x", "more": ()}]},
        {1: "int", "1": "str", 1.5: "float", None: "none", (1, 2): "tuple"},
        [1, 1.0, True, 2**63, 2**64, -(2**63) - 1],
        (("ns",), "messages", ({"a": b"\x00"}, {})),
    ],
)
def test_kinds_are_told_apart(value: Any) -> None:
    assert typed(crossed(value)) == typed(value)


def test_numbers_that_json_lacks_come_back() -> None:
    assert crossed([math.inf, -math.inf]) == [math.inf, -math.inf]
    assert math.isnan(crossed(math.nan))


def test_a_value_of_a_derived_class_arrives_as_what_it_derives_from() -> None:
    value = [Point(1, 2), Colour.RED, OrderedDict(a=1), defaultdict(int, b=2), Place("p", (3,))]
    assert crossed(value) == [(1, 2), "r", {"a": 1}, {"b": 2}, {"name": "p", "seen": (3,)}]


def test_an_object_of_a_listed_kind_is_made_again_with_what_it_holds() -> None:
    box = crossed([Box((1, Box({2})))])[0]
    assert isinstance(box, Box)
    assert box.inside[1].inside == {2}


def test_what_was_written_as_plain_json_is_never_read_as_a_kind() -> None:
    assert crossed(Odd()) == ("revived", {"odd": {TAG: "tuple", "value": [1]}})


def test_what_cannot_be_written_says_so() -> None:
    with pytest.raises(TypeError, match="object"):
        CODEC.dumps([object()])


@pytest.mark.parametrize(
    "tree",
    [
        with_tag("os.system", "true"),
        with_tag("Interrupt", {}),
        {TAG: "tuple"},
        {TAG: "tuple", "value": [], "more": 1},
        {TAG: ["tuple"], "value": []},
        with_tag("tuple", "text"),
        with_tag("set", [[]]),
        with_tag("dict", [[1]]),
        with_tag("dict", [[[], 1]]),
        with_tag("bytes", "not base64!"),
        with_tag("bytes", [1]),
        with_tag("datetime", 5),
        with_tag("datetime", "yesterday"),
        with_tag("timedelta", ["x"]),
        with_tag("timedelta", [10**12]),
        with_tag("decimal", "1x"),
        with_tag("decimal", "1" * 5000),
        with_tag("decimal", "1E+999999999"),
        with_tag("bytes", "QQ==QUFB"),
        with_tag("int", "9" * 5000),
        with_tag("float", None),
    ],
)
def test_what_is_no_value_is_a_value_error(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"kind of value|There is no"):
        CODEC.load({"in": [tree]})


def nested(value: Any, n: int) -> Any:
    for _ in range(n):
        value = [value]
    return value


def test_depth_is_bounded_both_ways() -> None:
    with pytest.raises(TypeError, match="deep"):
        CODEC.dumps(nested(1, 1000))
    with pytest.raises(ValueError, match="deep"):
        CODEC.load(nested(1, 900))
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TypeError, match="deep"):
        CODEC.dumps(circle)


@pytest.mark.parametrize("wrap", [list, tuple, Box, lambda items: {1: items}])
def test_what_can_be_written_can_be_read(wrap: Any) -> None:
    n_deep, value = 0, wrap([1])
    while True:
        try:
            written = CODEC.dumps(value)
        except TypeError:
            break
        CODEC.load(from_json(written))
        n_deep, value = n_deep + 1, wrap([value])
    assert n_deep > 20


def test_a_time_zone_survives_as_an_instant() -> None:
    at = dt.datetime(2026, 11, 22, 12, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45)))
    assert crossed(at) == at
    assert crossed(Decimal("1.10")).as_tuple() == Decimal("1.10").as_tuple()


PRIME = 2**61 - 1  # by which Python divides a number for its hash


class Alike:
    """Has the hash of all others, and counts how often it is compared."""

    n_compared = 0

    def __init__(self, hashed: int) -> None:
        self.hashed = hashed

    def __hash__(self) -> int:
        return self.hashed

    def __eq__(self, other: object) -> bool:
        Alike.n_compared += 1
        return self is other


ALIKE = Codec(
    writing=lambda _: None,
    reading={"alike": Kind("alike", lambda _: None, Alike)},
    plain=_plain,
    revive=lambda tree: tree,
)


@given(st.lists(st.integers(0, 3) | st.integers(), max_size=400), st.integers(1, 50))
def test_each_member_is_compared_with_a_bounded_number_of_others(
    hashes: list[int], times: int
) -> None:
    members = [with_tag("alike", hashed) for hashed in hashes * times]
    for tree in (with_tag("frozenset", members), with_tag("dict", [[key, 1] for key in members])):
        Alike.n_compared = 0
        with contextlib.suppress(ValueError):
            ALIKE.load(tree)
        # Each with 32 others at most, and not once only: a probe may come to a place again.
        assert Alike.n_compared <= 4 * 32 * len(members)


@pytest.mark.parametrize(
    "member",
    [
        lambda n: PRIME * n,
        lambda n: with_tag("int", str(PRIME * n)),
        lambda n: with_tag("decimal", f"{PRIME * n}.0"),
        lambda n: with_tag("decimal", f"{n * PRIME}E+{n % 3}"),
        lambda n: with_tag("tuple", ["a", PRIME * n]),
        lambda n: with_tag("frozenset", [PRIME * n]),
    ],
)
def test_members_chosen_to_have_one_hash_are_refused(member: Any) -> None:
    members = [member(n) for n in range(1, 200)]
    for tree in (
        with_tag("set", members),
        with_tag("frozenset", members),
        with_tag("dict", [[each, 1] for each in members]),
    ):
        with pytest.raises(ValueError, match="32 members of one hash"):
            CODEC.load([tree])
    assert CODEC.load(with_tag("tuple", members))  # which hashes nothing


def test_honest_sets_are_not() -> None:
    for members in (
        range(-5_000, 5_000),
        [2**n for n in range(1_000)],
        [n / 7 for n in range(999)],
    ):
        assert crossed(set(members)) == set(members)


def test_long_bytes_are_read_in_pieces() -> None:
    for n_bytes in (786_431, 786_432, 786_433, 2_000_000):
        value = bytes(range(256)) * (n_bytes // 256) + b"x" * (n_bytes % 256)
        assert crossed(value) == value


def test_what_is_as_deep_as_can_be_read_can_be_written() -> None:
    for depth in range(110, 140):
        try:
            value = CODEC.load(nested(1, depth))
        except ValueError:
            assert depth > 125
        else:
            CODEC.dumps(value)
