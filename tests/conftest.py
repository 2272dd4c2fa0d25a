"""What every test shares: the event loop it runs on, and how examples are generated."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness.fixture import anyio_backend, client, own_state, smollm2, start_service
from harness.hf_folder import hf_folder, transformers_stepper
from harness.telling import print_told, tell
from locktender.model.engine import EngineSpec, Stepper, load_engine

__all__ = [
    "anyio_backend",
    "client",
    "hf_folder",
    "openvino_stepper",
    "own_state",
    "smollm2",
    "start_service",
    "tell",
    "transformers_stepper",
]

# Before torch is imported.  More threads gain little, and lose much beside other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow machine is not a failure: no example has a time limit of its own, and pytest-timeout
# bounds the whole test.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def openvino_stepper(smollm2: Path) -> Iterator[Stepper]:
    """The real model, loaded once: whoever uses it leaves it without work."""
    spec = EngineSpec("openvino", max_running=16, source=str(smollm2))
    stepper = load_engine("openvino")(spec)
    yield stepper
    stepper.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have told."""
    print_told(terminalreporter)
