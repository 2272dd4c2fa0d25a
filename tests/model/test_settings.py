import math
from typing import Any

import pytest

from locktender.core.errors import ConfigError
from locktender.model.settings import GateSettings, ModelSettings, SupervisionSettings


def test_the_defaults_work() -> None:
    settings = ModelSettings("m")
    assert settings.gate == GateSettings()
    assert settings.supervision == SupervisionSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_running", 0),
        ("max_tokens", 0),
        ("default_max_tokens", 0),
        ("max_gate_tokens", 0),
        ("max_waiting", -1),
        ("max_outside", -1),
        ("max_wait_s", -0.1),
        ("timeout_s", math.nan),
    ],
)
def test_a_bound_of_the_gate_that_cannot_work_is_refused_by_its_name(
    name: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=rf"^`{name}` must be at least [\d.]+, not {value}\.$"):
        GateSettings(**_one(name, value))


@pytest.mark.parametrize("name", ["batch_share", "batches_share", "batches_slots"])
@pytest.mark.parametrize("value", [0.0, 1.1, math.nan])
def test_a_part_of_the_gate_that_is_none_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^`{name}` must be above 0 and at most 1, not"):
        GateSettings(**_one(name, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replicas", 0),
        ("max_failures", 0),
        ("start_timeout_s", 0.0),
        ("hang_s", 0.05),
        ("hang_s", math.nan),
    ],
)
def test_a_patience_that_cannot_work_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^`{name}` must be at least [\d.]+, not {value}\.$"):
        SupervisionSettings(**_one(name, value))


def test_a_gate_without_a_line_is_allowed() -> None:
    assert GateSettings(max_waiting=0, max_outside=0).max_waiting == 0


def test_a_default_above_the_maximum_is_refused() -> None:
    with pytest.raises(ConfigError, match="`default_max_tokens` must not be above `max_tokens`"):
        GateSettings(default_max_tokens=11, max_tokens=10)


def _one(name: str, value: float) -> dict[str, Any]:
    return {name: value}
