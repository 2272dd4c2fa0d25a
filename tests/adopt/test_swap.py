"""A swapped object copies and pickles as its class says, and looks as before."""

import copy
import dataclasses
import pickle  # noqa: TID251 - whether users' objects can be pickled is what is tested
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings

from locktender import guard
from locktender.adopt.heavy import owner_of
from locktender.adopt.swap import plain_class, swap
from locktender.core.errors import ConfigError


class Plain:
    def __init__(self) -> None:
        self.parts = [1]

    def say(self) -> str:
        return "plain"


class Louder:
    def say(self) -> Any:
        return plain_class(self).say(self).upper()


class Vectors(Embeddings):
    def __init__(self) -> None:
        self.weights = [1.0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.weights for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.weights


@dataclasses.dataclass(frozen=True)
class Frozen(Embeddings):
    weight: float = 1.0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[self.weight] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [self.weight]


def swapped() -> Any:
    model = Plain()
    swap(model, Louder)
    return model


def test_methods_stand_before_those_of_the_class() -> None:
    model = swapped()
    assert model.say() == "PLAIN"
    assert isinstance(model, Plain)
    assert type(model).__qualname__ == "Plain"
    swap(model, Louder)
    assert plain_class(model) is Plain
    assert type(model) is type(swapped())


def test_copies_are_swapped_and_what_was_pickled_is_plain() -> None:
    model = swapped()
    shallow, deep = copy.copy(model), copy.deepcopy(model)
    assert [shallow.say(), deep.say()] == ["PLAIN", "PLAIN"]
    assert shallow.parts is model.parts
    assert deep.parts == model.parts
    assert deep.parts is not model.parts
    restored = pickle.loads(pickle.dumps(model))  # noqa: S301 - made a line before
    assert type(restored) is Plain
    assert restored.parts == [1]


def test_a_deep_copy_has_an_owner_of_its_own_with_the_same_bounds() -> None:
    model = guard(Vectors(), max_waiting=3)
    shallow, deep = copy.copy(model), copy.deepcopy(model)
    assert deep.embed_query("a") == [1.0]
    assert owner_of(shallow) is owner_of(model)
    assert owner_of(deep) is not owner_of(model)
    assert owner_of(deep).settings == owner_of(model).settings


def test_an_object_with_frozen_fields_can_be_guarded() -> None:
    assert guard(Frozen(2.0)).embed_query("a") == [2.0]


def test_a_class_that_cannot_be_inherited_from_is_named() -> None:
    class Needy(Vectors):
        def __init_subclass__(cls, *, name: str) -> None:
            del name

    with pytest.raises(ConfigError, match=r"Needy.*'off'"):
        guard(Needy())
