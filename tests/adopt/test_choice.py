"""What may be said about guarding, and whom it concerns."""

from typing import Any

import pytest

from locktender import GuardSettings
from locktender.adopt.choice import Choice
from locktender.core.errors import ConfigError

FIVE = GuardSettings(max_waiting=5)


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ("auto", GuardSettings()),
        ("off", None),
        ({}, GuardSettings()),
        ({"Outer": "off"}, None),
        ({"Outer": "auto"}, GuardSettings()),
        ({"Inner": FIVE}, FIVE),
        ({"Outer": "off", "Inner": FIVE}, FIVE),
        ({"Outer": FIVE, "Inner": "off"}, None),
        ({"Other": "off"}, GuardSettings()),
    ],
)
def test_the_word_about_the_innermost_model_holds_for_all(given: Any, settings: Any) -> None:
    assert Choice(given).settings(["Outer", "Inner"]) == settings


@pytest.mark.parametrize(
    "given", [True, False, None, "on", {"A": False}, {"A": "of"}, {"A": GuardSettings(0)}, FIVE]
)
def test_what_is_no_known_word_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError):
        Choice(given)


def test_names_of_nobody_are_told() -> None:
    assert Choice({"B": "off", "A": "auto"}).unknown({"B", "C"}) == ["A"]
    assert Choice("off").unknown(set()) == []
