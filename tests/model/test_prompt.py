import pytest

from locktender.core.errors import ContextTooLong, InvalidRequest
from locktender.core.request import GenerationRequest, TextInput
from locktender.model.prompt import answer_room, check_ids


def request_for(max_tokens: int, *, is_default: bool = False) -> GenerationRequest:
    return GenerationRequest(
        "1", "m", TextInput("any"), max_tokens, is_default_max_tokens=is_default
    )


def test_what_fits_exactly_is_taken_as_asked() -> None:
    assert answer_room(request_for(60), 40, 100) == 60


def test_the_callers_maximum_is_never_shrunk() -> None:
    with pytest.raises(ContextTooLong, match=r"40 tokens and `max_tokens` is 61, .* 100\."):
        answer_room(request_for(61), 40, 100)


def test_the_default_maximum_shrinks_to_what_the_prompt_leaves() -> None:
    assert answer_room(request_for(512, is_default=True), 99, 100) == 1


def test_a_prompt_that_leaves_no_room_is_refused_with_any_maximum() -> None:
    with pytest.raises(ContextTooLong, match=r"has 100 tokens, but .* 100\."):
        answer_room(request_for(512, is_default=True), 100, 100)


def test_a_prompt_that_was_cut_off_is_refused_even_if_what_is_left_fits() -> None:
    with pytest.raises(ContextTooLong, match="at least 40 tokens"):
        answer_room(request_for(1), 40, 100, is_exact=False)
    with pytest.raises(ContextTooLong, match="at least 40 tokens"):
        answer_room(request_for(1, is_default=True), 40, 100, is_exact=False)


def test_ids_of_the_vocabulary_are_taken() -> None:
    check_ids([0, 9], 10)


@pytest.mark.parametrize("ids", [[], [-1], [3, 10], [1 << 70]])
def test_no_ids_and_ids_outside_of_the_vocabulary_are_refused(ids: list[int]) -> None:
    with pytest.raises(InvalidRequest):
        check_ids(ids, 10)
