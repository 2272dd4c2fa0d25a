"""What an operator may set about one served model.

Frozen values with their defaults; `config` reads them from file, environment and flags, and nobody
else does.  Which engine and weights, the gate's bounds, and how patient supervision is.
"""

from dataclasses import dataclass, field

from locktender.core.bounds import check_counts, check_flags, check_parts, check_seconds
from locktender.core.errors import ConfigError

__all__ = ["BEAT_S", "GateSettings", "ModelSettings", "SupervisionSettings"]

_MAX_NAME_LENGTH = 200
_MAX_RUNNING = 4096  # many times what engines are built for
_MAX_REPLICAS = 64  # each is a process with a model of its own
_MIN_WAIT_S = 0.001  # 0 would refuse a request in front of an idle engine
BEAT_S = 1.0  # between heartbeats of an engine that has nothing to tell
_MIN_HANG_S = 3 * BEAT_S  # less would take an idle engine for a hung one


@dataclass(frozen=True, slots=True)
class GateSettings:
    """The bounds of the gate in front of one model."""

    max_running: int = 16  # requests in each engine at once
    max_waiting: int = 128  # requests in the gate, beside those that run
    max_wait_s: float = 60.0  # the longest wait for an engine
    timeout_s: float = 600.0  # from arrival to the last token; a caller may only name less
    max_gate_tokens: int = 4_000_000  # upper bounds of all requests let in, prompts and answers
    # Parts of the places, which are those to run in and those to wait in: for the calls of one
    # outer request (a batch, an agent), and for all that have more than one place together.
    batch_share: float = 0.25
    batches_share: float = 0.5
    # They have no more places than this part of the engines' slots, so that who comes alone finds
    # a slot; what they wait for, they wait for outside.  1: no such bound.
    batches_slots: float = 0.875
    # Calls of outer requests that were let in, and have their share, that may wait for a place
    # with their connection; signed ones and others apart.
    max_outside: int = 1024
    default_max_tokens: int = 512  # new tokens, where the caller names no maximum
    max_tokens: int = 4096  # new tokens that a caller may ask for
    ban_s: float = 600.0  # for which a prompt that was found to kill engines is refused

    def __post_init__(self) -> None:
        """Refuse bounds that cannot work."""
        check_counts(self, 1, "max_running", most=_MAX_RUNNING)
        check_counts(self, 1, "max_tokens", "default_max_tokens", "max_gate_tokens")
        check_counts(self, 0, "max_waiting", "max_outside")
        check_parts(self, "batch_share", "batches_share", "batches_slots")
        check_seconds(self, _MIN_WAIT_S, "max_wait_s", "timeout_s", "ban_s")
        if self.default_max_tokens > self.max_tokens:
            raise ConfigError(
                "`default_max_tokens` must not be above `max_tokens`: write for example "
                f"`default_max_tokens = {self.max_tokens}`."
            )


@dataclass(frozen=True, slots=True)
class SupervisionSettings:
    """How long the supervisor waits before it acts, and how often it tries."""

    replicas: int = 1  # engine processes
    start_timeout_s: float = 300.0  # loading a large model from a cold disk takes minutes
    # Silence that means a hang.  One step of an engine takes up to 1.4 s on two slow cores.
    hang_s: float = 15.0
    max_failures: int = 8  # failed starts in a row, after which requests are refused
    backoff_s: float = 0.1  # before the second try in a row; doubled for each one after it
    # So long after the cause of failures has gone, and the time of a start, it serves again.
    max_backoff_s: float = 10.0
    stable_s: float = 10.0  # an engine that lived so long starts a new row
    canary: bool = True  # an engine that has loaded must answer something before it is ready

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        check_counts(self, 1, "replicas", most=_MAX_REPLICAS)
        check_counts(self, 1, "max_failures")
        check_seconds(self, 0.1, "start_timeout_s")
        check_seconds(self, _MIN_HANG_S, "hang_s")
        check_seconds(self, 0.0, "backoff_s", "max_backoff_s", "stable_s")
        check_flags(self, "canary")
        if self.backoff_s > self.max_backoff_s:
            raise ConfigError(
                "`backoff_s` must not be above `max_backoff_s`: write for example "
                f"`max_backoff_s = {self.backoff_s:g}`."
            )


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model of the service."""

    name: str  # what callers write in `model`
    source: str = ""  # a known name or a file; empty: `name`
    engine: str = "openvino"
    options: tuple[tuple[str, str | int | float | bool], ...] = ()  # the engine's own
    gate: GateSettings = field(default_factory=GateSettings)
    supervision: SupervisionSettings = field(default_factory=SupervisionSettings)

    def __post_init__(self) -> None:
        """Refuse a name that no caller could write, or that could not stand in a log."""
        name = self.name
        if not 0 < len(name) <= _MAX_NAME_LENGTH or name != name.strip() or not name.isprintable():
            raise ConfigError(
                f"A model's name has 1 to {_MAX_NAME_LENGTH} characters that can be printed and no "
                "space around them: write for example `[models.smollm2]`."
            )
