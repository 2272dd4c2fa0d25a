import math
from typing import Any

import pytest

from locktender.core.errors import ConfigError
from locktender.model.settings import GateSettings, ModelSettings, SupervisionSettings


def test_the_defaults_work() -> None:
    settings = ModelSettings("m")
    assert settings.gate == GateSettings()
    assert settings.supervision == SupervisionSettings()


COUNTS = ("max_running", "max_tokens", "default_max_tokens", "max_gate_tokens")
NO_TIME = (-1, -0.5, math.nan, math.inf, -math.inf, 1e12, True, "10", None)


@pytest.mark.parametrize("name", [*COUNTS, "max_waiting", "max_outside"])
@pytest.mark.parametrize("value", [-1, 1.5, 4.0, math.nan, math.inf, 2**60, True, "4", None])
def test_a_bound_of_the_gate_that_cannot_be_meant_is_refused_by_its_name(
    name: str, value: Any
) -> None:
    default = getattr(GateSettings(), name)
    with pytest.raises(ConfigError) as refused:
        GateSettings(**{name: value})
    least = 1 if name in COUNTS else 0
    most = " and at most 4096" if name == "max_running" else ""
    assert refused.value.message == (
        f"`{name}` must be a whole number, at least {least}{most}, not {value!r}. "
        f"Write for example `{name} = {default}`."
    )


@pytest.mark.parametrize("name", COUNTS)
def test_nothing_runs_in_a_gate_with_room_for_nothing(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^`{name}` must be a whole number, at least 1.*, not 0"):
        GateSettings(**_one(name, 0))


@pytest.mark.parametrize("name", ["max_wait_s", "timeout_s", "ban_s"])
@pytest.mark.parametrize("value", [0, *NO_TIME])
def test_a_time_of_the_gate_that_cannot_be_meant_is_refused_by_its_name(
    name: str, value: Any
) -> None:
    with pytest.raises(
        ConfigError, match=rf"^`{name}` must be a number of seconds, at least 0.001"
    ):
        GateSettings(**{name: value})


@pytest.mark.parametrize("name", ["batch_share", "batches_share", "batches_slots"])
@pytest.mark.parametrize("value", [0.0, 1.1, math.nan, True, "1", None])
def test_a_part_of_the_gate_that_is_none_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^`{name}` must be a number above 0 and at most 1, not"):
        GateSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("replicas", value) for value in (0, 65, 1000, True, 1.5)),
        *(("max_failures", value) for value in (0, -1)),
        *(("start_timeout_s", value) for value in (0.0, *NO_TIME)),
        *(("hang_s", value) for value in (0.05, *NO_TIME)),
        *(("backoff_s", value) for value in NO_TIME),
        *(("max_backoff_s", value) for value in NO_TIME),
        *(("stable_s", value) for value in NO_TIME),
        *(("canary", value) for value in (1, "yes", None)),
    ],
)
def test_a_patience_that_cannot_be_meant_is_refused_by_its_name(name: str, value: Any) -> None:
    default = str(getattr(SupervisionSettings(), name)).replace("True", "true")
    with pytest.raises(ConfigError, match=f"^`{name}` must be .*`{name} = {default}`"):
        SupervisionSettings(**{name: value})


def test_a_first_pause_above_the_longest_is_refused() -> None:
    with pytest.raises(ConfigError, match="`backoff_s` must not be above `max_backoff_s`"):
        SupervisionSettings(backoff_s=20.0)


@pytest.mark.parametrize("name", ["", " ", "a ", "a\nb", "\x1b[2J", "x" * 201])
def test_a_name_that_no_caller_could_write_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"A model's name has 1 to 200 characters .*models\.smollm2"
    ):
        ModelSettings(name)


@pytest.mark.parametrize("name", ["smollm2", "org/name:tag", "\u6a21\u578b", "a b"])
def test_any_other_name_is_taken(name: str) -> None:
    assert ModelSettings(name).name == name


def test_a_gate_without_a_line_is_allowed() -> None:
    assert GateSettings(max_waiting=0, max_outside=0).max_waiting == 0


def test_a_default_above_the_maximum_is_refused() -> None:
    with pytest.raises(ConfigError, match="`default_max_tokens` must not be above `max_tokens`"):
        GateSettings(default_max_tokens=11, max_tokens=10)


def _one(name: str, value: float) -> dict[str, Any]:
    return {name: value}
