from collections.abc import Sequence
from dataclasses import replace

import pytest

from locktender.core.errors import PoisonedRequest, ReplicaLost
from locktender.core.request import GenerationRequest, Sampling, TextInput
from locktender.model.quarantine import Quarantine

BAN_S = 600.0
CROWD = [f"{n}" for n in range(16)]


def request_for(text: str, *, request_id: str = "1") -> GenerationRequest:
    return GenerationRequest(request_id, "m", TextInput(text), max_tokens=10)


def loss(name: str, *texts: str) -> ReplicaLost:
    """Return what a death gives to each of those who were in the engine."""
    present = tuple(request_for(text).digest() for text in texts)
    return ReplicaLost("The engine process ended.", name, present)


def lose(quarantine: Quarantine, name: str, *texts: str, now: float = 0.0) -> dict[str, int | str]:
    """Have an engine die with `texts` in it; return the group of each, or why there is none."""
    lost = loss(name, *texts)
    found: dict[str, int | str] = {}
    for text in texts:
        try:
            found[text] = quarantine.judge(request_for(text), lost, has_sent=False, now=now)
        except PoisonedRequest as error:
            found[text] = error.message
    return found


def banned(*, texts: Sequence[str] = ("a",)) -> Quarantine:
    """Return what has seen `a` alone in the last of the deaths of `texts`."""
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", *texts)
    lose(quarantine, "m-0#2", *texts)
    lose(quarantine, "m-0#3", "a")
    return quarantine


def is_suspect(quarantine: Quarantine, request: GenerationRequest, *, now: float = 0.0) -> bool:
    return quarantine.admit(request, now=now) != 0


def test_a_request_whose_answer_has_begun_ends_with_the_loss() -> None:
    lost = loss("m-0#1", "a")
    with pytest.raises(ReplicaLost) as caught:
        Quarantine(BAN_S).judge(request_for("a"), lost, has_sent=True, now=0.0)
    assert caught.value is lost


def test_those_who_were_there_at_one_death_are_one_group_and_nobody_else_is_in_it() -> None:
    quarantine = Quarantine(BAN_S)
    (group,) = set(lose(quarantine, "m-0#1", *CROWD).values())
    (other,) = set(lose(quarantine, "m-1#2", "x", "y").values())
    assert group
    assert other not in {0, group}
    assert not is_suspect(quarantine, request_for("z"))


def test_those_whose_answer_had_begun_are_of_the_group_when_their_callers_ask_again() -> None:
    quarantine = Quarantine(BAN_S)
    lost = loss("m-0#1", "a", "b")
    with pytest.raises(ReplicaLost):
        quarantine.judge(request_for("a"), lost, has_sent=True, now=0.0)
    group = quarantine.judge(request_for("b"), lost, has_sent=False, now=0.0)
    assert quarantine.admit(request_for("a", request_id="2"), now=0.0) == group


def test_a_group_that_dies_is_halved_in_its_order() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", *CROWD)
    found = lose(quarantine, "m-0#2", *CROWD)
    assert len({found[text] for text in CROWD[:8]}) == 1
    assert len({found[text] for text in CROWD[8:]}) == 1
    assert found["0"] != found["15"]


def test_of_those_who_die_in_company_that_came_later_each_kind_is_a_group_of_its_own() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", "a", "b")
    found = lose(quarantine, "m-0#2", "a", "b", "new", "newer")
    assert found["new"] == found["newer"]
    assert len({found["a"], found["b"], found["new"]}) == 3


def test_two_deaths_prove_nothing_not_even_against_a_prompt_that_was_alone() -> None:
    quarantine = Quarantine(BAN_S)
    assert lose(quarantine, "m-0#1", "a")["a"]
    assert isinstance(lose(quarantine, "m-0#2", "a")["a"], int)


