from dataclasses import replace

import pytest

from locktender.core.errors import PoisonedRequest, ReplicaLost
from locktender.core.request import GenerationRequest, Sampling, TextInput
from locktender.model.quarantine import Quarantine


def request_for(text: str, *, request_id: str = "1") -> GenerationRequest:
    return GenerationRequest(request_id, "m", TextInput(text), max_tokens=10)


def loss(name: str) -> ReplicaLost:
    return ReplicaLost("The engine process ended.", name)


def test_a_request_whose_answer_has_begun_ends_with_the_loss() -> None:
    lost = loss("m-0#1")
    with pytest.raises(ReplicaLost) as caught:
        Quarantine().judge(request_for("a"), lost, has_sent=True)
    assert caught.value is lost


def test_a_request_that_was_in_an_engine_at_two_deaths_is_the_poison() -> None:
    quarantine = Quarantine()
    quarantine.judge(request_for("a"), loss("m-0#1"), has_sent=False)
    with pytest.raises(PoisonedRequest):
        quarantine.judge(request_for("a"), loss("m-0#2"), has_sent=False)


def test_a_poison_is_told_as_one_even_when_its_answer_had_begun() -> None:
    quarantine = Quarantine()
    with pytest.raises(ReplicaLost):
        quarantine.judge(request_for("a"), loss("m-0#1"), has_sent=True)
    with pytest.raises(PoisonedRequest):
        quarantine.judge(request_for("a"), loss("m-0#2"), has_sent=True)


def test_any_other_request_is_tried_again_as_a_suspect() -> None:
    quarantine = Quarantine()
    quarantine.judge(request_for("a"), loss("m-0#1"), has_sent=False)
    assert quarantine.admit(request_for("a"))
    assert not quarantine.admit(request_for("b"))


def test_a_poison_that_is_sent_again_is_refused() -> None:
    quarantine = Quarantine()
    quarantine.judge(request_for("a"), loss("m-0#1"), has_sent=False)
    with pytest.raises(PoisonedRequest):
        quarantine.judge(request_for("a"), loss("m-0#2"), has_sent=False)
    with pytest.raises(PoisonedRequest):
        quarantine.admit(request_for("a", request_id="2"))


def test_equal_requests_that_die_together_count_one_death() -> None:
    quarantine = Quarantine()
    for request_id in "123":
        request = request_for("a", request_id=request_id)
        quarantine.judge(request, loss("m-0#1"), has_sent=False)
    assert quarantine.admit(request_for("a"))


def test_a_prompt_that_was_answered_is_no_suspect() -> None:
    quarantine = Quarantine()
    quarantine.judge(request_for("a"), loss("m-0#1"), has_sent=False)
    quarantine.clear(request_for("a", request_id="2"))
    assert not quarantine.admit(request_for("a"))
    quarantine.judge(request_for("a"), loss("m-0#2"), has_sent=False)
    assert quarantine.admit(request_for("a"))


def test_clearing_one_prompt_leaves_the_others() -> None:
    quarantine = Quarantine()
    quarantine.judge(request_for("a"), loss("m-0#1"), has_sent=False)
    quarantine.clear(request_for("b"))
    assert quarantine.admit(request_for("a"))


def test_how_an_answer_is_delivered_does_not_make_another_prompt_of_it() -> None:
    quarantine = Quarantine()
    quarantine.judge(request_for("a"), loss("m-0#1"), has_sent=False)
    assert quarantine.admit(replace(request_for("a"), stream=True))


@pytest.mark.parametrize(
    "other",
    [
        replace(request_for("a"), max_tokens=11),
        replace(request_for("a"), sampling=Sampling(seed=1)),
        replace(request_for("a"), stop=("b",)),
        replace(request_for("a"), model="n"),
    ],
)
def test_what_changes_the_engines_work_makes_another_prompt_of_it(
    other: GenerationRequest,
) -> None:
    quarantine = Quarantine()
    quarantine.judge(request_for("a"), loss("m-0#1"), has_sent=False)
    assert not quarantine.admit(other)


def test_half_a_surrogate_pair_is_a_prompt_like_any_other() -> None:
    quarantine = Quarantine()
    quarantine.judge(request_for("\ud800"), loss("m-0#1"), has_sent=False)
    assert quarantine.admit(request_for("\ud800"))


def test_of_very_many_prompts_the_one_that_died_longest_ago_is_forgotten() -> None:
    quarantine = Quarantine()
    for nth in range(1024):
        quarantine.judge(request_for(str(nth)), loss("m-0#1"), has_sent=False)
    quarantine.judge(request_for("0"), loss("m-0#1"), has_sent=False)
    quarantine.judge(request_for("one more"), loss("m-0#1"), has_sent=False)
    assert quarantine.admit(request_for("0"))
    assert not quarantine.admit(request_for("1"))
    assert quarantine.admit(request_for("2"))
