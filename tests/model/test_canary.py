from collections.abc import Callable, Sequence
from functools import partial

import pytest

from harness.gate import Tap
from locktender.core.errors import ContextTooLong, EngineFailed, EngineStartError
from locktender.core.request import (
    ChatInput,
    Delta,
    FinishReason,
    GenerationRequest,
    Input,
    Message,
    RenderedInput,
)
from locktender.model.canary import QUESTIONS, ask_canary
from locktender.model.engine import EngineSpec, Limits, Output, takes_chats
from locktender.model.engines.echo import EchoStepper


class Scripted:
    """Gives each question the output that `say` has for it, after some steps without any."""

    limits = Limits(1, 10, 10)

    def __init__(self, say: Callable[[Input], Output]) -> None:
        self.say = say
        self.asked: list[Input] = []
        self.left: list[Output | None] = []

    def add(self, key: int, request: GenerationRequest) -> None:  # noqa: ARG002 - the seam's signature
        self.asked.append(request.input)
        output = self.say(request.input)
        if isinstance(output, ContextTooLong):
            raise output
        self.left = [None, output]

    def cancel(self, key: int) -> None:  # noqa: ARG002 - the seam's signature
        self.left.clear()

    def step(self) -> Sequence[tuple[int, Output]]:
        output = self.left.pop(0)
        return [] if output is None else [(0, output)]

    def has_work(self) -> bool:
        return bool(self.left)

    def close(self) -> None:
        """Hold nothing."""


SILENCE = Delta("", 1, 3, FinishReason.STOP)
TOO_LONG = ContextTooLong("The prompt has 5 tokens, but prompt and answer may have 2.")
ask = partial(ask_canary, is_chat=False)


@pytest.mark.parametrize("is_chat", [False, True])
def test_an_engine_that_answers_is_asked_once_as_callers_do(*, is_chat: bool) -> None:
    stepper = Scripted(lambda _: Delta("Hello", 1, 3))
    ask_canary(stepper, is_chat=is_chat)
    (asked,) = stepper.asked
    chat = ChatInput((Message("user", QUESTIONS[0]),))
    assert asked == (chat if is_chat else RenderedInput(QUESTIONS[0]))
    assert not stepper.has_work()


def test_the_engine_without_weights_passes() -> None:
    stepper = EchoStepper(EngineSpec("echo", max_running=1))
    ask_canary(stepper, is_chat=takes_chats("echo"))
    assert not stepper.has_work()


def test_an_engine_that_answers_nothing_to_any_question_cannot_be_started() -> None:
    stepper = Scripted(lambda _: SILENCE)
    with pytest.raises(EngineStartError, match=r"answers nothing: 4 questions .*`canary = false`"):
        ask(stepper)
    assert stepper.asked == list(map(RenderedInput, QUESTIONS))


def test_a_model_for_which_one_text_is_at_its_end_is_asked_for_others() -> None:
    last = RenderedInput(QUESTIONS[-1])
    ask(Scripted(lambda question: Delta("there") if question == last else SILENCE))


def test_an_engine_that_never_comes_to_an_end_cannot_be_started() -> None:
    stepper = EchoStepper(EngineSpec("echo", max_running=1), gate=Tap())
    with pytest.raises(EngineStartError):
        ask_canary(stepper, is_chat=True)


def test_what_does_not_fit_proves_nothing() -> None:
    ask(Scripted(lambda _: TOO_LONG))
    first = RenderedInput(QUESTIONS[0])
    with pytest.raises(EngineStartError, match="3 questions"):
        ask(Scripted(lambda question: TOO_LONG if question == first else SILENCE))


def test_an_engine_that_fails_at_its_first_request_cannot_be_started() -> None:
    failure = EngineFailed("The KV cache is full.")
    with pytest.raises(EngineStartError, match=r"fails at its first .*: The KV cache is full\."):
        ask(Scripted(lambda _: failure))
