from collections.abc import Callable, Sequence
from functools import partial

import pytest

from harness.gate import Tap
from locktender.core.errors import EngineFailed, EngineStartError, InvalidRequest
from locktender.core.request import Delta, FinishReason, GenerationRequest, Input, TextInput
from locktender.model.canary import QUESTIONS, ask_canary
from locktender.model.engine import EngineSpec, Limits, Output
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
        if isinstance(output, InvalidRequest):
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
NO_TEMPLATE = InvalidRequest("There is no chat template.")


def test_an_engine_that_answers_is_asked_once_and_left_without_work() -> None:
    stepper = Scripted(lambda _: Delta("Hello", 1, 3))
    ask_canary(stepper)
    assert stepper.asked == [QUESTIONS[0]]
    assert not stepper.has_work()


def test_the_engine_without_weights_passes() -> None:
    stepper = EchoStepper(EngineSpec("echo", max_running=1))
    ask_canary(stepper)
    assert not stepper.has_work()


def test_an_engine_that_answers_nothing_to_any_question_cannot_be_started() -> None:
    stepper = Scripted(lambda _: SILENCE)
    with pytest.raises(EngineStartError, match=r"answers nothing: 4 questions .*`canary = false`"):
        ask_canary(stepper)
    assert stepper.asked == list(QUESTIONS)


def test_a_model_for_which_one_text_is_at_its_end_is_asked_for_others() -> None:
    last = QUESTIONS[-1]
    ask_canary(Scripted(lambda question: Delta("there") if question == last else SILENCE))


def test_an_engine_that_never_comes_to_an_end_cannot_be_started() -> None:
    stepper = EchoStepper(EngineSpec("echo", max_running=1), gate=Tap())
    with pytest.raises(EngineStartError):
        ask_canary(stepper)


def test_what_cannot_be_asked_proves_nothing() -> None:
    ask_canary(Scripted(lambda _: NO_TEMPLATE))
    base = partial(_of_texts, SILENCE)
    with pytest.raises(EngineStartError, match="3 questions"):
        ask_canary(Scripted(base))


def test_an_engine_that_fails_at_its_first_request_cannot_be_started() -> None:
    failure = EngineFailed("The KV cache is full.")
    with pytest.raises(EngineStartError, match=r"fails at its first .*: The KV cache is full\."):
        ask_canary(Scripted(lambda _: failure))


def _of_texts(output: Output, question: Input) -> Output:
    return output if isinstance(question, TextInput) else NO_TEMPLATE
