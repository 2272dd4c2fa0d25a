"""The engines of the contract that take seconds to load, loaded once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.hf_folder import hf_folder
from locktender.model.engine import EngineSpec, Stepper, load_engine

__all__ = ["hf_folder", "transformers_stepper"]


@pytest.fixture(scope="session")
def transformers_stepper(hf_folder: Path) -> Iterator[Stepper]:
    """The real model, as a folder of transformers: whoever uses it leaves it without work."""
    spec = EngineSpec("transformers", max_running=16, source=str(hf_folder))
    stepper = load_engine("transformers")(spec)
    yield stepper
    stepper.close()
