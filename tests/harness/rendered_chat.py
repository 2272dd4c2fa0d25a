"""Chats as the service hands them to the engines of the real model: rendered."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from locktender.core.request import ChatInput, GenerationRequest, Input, Message, RenderedInput
from locktender.model.catalogue import find_known
from locktender.model.chat_source import gguf_chat_format
from locktender.model.engine import Limits, Stepper, token_ids
from locktender.model.weights import cache_root, pull
from locktender.prompting.chat_format import ChatFormat

__all__ = ["BehindTemplate", "smollm2_prompt", "user"]


@cache
def _smollm2() -> ChatFormat:
    model = find_known("smollm2-135m-instruct")
    assert model
    return gguf_chat_format(pull(model, cache_root()))


def smollm2_prompt(messages: Sequence[Message]) -> RenderedInput:
    """Return the prompt that the service makes of these messages."""
    return _smollm2().render([{"role": each.role, "content": each.content} for each in messages])


def user(text: str) -> RenderedInput:
    """Return the prompt of a chat of one message."""
    return smollm2_prompt([Message("user", text)])


class BehindTemplate:
    """An engine of the real model that chats reach as they do in the service."""

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper
        self.cancel, self.step = stepper.cancel, stepper.step
        self.has_work, self.close = stepper.has_work, stepper.close

    @property
    def limits(self) -> Limits:
        return self._stepper.limits

    def add(self, key: int, request: GenerationRequest) -> None:
        if isinstance(request.input, ChatInput):
            request = replace(request, input=smollm2_prompt(request.input.messages))
        self._stepper.add(key, request)

    def encode(self, prompt: Input) -> Sequence[int]:
        if isinstance(prompt, ChatInput):
            prompt = smollm2_prompt(prompt.messages)
        return token_ids(self._stepper, prompt)
