"""An engine that a planted prompt kills, as a bug in a real engine's kernel would."""

import os
import signal
from collections.abc import Sequence

from locktender.core.request import ChatInput, GenerationRequest
from locktender.model.engine import EngineSpec, Output
from locktender.model.engines.echo import EchoStepper

__all__ = ["PoisonStepper"]

POISON = "POISON"


class PoisonStepper(EchoStepper):
    """Echoes; dies in the step after it has taken a prompt that holds the poison.

    The option `linger` is how many steps it does before.
    """

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self._is_poisoned = False
        self._n_left = int(spec.option("linger", 0))

    def add(self, key: int, request: GenerationRequest) -> None:
        super().add(key, request)
        prompt = request.input
        if isinstance(prompt, ChatInput) and POISON in prompt.messages[-1].content:
            self._is_poisoned = True

    def step(self) -> Sequence[tuple[int, Output]]:
        if self._is_poisoned:
            self._n_left -= 1
            if self._n_left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step()
