"""An engine whose every answer ends at once, as one whose weights are noise."""

from dataclasses import replace

from locktender.core.request import GenerationRequest
from locktender.model.engines.echo import EchoStepper

__all__ = ["SilentStepper"]


class SilentStepper(EchoStepper):
    """Takes every request and finds an end token first."""

    def add(self, key: int, request: GenerationRequest) -> None:
        super().add(key, replace(request, stop=(" ", *"abcdefghijklmnopqrstuvwxyzSTO1")))
