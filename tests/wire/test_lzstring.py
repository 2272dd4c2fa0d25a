import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.wire.lzstring import (
    compress_to_encoded_uri_component,
    decompress_from_encoded_uri_component,
)

# What lz-string 1.5.0 gives under Node.
PAIRS = {
    "": "Q",
    "a": "IZA",
    '{"configurable": {"template": "bye {who}"}}': (
        "N4Igxg9gdgZglgcwK4CcCGAjANgUxALgAJQAXHAWwAcs0yDCQMBPHYgdwAsIBfEb7oA"
    ),
    '{"a":"é€😀"}': "N4IghiBcIJeDUEheDcAB7IC+Q",
    "\ud800x": "gAbA8g",
    "aaaaaa": "IY1A",
}
anything = st.text(st.characters(codec=None, categories=None), max_size=300)


@pytest.mark.parametrize(("text", "letters"), PAIRS.items())
def test_letters_are_lz_string_s(text: str, letters: str) -> None:
    assert compress_to_encoded_uri_component(text) == letters
    assert decompress_from_encoded_uri_component(letters) == text


@given(anything)
def test_every_text_comes_back(text: str) -> None:
    letters = compress_to_encoded_uri_component(text)
    units = text.encode("utf-16-le", "surrogatepass")
    # Two halves of a pair that come one after the other are a pair, as in JavaScript.
    expected = units.decode("utf-16-le", "surrogatepass")
    assert decompress_from_encoded_uri_component(letters) == expected
    assert set(letters) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-$")


@given(st.text("abc{}", max_size=200).map(lambda text: text * 10))
def test_what_repeats_takes_less_room(text: str) -> None:
    assert len(compress_to_encoded_uri_component(text)) <= len(text) + 4


@given(st.text("ABCDwxyz0189+-$ é", max_size=60))
def test_whatever_letters_there_are_give_a_text_or_a_value_error(letters: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(decompress_from_encoded_uri_component(letters), str)


@pytest.mark.parametrize("letters", ["", "zzzz", "1234", "N4Ig", "é", "A"])
def test_what_lz_string_did_not_write_is_a_value_error(letters: str) -> None:
    with pytest.raises(ValueError, match="text"):
        decompress_from_encoded_uri_component(letters)


def test_a_plus_that_a_form_has_made_a_blank_is_one_again() -> None:
    assert compress_to_encoded_uri_component("ǰ") == "g+AQ"
    assert decompress_from_encoded_uri_component("g AQ") == "ǰ"


def test_few_letters_that_stand_for_very_much_are_refused() -> None:
    letters = compress_to_encoded_uri_component("a" * 600_000)
    assert len(letters) < 3_000
    with pytest.raises(ValueError, match="more than 1,000,000 bytes"):
        decompress_from_encoded_uri_component(letters)
    with pytest.raises(ValueError, match="longer than"):
        decompress_from_encoded_uri_component("A" * 1_000_001)
