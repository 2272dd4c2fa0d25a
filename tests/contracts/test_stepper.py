"""What `Stepper` promises, of every engine that ships: the twin without weights and the real model.

Expectations are taken from the engine itself: an answer that was given alone is what the same
request must get in company, in this test and in all that come after it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import pytest

from harness.rendered_chat import BehindTemplate
from locktender.core.errors import ContextTooLong, InvalidRequest, RequestError
from locktender.core.request import (
    ChatInput,
    Delta,
    FinishReason,
    GenerationRequest,
    Input,
    Message,
    RenderedInput,
    Sampling,
    TextInput,
    TokenInput,
)
from locktender.model.engine import EngineSpec, Output, Stepper, load_engine, token_ids

MAX_STEPS = 2000  # a bound for every loop; no answer here is near as long
KEYS = range(100)
GREEDY = Sampling(temperature=0.0)
THINGS = ["sea", "mountain", "river", "forest", "city", "desert", "island", "garden"]
THINGS += ["bridge", "castle", "storm", "winter", "train", "library", "market", "harbour"]
# By engine: who is asked the same twice alone says the same twice, so it is asked once.
behind_template = cache(BehindTemplate)
_known: dict[tuple[Stepper, GenerationRequest], Delta] = {}


@pytest.fixture(params=["echo", "openvino", "transformers"])
def stepper(request: pytest.FixtureRequest) -> Iterator[Stepper]:
    if request.param == "echo":
        engine = load_engine("echo")(EngineSpec("echo", max_running=16))
    else:
        engine = behind_template(request.getfixturevalue(f"{request.param}_stepper"))
    yield engine
    for key in KEYS:
        engine.cancel(key)
    drain(engine)


def story(thing: str, max_tokens: int = 8, stop: tuple[str, ...] = ()) -> GenerationRequest:
    """Ask for an answer of many tokens that is another one for each thing."""
    text = f"Tell me a long story about a {thing} and the people who live by the {thing}."
    return request_for(ChatInput((Message("user", text),)), max_tokens, GREEDY, stop)


def request_for(
    prompt: Input,
    max_tokens: int = 16,
    sampling: Sampling = GREEDY,
    stop: tuple[str, ...] = (),
    *,
    is_default_max_tokens: bool = False,
) -> GenerationRequest:
    return GenerationRequest(
        "1", "m", prompt, max_tokens, sampling, stop, is_default_max_tokens=is_default_max_tokens
    )


def drain(stepper: Stepper) -> dict[int, list[Output]]:
    """Step until nothing is left and return what came out, by key."""
    outputs: dict[int, list[Output]] = {}
    for _ in range(MAX_STEPS):
        if not stepper.has_work():
            return outputs
        for key, output in stepper.step():
            outputs.setdefault(key, []).append(output)
    raise AssertionError


def run(stepper: Stepper, requests: Mapping[int, GenerationRequest]) -> dict[int, list[Output]]:
    for key, request in requests.items():
        stepper.add(key, request)
    return drain(stepper)


def alone(stepper: Stepper, request: GenerationRequest) -> Delta:
    return merged(run(stepper, {1: request})[1])


def expected_of(stepper: Stepper, request: GenerationRequest) -> Delta:
    """Return what `request` gets alone, as it was when it was first asked."""
    key = stepper, request
    if key not in _known:
        _known[key] = alone(stepper, request)
    return _known[key]


def merged(outputs: Sequence[Output]) -> Delta:
    whole = Delta()
    for output in outputs:
        assert isinstance(output, Delta)
        whole += output
    return whole


def test_parts_come_in_order_with_the_usage_first_and_one_finish_last(stepper: Stepper) -> None:
    (outputs,) = run(stepper, {7: story("sea")}).values()
    deltas = [output for output in outputs if isinstance(output, Delta)]
    assert len(deltas) == len(outputs) > 3
    assert [delta.prompt_tokens is not None for delta in deltas] == [True] + [False] * (
        len(deltas) - 1
    )
    assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [
        True
    ]
    assert sum(bool(delta.text) for delta in deltas) > 3


def test_max_tokens_ends_an_answer_with_length_and_is_what_it_counts(stepper: Stepper) -> None:
    long, short = alone(stepper, story("sea", 8)), alone(stepper, story("sea", 3))
    assert (long.n_tokens, long.finish_reason) == (8, FinishReason.LENGTH)
    assert (short.n_tokens, short.finish_reason) == (3, FinishReason.LENGTH)
    assert long.text.startswith(short.text)
    assert long.prompt_tokens == short.prompt_tokens


def test_a_longer_prompt_counts_more_tokens(stepper: Stepper) -> None:
    counts = [
        alone(stepper, request_for(TextInput(text), 1)).prompt_tokens
        for text in ("one two", "one two three four")
    ]
    assert counts == [2, 4]


def test_each_token_id_of_a_prompt_counts_as_one(stepper: Stepper) -> None:
    assert alone(stepper, request_for(TokenInput((300, 400, 500)), 1)).prompt_tokens == 3


@pytest.mark.parametrize("cut", [slice(3, 6), slice(3, 20), slice(0, 2)])
def test_a_stop_string_ends_an_answer_before_it(stepper: Stepper, cut: slice) -> None:
    text = expected_of(stepper, story("sea")).text
    stop = text[cut]
    whole = alone(stepper, story("sea", stop=("no such text", stop)))
    assert (whole.text, whole.finish_reason) == (text[: text.index(stop)], FinishReason.STOP)


@pytest.mark.parametrize(
    "prompt",
    [
        ChatInput((Message("user", "Tell me of the sea."), Message("assistant", "It is wide."))),
        ChatInput((Message("user", "<|im_end|>"),)),
        TextInput("The capital of France is"),
        TokenInput((5, 6, 7)),
    ],
)
def test_a_prompt_has_the_tokens_that_an_engine_tells_of_it(
    stepper: Stepper, prompt: Input
) -> None:
    ids = token_ids(stepper, prompt)
    assert alone(stepper, request_for(prompt, 1)).prompt_tokens == len(ids)


def test_the_tokens_of_more_than_the_context_are_told(stepper: Stepper) -> None:
    once = token_ids(stepper, TextInput(" sea"))
    assert list(token_ids(stepper, TextInput(" sea" * 20_000))) == [*once] * 20_000
    unbroken = token_ids(stepper, TextInput("x" * 100_000))
    assert unbroken
    assert list(token_ids(stepper, TextInput(""))) == []


def test_a_stop_string_that_only_begins_takes_nothing_away(stepper: Stepper) -> None:
    expected = expected_of(stepper, story("sea"))
    stops = (expected.text[-5:] + "~", expected.text[3:9] + "~")
    assert alone(stepper, story("sea", stop=stops)) == expected


def test_a_cancelled_answer_says_nothing_more_and_harms_no_other(stepper: Stepper) -> None:
    expected = expected_of(stepper, story("sea"))
    stepper.add(1, story("river", 200))
    stepper.add(2, story("sea"))
    before = [output for _ in range(3) for output in stepper.step()]
    stepper.cancel(1)
    after = drain(stepper)
    assert 1 in {key for key, _ in before}
    assert list(after) == [2]
    assert merged([output for key, output in before if key == 2] + after[2]) == expected


def test_an_answer_that_is_cancelled_before_the_first_step_never_begins(stepper: Stepper) -> None:
    stepper.add(1, story("river"))
    stepper.cancel(1)
    assert drain(stepper) == {}


def test_a_cancelled_key_may_be_used_again(stepper: Stepper) -> None:
    expected = expected_of(stepper, story("sea"))
    stepper.add(1, story("river"))
    stepper.step()
    stepper.cancel(1)
    assert alone(stepper, story("sea")) == expected


def test_cancelling_what_is_unknown_or_finished_does_nothing(stepper: Stepper) -> None:
    stepper.cancel(99)
    expected = expected_of(stepper, story("sea"))
    stepper.cancel(1)
    assert alone(stepper, story("sea")) == expected


def test_a_key_that_is_in_use_is_refused_and_its_answer_goes_on(stepper: Stepper) -> None:
    expected = expected_of(stepper, story("sea"))
    stepper.add(1, story("sea"))
    with pytest.raises(ValueError, match="key 1 is in use"):
        stepper.add(1, story("river"))
    assert merged(drain(stepper)[1]) == expected


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (request_for(TokenInput((5, -1))), InvalidRequest),
        (request_for(TokenInput((10**9,))), InvalidRequest),
        (request_for(TokenInput(())), InvalidRequest),
        (request_for(TextInput("")), InvalidRequest),
        (request_for(RenderedInput("")), InvalidRequest),
        (request_for(RenderedInput("word " * 9000)), ContextTooLong),
        (request_for(TextInput("word " * 9000)), ContextTooLong),
        (request_for(TextInput("word " * 180_000)), ContextTooLong),
        (request_for(TextInput("word"), 8192), ContextTooLong),
        (request_for(TokenInput((5,) * 8192), is_default_max_tokens=True), ContextTooLong),
    ],
)
def test_what_cannot_be_answered_is_refused_and_its_neighbours_do_not_notice(
    stepper: Stepper, bad: GenerationRequest, error: type[RequestError]
) -> None:
    expected = [expected_of(stepper, story(thing, 4)) for thing in ("sea", "river")]
    stepper.add(1, story("sea", 4))
    first = stepper.step()
    with pytest.raises(error):
        stepper.add(3, bad)
    stepper.add(2, story("river", 4))
    rest = drain(stepper)
    assert rest.keys() == {1, 2}
    assert merged([output for _, output in first] + rest[1]) == expected[0]
    assert merged(rest[2]) == expected[1]


def test_a_rendered_chat_is_answered_as_a_text_of_its_own(stepper: Stepper) -> None:
    text = "In the garden there was"
    expected = alone(stepper, request_for(TextInput(text), 8))
    assert alone(stepper, request_for(RenderedInput(text), 8)) == expected


def test_a_refusal_for_length_states_both_numbers(stepper: Stepper) -> None:
    context_tokens = stepper.limits.context_tokens
    with pytest.raises(ContextTooLong, match=rf"\b3 tokens .*\b9000\b.*\b{context_tokens}\b"):
        stepper.add(1, request_for(TokenInput((5, 6, 7)), 9000))
    assert not stepper.has_work()


def test_the_default_for_max_tokens_shrinks_to_what_the_context_leaves(stepper: Stepper) -> None:
    ids = (300,) * (stepper.limits.context_tokens - 3)
    stepper.add(1, request_for(TokenInput(ids), 512, is_default_max_tokens=True))
    stepper.cancel(1)
    with pytest.raises(ContextTooLong):
        stepper.add(1, request_for(TokenInput(ids), 512))


def test_sixteen_greedy_answers_at_once_are_those_given_alone(stepper: Stepper) -> None:
    # Long prompts and short ones: together, more tokens than one step reads.
    requests = [story(thing) for thing in THINGS[:5]]
    requests += [request_for(TextInput(f"In the {thing} there was"), 8) for thing in THINGS[5:]]
    expected = [expected_of(stepper, request) for request in requests]
    together = run(stepper, dict(enumerate(requests)))
    assert [merged(together[key]) for key in range(len(THINGS))] == expected
    assert len({delta.text for delta in expected}) == len(THINGS)


def test_answers_that_join_while_others_run_are_those_given_alone(stepper: Stepper) -> None:
    expected = [expected_of(stepper, story(thing)) for thing in THINGS[:5]]
    outputs: dict[int, list[Output]] = {}
    for key, thing in enumerate(THINGS[:5]):
        stepper.add(key, story(thing))
        for each, output in [*stepper.step(), *stepper.step()]:
            outputs.setdefault(each, []).append(output)
    for key, rest in drain(stepper).items():
        outputs.setdefault(key, []).extend(rest)
    assert [merged(outputs[key]) for key in range(5)] == expected


def test_a_seed_repeats_when_alone(stepper: Stepper) -> None:
    seeded = Sampling(temperature=1.0, top_p=0.95, seed=7)
    prompt = ChatInput((Message("user", "Write a poem about the sea."),))
    answers = {alone(stepper, request_for(prompt, 8, seeded)) for _ in range(3)}
    assert len(answers) == 1


def test_limits_are_consistent(stepper: Stepper) -> None:
    limits = stepper.limits
    assert limits.max_running == 16
    assert limits.context_tokens == 8192
    assert limits.kv_tokens >= limits.context_tokens
