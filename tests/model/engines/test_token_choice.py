"""The choice of a token: what is ruled out never comes, the rest as often as it should."""

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest

from locktender.model.engines.token_choice import Chance, TokenOptions, choose

N_DRAWS = 4000


def drawn(scores: Sequence[float], **options: Any) -> Counter[int]:
    """Choose at many positions, in rows of one call, and count."""
    torch = import_module("torch")
    chance = Chance(TokenOptions(1, **{"temperature": 1.0, "seed": 3, **options}))
    rows = torch.tensor([scores] * N_DRAWS)
    return Counter(choose(rows, [chance] * N_DRAWS, range(N_DRAWS)).tolist())


def logs(*shares: float) -> list[float]:
    torch = import_module("torch")
    found: list[float] = torch.tensor(shares).log().tolist()
    return found


SHARES = (0.1, 0.4, 0.2, 0.05, 0.25)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"top_k": 2}, {1, 4}),
        ({"top_p": 0.3}, {1}),
        ({"top_p": 0.6}, {1, 4}),
        ({"top_p": 0.7}, {1, 4, 2}),
        ({"top_k": 3, "top_p": 0.6}, {1, 4}),
        ({"min_p": 0.45}, {1, 4, 2}),
        ({"temperature": 0.0}, {1}),
    ],
)
def test_the_share_of_each_token_is_its_own(options: dict[str, Any], kept: set[int]) -> None:
    found = drawn(logs(*SHARES), **options)
    whole = sum(SHARES[token] for token in kept)
    assert set(found) == kept
    for token in kept:
        assert abs(found[token] / N_DRAWS - SHARES[token] / whole) < 0.03


def test_a_flat_choice_looks_beyond_the_first_candidates() -> None:
    found = drawn([0.0] * 1200, top_p=0.999)
    assert len(found) > 1000


def test_rows_of_one_call_do_not_mix() -> None:
    torch = import_module("torch")
    torch.manual_seed(1)
    logits = torch.randn(4, 700) * 3
    chances = [
        Chance(TokenOptions(1)),
        Chance(TokenOptions(1, temperature=1.0, seed=1)),
        Chance(TokenOptions(1, temperature=0.7, top_p=0.8, seed=2)),
        Chance(TokenOptions(1, temperature=1.5, top_k=5, min_p=0.01, seed=3)),
    ]
    chances[0].note([int(logits[0].argmax())], 700, torch.device("cpu"))
    together = choose(logits, chances, [5, 6, 7, 8]).tolist()
    alone = [int(choose(logits[i : i + 1], [chances[i]], [5 + i])) for i in range(4)]
    assert together == alone


def test_hardly_any_chance_is_none() -> None:
    assert set(drawn(logs(*SHARES), temperature=1e-5)) == {1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_k", -1),
        ("min_p", 2.0),
        ("repetition_penalty", 0.0),
    ],
)
def test_an_option_out_of_range_is_refused(name: str, value: float) -> None:
    options: dict[str, Any] = {"max_new_tokens": 1, name: value}
    with pytest.raises(ValueError, match=name):
        TokenOptions(**options)
