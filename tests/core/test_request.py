from functools import reduce
from operator import add

from hypothesis import given
from hypothesis import strategies as st

from locktender.core.request import Delta, FinishReason

deltas = st.builds(
    Delta, st.text(max_size=5), st.integers(0, 9), st.none() | st.integers(1, 9), st.none()
)
FIRST = Delta("", 0, prompt_tokens=7)
LAST = Delta(" end", 1, finish_reason=FinishReason.LENGTH)


def test_a_merged_answer_has_all_text_all_tokens_and_its_end() -> None:
    assert FIRST + Delta("one", 1) + LAST == Delta("one end", 2, 7, FinishReason.LENGTH)


def test_the_first_count_of_the_prompt_stays() -> None:
    assert (FIRST + Delta("", 0, prompt_tokens=9)).prompt_tokens == 7
    assert (FIRST + Delta("", 0, prompt_tokens=0)).prompt_tokens == 7
    assert (Delta("", 0, prompt_tokens=0) + FIRST).prompt_tokens == 0


@given(deltas)
def test_nothing_is_added_by_an_empty_delta(delta: Delta) -> None:
    assert Delta() + delta == delta
    assert delta + Delta() == delta


@given(st.lists(deltas, min_size=1, max_size=6), st.data())
def test_in_whatever_groups_pieces_are_merged_the_whole_is_the_same(
    pieces: list[Delta], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(pieces)))
    left, right = reduce(add, pieces[:at], Delta()), reduce(add, pieces[at:], Delta())
    assert left + right == reduce(add, pieces, Delta())
