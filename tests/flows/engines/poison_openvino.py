"""The real engine, which a planted prompt kills in the step after it was taken."""

import os
import signal
from collections.abc import Sequence

from locktender.core.request import ChatInput, GenerationRequest
from locktender.model.engine import EngineSpec, Output
from locktender.model.engines.openvino import OpenVinoStepper

__all__ = ["PoisonOpenVinoStepper"]

POISON = "POISON"


class PoisonOpenVinoStepper(OpenVinoStepper):
    """Answers; dies in the step after it has taken a prompt that holds the poison."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self._is_poisoned = False

    def add(self, key: int, request: GenerationRequest) -> None:
        super().add(key, request)
        prompt = request.input
        if isinstance(prompt, ChatInput) and POISON in prompt.messages[-1].content:
            self._is_poisoned = True

    def step(self) -> Sequence[tuple[int, Output]]:
        if self._is_poisoned:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step()
