from collections.abc import Sequence

import pytest

from locktender.core.errors import LocktenderError
from locktender.core.request import (
    ChatInput,
    Delta,
    FinishReason,
    GenerationRequest,
    Input,
    Message,
    TextInput,
    TokenInput,
)
from locktender.model.engine import EngineSpec, Output
from locktender.model.engines.echo import EchoStepper


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def spec(**options: float) -> EngineSpec:
    return EngineSpec("echo", max_running=4, options=tuple(options.items()))


def user(text: str) -> ChatInput:
    return ChatInput((Message("user", text),))


def request_for(prompt: Input, max_tokens: int = 100) -> GenerationRequest:
    return GenerationRequest("1", "echo", prompt, max_tokens)


def merged(outputs: Sequence[tuple[int, Output]], key: int = 1) -> Delta:
    deltas = [output for each, output in outputs if each == key and isinstance(output, Delta)]
    whole = Delta()
    for delta in deltas:
        whole += delta
    return whole


def answer(stepper: EchoStepper, prompt: Input, max_tokens: int = 100) -> Delta:
    stepper.add(1, request_for(prompt, max_tokens))
    outputs: list[tuple[int, Output]] = []
    for _ in range(1000):
        if not stepper.has_work():
            break
        outputs += stepper.step()
    return merged(outputs)


@pytest.mark.parametrize(
    ("prompt", "text", "n_prompt_tokens"),
    [
        (user("the  quick\nfox"), "the quick fox", 3),
        (ChatInput((Message("system", "be brief"), Message("user", "hi"))), "hi", 3),
        (ChatInput((Message("user", "a"), Message("assistant", "b"))), "a", 2),
        (user(""), "", 1),
        (TextInput("one two"), "one two", 2),
        (TokenInput((5, 7)), "5 7", 2),
        (user("repeat 5: tick tock"), "tick tock tick tock tick", 4),
        (user("repeat 5: "), "", 2),
    ],
)
def test_the_answer_is_the_words_of_the_prompt(
    prompt: Input, text: str, n_prompt_tokens: int
) -> None:
    n_words = len(text.split())
    assert answer(EchoStepper(spec()), prompt) == Delta(
        text, n_words, n_prompt_tokens, FinishReason.STOP
    )


def test_the_option_words_makes_every_answer_so_long() -> None:
    whole = answer(EchoStepper(spec(words=5)), user("a b"))
    assert (whole.text, whole.finish_reason) == ("a b a b a", FinishReason.STOP)


def test_max_tokens_cuts_the_answer() -> None:
    whole = answer(EchoStepper(spec()), user("a b c"), max_tokens=2)
    assert (whole.text, whole.n_tokens, whole.finish_reason) == ("a b", 2, FinishReason.LENGTH)


def test_a_step_gives_each_answer_one_word() -> None:
    stepper = EchoStepper(spec())
    for key in (1, 2, 3):
        stepper.add(key, request_for(user("a b")))
    first = stepper.step()
    assert sorted((key, merged(first, key).text) for key, _ in first) == [
        (1, "a"),
        (2, "a"),
        (3, "a"),
    ]


def test_a_closed_gate_holds_the_work_and_an_open_one_lets_so_many_tokens_out() -> None:
    tokens = iter([0, 1, 0, 1, 2, 9])
    stepper = EchoStepper(spec(), gate=lambda: next(tokens))
    stepper.add(1, request_for(user("a b c")))
    stepper.add(2, request_for(user("x y z")))
    counts = []
    for _ in range(6):
        assert stepper.has_work()
        counts.append(sorted((key, merged([(key, out)], key).text) for key, out in stepper.step()))
    assert counts == [
        [],
        [(1, "a")],
        [],
        [(2, "x")],
        [(1, " b"), (2, " y")],
        [(1, " c"), (2, " z")],
    ]
    assert not stepper.has_work()


@pytest.mark.parametrize("tokens_per_s", [1.0, 10.0, 100.0, 1000.0])
def test_the_pace_is_that_of_all_answers_together(tokens_per_s: float) -> None:
    clock = Clock()
    stepper = EchoStepper(spec(tokens_per_s=tokens_per_s), clock=clock, sleep=clock.sleep)
    for key in range(4):
        stepper.add(key, request_for(user("repeat 25: word")))
    started_at = clock.now
    while stepper.has_work():
        before = clock.now
        stepper.step()
        assert clock.now - before <= 0.5  # a step is never long, however slow the pace
    # The first step does not wait, so all but the first tokens took their time.
    assert clock.now - started_at == pytest.approx(100 / tokens_per_s, rel=0.06)


def test_a_step_takes_the_time_it_was_given() -> None:
    clock = Clock()
    stepper = EchoStepper(spec(step_s=0.1), clock=clock, sleep=clock.sleep)
    for key in range(4):
        stepper.add(key, request_for(user("repeat 11: word")))
    while stepper.has_work():
        stepper.step()
    assert clock.now - 100.0 == pytest.approx(1.0)


def test_without_a_pace_no_clock_is_read() -> None:
    def clock() -> float:
        raise AssertionError

    assert answer(EchoStepper(spec(), clock=clock), user("a b")).text == "a b"


def test_the_limits_are_those_of_the_options() -> None:
    limits = EchoStepper(spec(context_tokens=100)).limits
    assert (limits.max_running, limits.context_tokens, limits.kv_tokens) == (4, 100, 400)
    assert EchoStepper(spec(kv_tokens=50)).limits.context_tokens == 50


def test_an_answer_never_exceeds_the_context() -> None:
    with pytest.raises(LocktenderError, match=r"3 tokens .* 98, .* 100\."):
        EchoStepper(spec(context_tokens=100)).add(1, request_for(user("a b c"), 98))
