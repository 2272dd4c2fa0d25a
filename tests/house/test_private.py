"""What we touch of a library without its promise is in one table, and is there today.

`private_part` has the table, and `private_place` finds what must be in it.
"""

import ast
from collections.abc import Mapping, Sequence

import pytest

from house.private_part import EXCEPTIONS, PARTS, Part, installed_version, is_there
from house.private_place import places


@pytest.fixture(scope="module")
def found(modules: Mapping[str, ast.Module]) -> Mapping[str, str]:
    """Each place in the source, and the lines where it is."""
    lines: dict[str, list[str]] = {}
    for place in places(modules):
        lines.setdefault(f"{place.room}: {place.name}", []).append(str(place.line))
    return {place: ", ".join(numbers) for place, numbers in lines.items()}


def test_every_place_is_in_the_table_or_has_a_reason_not_to_be(found: Mapping[str, str]) -> None:
    judged = {each for part in PARTS for each in _places(part)}.union(*EXCEPTIONS.values())
    unjudged = [f"{place} (line {found[place]})" for place in found if place not in judged]
    assert unjudged == [], "add a row to PARTS of house/private_part.py, or an exception"


def test_every_row_is_still_needed(found: Mapping[str, str]) -> None:
    stale = [
        f"{part.path} in {room}"
        for part in PARTS
        for room in part.rooms.split()
        if not any(f"{room}: {name}" in found for name in part.names)
    ]
    assert stale == []


def test_every_exception_is_still_needed(found: Mapping[str, str]) -> None:
    excused = [place for reason in EXCEPTIONS.values() for place in reason]
    assert sorted(set(excused) - set(found)) == []
    assert len(excused) == len(set(excused))


def test_no_part_has_two_rows() -> None:
    paths = [part.path for part in PARTS]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.path)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a part may be of an old module
def test_every_part_is_there(part: Part, pins: Mapping[str, str]) -> None:
    installed = installed_version(part.library)
    if installed is None:
        pytest.skip(f"{part.library} is not installed")
    if not _is_expected(part, installed):
        pytest.skip(f"{part.library} {installed} is not of the versions that have it")
    seen = part.seen or pins.get(part.library) or installed
    assert is_there(part.path), (
        f"{part.library} {installed} has no {part.path}, which was last seen in {seen} and is "
        f"used in {part.rooms}. Without it: {part.without}"
    )


def test_a_missing_part_is_told_from_one_that_is_there() -> None:
    assert is_there("http.client.HTTPConnection._tunnel")
    assert is_there("http.client.HTTPConnection.sock")  # which each object gets when it is made
    assert not is_there("http.client.HTTPConnection._canal")
    assert not is_there("http.canal.HTTPConnection")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("model._hidden", ["_hidden"]),
        ("self._own", []),
        ("import x._y", ["x._y"]),
        ("from x._y import z", ["z"]),
        ("from x import _y", ["_y"]),
        ("from transformers.cache_utils import Cache", ["Cache"]),
        ("from transformers import Cache", []),
        ("from langchain_core.runnables.base import Runnable", []),
        ("hasattr(model, 'public')", ["public"]),
        ("hasattr(model, '__dict__')", []),
        ("getattr(model, name)", ["getattr(model, name)"]),
        ("getattr(self, '_own')", ["_own"]),
        ("vars(model)['_hidden']", ["_hidden"]),
        ("vars(model)[f'_{name}']", ["f'_{name}'"]),
        (
            "kind == 'transformers.pipelines.base.Pipeline'",
            ["transformers.pipelines.base.Pipeline"],
        ),
        ("kind == 'transformers.Pipeline'", []),
        ("kind == 'transformers._Base'", ["transformers._Base"]),
        ("kind == 'transformers.pipelines.'", ["transformers.pipelines."]),
        ("torch.ops.aten._flash(query)", ["_flash"]),
        ("try: f()\nexcept (KeyError, AttributeError): pass", ["except AttributeError"]),
        ("with suppress(AttributeError): f()", ["except AttributeError"]),
        ("class A(B):\n  def _called(self): self._mine()\n  def _mine(self): ...", ["_called"]),
    ],
)
def test_what_touches_a_private_part_is_found(source: str, names: Sequence[str]) -> None:
    assert [place.name for place in places({"room": ast.parse(source)})] == names


def _places(part: Part) -> set[str]:
    return {f"{room}: {name}" for room in part.rooms.split() for name in part.names}


def _is_expected(part: Part, installed: str) -> bool:
    """Whether the part is to be there, as far as the table knows."""
    if part.since and _order(installed) < _order(part.since):
        return False
    return not part.seen or _order(installed) <= _order(part.seen)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".") if number.isdigit())
