"""However a text is cut into pieces, its stop strings end it at the same place."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from locktender.model.stop import StopStrings

# Three letters, so that stop strings overlap, nest and nearly match.
texts = st.text("abc", max_size=40)
stop_lists = st.lists(st.text("abc", min_size=1, max_size=6), max_size=4)


def search(text: str, stops: Sequence[str]) -> str | None:
    """Return the text before the first stop string to be complete, by looking at each end."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return None


@given(pieces=st.lists(st.text("abc", max_size=6), max_size=12), stops=stop_lists)
def test_any_pieces_give_the_result_of_searching_the_whole_text(
    pieces: list[str], stops: list[str]
) -> None:
    filter_ = StopStrings(stops)
    given_out = "".join([filter_.feed(piece) for piece in pieces] + [filter_.flush()])
    found = search("".join(pieces), stops)
    assert filter_.is_found == (found is not None)
    assert given_out == ("".join(pieces) if found is None else found)


@given(text=texts, stops=stop_lists)
def test_nothing_is_held_back_that_cannot_become_a_stop_string(text: str, stops: list[str]) -> None:
    filter_ = StopStrings(stops)
    given_out = ""
    for n, letter in enumerate(text, start=1):
        given_out += filter_.feed(letter)
        if filter_.is_found:
            break
        held = text[len(given_out) : n]
        assert not held or any(stop.startswith(held) for stop in stops)
