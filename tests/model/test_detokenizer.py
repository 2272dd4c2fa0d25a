"""The decoders here are byte-level ones, as most models have.

Two forms are in use: one shows bytes that are no character as U+FFFD, the other leaves them out.
"""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.model.detokenizer import Decode, Feed, TokenWindow, detokenize

Vocabulary = Sequence[bytes]

# A vocabulary whose tokens cut characters of two to four bytes at every place.
PARTS = [bytes([n]) for n in "aé€🎉 ".encode()] + [
    b" \xf0",
    b"\x9f\x8e",
    b"x\xe2",
    b"\x89\xc3",
    b"",
]


def byte_decoder(vocabulary: Vocabulary, errors: str) -> Decode:
    def decode(rows: list[list[int]]) -> list[str]:
        return [b"".join(vocabulary[id_] for id_ in row).decode(errors=errors) for row in rows]

    return decode


def word_decoder(rows: list[list[int]]) -> list[str]:
    """Put a space between words, but none before the first, as sentencepiece does."""
    return [" ".join(f"w{id_}" for id_ in row) for row in rows]


def pieces_of(decode: Decode, steps: Sequence[Sequence[int]]) -> list[str]:
    window = TokenWindow()
    last = len(steps) - 1
    return [
        detokenize(decode, [Feed(window, ids, is_last=n == last)])[0] for n, ids in enumerate(steps)
    ]


@pytest.fixture(params=["replace", "ignore"])
def make_decoder(request: pytest.FixtureRequest) -> Callable[[Vocabulary], Decode]:
    return lambda vocabulary: byte_decoder(vocabulary, request.param)


def test_a_character_comes_out_whole(make_decoder: Callable[[Vocabulary], Decode]) -> None:
    decode = make_decoder([b"a", b"\xf0\x9f", b"\x8e", b"\x89", b"b"])
    assert pieces_of(decode, [[0], [1], [2], [3], [4]]) == ["a", "", "", "🎉", "b"]


def test_words_keep_the_space_between_them() -> None:
    assert pieces_of(word_decoder, [[1], [2], [3, 4]]) == ["w1", " w2", " w3 w4"]


def test_an_unfinished_character_comes_out_at_the_end_as_the_decoder_shows_it() -> None:
    vocabulary = [b"a", b"\xf0\x9f"]
    assert pieces_of(byte_decoder(vocabulary, "replace"), [[0], [1], []]) == ["a", "", "\ufffd"]
    assert pieces_of(byte_decoder(vocabulary, "ignore"), [[0], [1], []]) == ["a", "", ""]


def test_tokens_without_text_give_none(make_decoder: Callable[[Vocabulary], Decode]) -> None:
    decode = make_decoder([b"", b"a"])
    assert pieces_of(decode, [[0], [1], [0], [1]]) == ["", "a", "", "a"]


def test_many_answers_are_decoded_in_one_call() -> None:
    calls: list[int] = []

    def decode(rows: list[list[int]]) -> list[str]:
        calls.append(len(rows))
        return word_decoder(rows)

    windows = [TokenWindow() for _ in range(5)]
    texts = [
        detokenize(decode, [Feed(window, [n]) for n, window in enumerate(windows)])
        for _ in range(3)
    ]
    assert texts[2] == [f" w{n}" for n in range(5)]
    assert calls == [10, 10, 10]


def test_nothing_new_is_no_call() -> None:
    def decode(_rows: list[list[int]]) -> list[str]:
        raise AssertionError

    assert detokenize(decode, []) == []
    assert detokenize(decode, [Feed(TokenWindow(), [])]) == [""]


@pytest.mark.parametrize("token", [b"", b"\x80", b"\xf0"])
def test_a_window_does_not_grow_with_the_answer(
    token: bytes, make_decoder: Callable[[Vocabulary], Decode]
) -> None:
    longest = 0
    decode_all = make_decoder([token])

    def decode(rows: list[list[int]]) -> list[str]:
        nonlocal longest
        longest = max(longest, *map(len, rows))
        return decode_all(rows)

    pieces = pieces_of(decode, [[0]] * 500)
    assert longest < 30
    assert "".join(pieces) == decode_all([[0] * 500])[0]
    assert not decode_all([[0]])[0] or any(pieces[:-1])


@given(
    ids=st.lists(st.integers(0, len(PARTS) - 2), max_size=80),
    errors=st.sampled_from(["replace", "ignore"]),
    n_at_once=st.integers(1, 5),
)
def test_the_pieces_joined_are_the_text_of_all_tokens(
    ids: list[int], errors: str, n_at_once: int
) -> None:
    decode = byte_decoder(PARTS, errors)
    steps = [ids[at : at + n_at_once] for at in range(0, len(ids), n_at_once)]
    assert "".join(pieces_of(decode, steps)) == decode([ids])[0]


@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=40),
    errors=st.sampled_from(["replace", "ignore"]),
)
def test_no_piece_ends_within_a_character_of_a_real_text(text: str, errors: str) -> None:
    decode = byte_decoder([bytes([n]) for n in range(256)], errors)
    pieces = pieces_of(decode, [[byte] for byte in text.encode()])
    assert [piece for piece in pieces if piece] == list(text)
