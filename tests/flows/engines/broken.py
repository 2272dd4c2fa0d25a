"""An engine that cannot be loaded, as one whose weights are damaged."""

from locktender.core.errors import EngineStartError
from locktender.model.engine import EngineSpec, Stepper

__all__ = ["build"]


def build(_spec: EngineSpec) -> Stepper:
    """Fail."""
    message = "The weights are damaged."
    raise EngineStartError(message)
