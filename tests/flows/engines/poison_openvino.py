"""The real engine, which a planted prompt kills in the step after it was taken."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from locktender.core.request import ChatInput, GenerationRequest
from locktender.model.chat_source import gguf_chat_format
from locktender.model.engine import EngineSpec, Output
from locktender.model.engines.openvino import OpenVinoStepper

__all__ = ["PoisonOpenVinoStepper"]

POISON = "POISON"


class PoisonOpenVinoStepper(OpenVinoStepper):
    """Answers; dies in the step after it has taken a chat that ends with the poison.

    The service renders no chats for an engine that it does not know, so this one does.
    """

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self._is_poisoned = False
        self._chat_format = gguf_chat_format(Path(spec.source))

    def add(self, key: int, request: GenerationRequest) -> None:
        chat = request.input
        if isinstance(chat, ChatInput):
            turns = [{"role": turn.role, "content": turn.content} for turn in chat.messages]
            super().add(key, replace(request, input=self._chat_format.render(turns)))
            self._is_poisoned |= POISON in turns[-1]["content"]
        else:
            super().add(key, request)

    def step(self) -> Sequence[tuple[int, Output]]:
        if self._is_poisoned:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step()