def test_the_third_death_with_few_in_it_bans_the_prompt_that_was_alone_in_it() -> None:
    quarantine = banned(texts=["a", "b", "c", "d"])
    with pytest.raises(PoisonedRequest, match=r"was in 3 engines when they died, alone in the"):
        quarantine.admit(request_for("a", request_id="2"), now=0.0)
    assert is_suspect(quarantine, request_for("b"))


def test_deaths_in_a_crowd_are_no_evidence() -> None:
    assert is_suspect(banned(texts=[*CROWD[:4], "a"]), request_for("a"))


def test_many_deaths_without_having_been_alone_ban_nobody() -> None:
    quarantine = Quarantine(BAN_S)
    for nth in range(10):
        found = lose(quarantine, f"m-0#{nth}", "a", "b")
        assert all(isinstance(group, int) for group in found.values())


def test_a_ban_says_how_long_it_lasts_and_ends_by_itself() -> None:
    quarantine = banned()
    with pytest.raises(PoisonedRequest, match=r"it is refused for another 500 s\.$"):
        quarantine.admit(request_for("a"), now=100.5)
    assert is_suspect(quarantine, request_for("a"), now=BAN_S)


def test_a_prompt_that_was_banned_is_banned_again_after_one_death_alone() -> None:
    quarantine = banned()
    assert isinstance(lose(quarantine, "m-0#4", "a", now=BAN_S)["a"], str)


def test_what_was_found_is_forgotten_in_the_end() -> None:
    quarantine = banned()
    lose(quarantine, "m-0#4", "b")
    assert not is_suspect(quarantine, request_for("a"), now=2 * BAN_S)
    assert not is_suspect(quarantine, request_for("b"), now=BAN_S)


def test_a_poison_is_told_as_one_even_when_its_answer_had_begun() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", "a")
    lose(quarantine, "m-0#2", "a")
    with pytest.raises(PoisonedRequest):
        quarantine.judge(request_for("a"), loss("m-0#3", "a"), has_sent=True, now=0.0)


def test_equal_requests_that_die_together_count_one_death_and_one_prompt() -> None:
    quarantine = Quarantine(BAN_S)
    for nth in range(2):
        lose(quarantine, f"m-0#{nth}", *"aaaaaa")
    assert is_suspect(quarantine, request_for("a"))
    assert isinstance(lose(quarantine, "m-0#2", *"aaaaaa")["a"], str)


def test_a_prompt_that_was_answered_is_no_suspect_and_its_deaths_are_forgotten() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", "a")
    lose(quarantine, "m-0#2", "a")
    quarantine.clear(request_for("a", request_id="2"))
    assert not is_suspect(quarantine, request_for("a"))
    assert isinstance(lose(quarantine, "m-0#3", "a")["a"], int)


def test_who_hears_late_of_a_death_does_not_undo_what_came_after_it() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", "a", "b")
    quarantine.clear(request_for("a"))
    late = quarantine.judge(request_for("b"), loss("m-0#1", "a", "b"), has_sent=False, now=0.0)
    assert late
    assert not is_suspect(quarantine, request_for("a"))


def test_clearing_one_prompt_leaves_the_others() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", "a")
    quarantine.clear(request_for("b"))
    assert is_suspect(quarantine, request_for("a"))


def test_how_an_answer_is_delivered_does_not_make_another_prompt_of_it() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", "a")
    assert is_suspect(quarantine, replace(request_for("a"), stream=True))


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
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", "a")
    assert not is_suspect(quarantine, other)


def test_half_a_surrogate_pair_is_a_prompt_like_any_other() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", "\ud800")
    assert is_suspect(quarantine, request_for("\ud800"))


def test_of_very_many_prompts_the_one_that_died_longest_ago_is_forgotten() -> None:
    quarantine = Quarantine(BAN_S)
    lose(quarantine, "m-0#1", *[str(nth) for nth in range(1024)])
    lose(quarantine, "m-0#2", "0")
    lose(quarantine, "m-0#3", "one more")
    assert is_suspect(quarantine, request_for("0"))
    assert not is_suspect(quarantine, request_for("1"))
    assert is_suspect(quarantine, request_for("2"))
