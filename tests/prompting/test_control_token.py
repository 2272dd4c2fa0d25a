"""Which tokens command a model, and which of them in a prompt are the template's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.prompting.control_token import AddedToken, ControlTokens


@pytest.mark.parametrize(
    ("text", "is_special", "commands"),
    [
        ("<|im_end|>", True, True),
        ("\n", True, True),
        ("<tool_call>", False, True),
        ("</think>", False, True),
        ("<\uff5cUser\uff5c>", False, True),
        ("[INST]", False, True),
        ("### Instruction:", False, True),
        ("\n\n", False, False),
        ("\u2581\u2581", False, False),
        ("covid", False, False),
        ("new york", False, False),
        ("...", False, False),
        ("\N{PARTY POPPER}", False, False),
        ("<table>", False, False),
        ("</h1>", False, False),
        ("<s>", False, False),
        ("<s>", True, True),
        ("", True, False),
    ],
)
def test_a_token_commands_if_it_is_special_or_looks_like_a_mark(
    text: str, *, is_special: bool, commands: bool
) -> None:
    assert ControlTokens([AddedToken(text, 7, is_special)]).are_in(text) is (commands and text > "")


@pytest.mark.parametrize(
    ("text", "callers", "own", "cuts"),
    [
        ("<s>a<e>", "", [(0, 3), (4, 7)], []),
        ("<s>a<e>", "a<e>", [(0, 3)], [5]),
        ("<s>a<e>", "<s>a", [(4, 7)], [1]),
        ("<s><e>", "><", [], [1, 4]),  # in parts, between which the template wrote nothing
        ("<<s>", "<", [(1, 4)], []),
        ("<<s", "<", [], [1]),
    ],
)
def test_one_that_a_caller_had_a_part_in_is_cut(
    text: str, callers: str, own: list[tuple[int, int]], cuts: list[int]
) -> None:
    tokens = [AddedToken(each, n, is_special=True) for n, each in enumerate(("<s>", "<e>", "<<s"))]
    if text == "<<s>":
        tokens = tokens[:2]
    start = text.index(callers) if callers else len(text)
    marks = bytes(start) + b"\1" * len(callers) + bytes(len(text) - start - len(callers))
    found = ControlTokens(tokens).rendered(text, marks)
    assert (list(found.controls), list(found.cuts)) == (own, cuts)


def test_of_two_that_begin_together_the_longer_is_meant() -> None:
    control = ControlTokens([AddedToken("<a", 1, True), AddedToken("<a>", 2, True)])
    assert control.rendered("<a>").controls == ((0, 3),)


def test_an_unknown_character_is_no_command() -> None:
    control = ControlTokens([AddedToken("<unk>", 0, True, is_unknown=True)])
    assert control.in_ids([0, 5]) == []
    assert control.are_in("<unk>")


def test_without_control_tokens_nothing_is_found() -> None:
    assert ControlTokens([]).rendered("<s>", b"\1\1\1").cuts == ()


@given(st.sets(st.text(alphabet="<|ab.>", min_size=1, max_size=6), min_size=1, max_size=12))
def test_every_token_is_found_whole_among_others(texts: set[str]) -> None:
    control = ControlTokens(AddedToken(text, n, True) for n, text in enumerate(sorted(texts)))
    for text in texts:
        assert control.rendered(text).controls[0] == (0, len(text))


def test_a_token_of_any_length_is_found() -> None:
    text = "<" + "x" * 100_000 + ">"
    assert ControlTokens([AddedToken(text, 1, True)]).rendered(text).controls == ((0, len(text)),)
