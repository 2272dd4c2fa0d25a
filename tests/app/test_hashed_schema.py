from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from langchain_core.messages import AnyMessage
from pydantic import BaseModel, RootModel

from locktender.app.hashed_schema import hashes_values


class Colour(Enum):
    RED = "r"


class Inner(BaseModel):
    numbers: list["set[int]"]


class Outer(BaseModel):
    inner: Inner | None


@pytest.mark.parametrize(
    "kind",
    [
        set[int],
        frozenset[Decimal],
        set[Any],
        dict[int, str],
        dict[UUID, str],
        list[dict[str, set[tuple[int, int]]]],
        str | set[float],
        Outer,
    ],
)
def test_what_puts_a_caller_s_numbers_into_a_set_is_found(kind: Any) -> None:
    assert hashes_values(RootModel[kind])


@pytest.mark.parametrize(
    "kind",
    [Any, list[int], dict[str, set[str]], dict[Colour, int], set[Literal[1, 2]], list[AnyMessage]],
)
def test_texts_and_what_there_are_few_of_are_harmless(kind: Any) -> None:
    assert not hashes_values(RootModel[kind])
