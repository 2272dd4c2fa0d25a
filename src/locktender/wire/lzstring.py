"""lz-string's `compressToEncodedURIComponent`, and back.

The published algorithm (lz-string, MIT), over UTF-16 code units as JavaScript has them: a phrase
that was seen before is sent as its number in a dictionary that both sides grow alike, a new unit is
sent whole behind a mark, and the bits of it all are cut into letters of six.
"""

from collections.abc import Iterable
from itertools import takewhile

__all__ = ["compress_to_encoded_uri_component", "decompress_from_encoded_uri_component"]

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
_LETTER_BITS = 6
_BITS = {letter: f"{value:0{_LETTER_BITS}b}" for value, letter in enumerate(_ALPHABET)}
_NEW_BYTE, _NEW_UNIT, _END, _FIRST_PHRASE = range(4)  # the marks, then the numbers of phrases
_MAX_BYTES = 1_000_000


class _Width:
    """How many bits a number takes, which grows with the dictionary."""

    def __init__(self) -> None:
        self.n_bits = 2
        self._n_left = 2

    def count(self) -> None:
        """Count a phrase that the dictionary has gained."""
        self._n_left -= 1
        if self._n_left == 0:
            self._n_left = 2**self.n_bits
            self.n_bits += 1


class _Writer:
    def __init__(self) -> None:
        self._bits: list[str] = []

    def write(self, value: int, n_bits: int) -> None:
        self._bits.append(f"{value:0{n_bits}b}"[::-1])

    def text(self) -> str:
        bits = "".join(self._bits)
        # The last letter is filled up, and there is always one to fill.
        bits += "0" * (_LETTER_BITS - len(bits) % _LETTER_BITS)
        places = range(0, len(bits), _LETTER_BITS)
        return "".join(_ALPHABET[int(bits[at : at + _LETTER_BITS], 2)] for at in places)


class _Reader:
    def __init__(self, text: str) -> None:
        # What follows the end is not looked at, so that any letter may stand there.
        self._bits = "".join(_BITS[letter] for letter in takewhile(_BITS.__contains__, text))
        self._at = 0

    def read(self, n_bits: int) -> int:
        end = self._at + n_bits
        if end > len(self._bits):
            raise ValueError("The text ends too early, or has a letter that is none.")
        value = int(self._bits[self._at : end][::-1], 2)
        self._at = end
        return value


def compress_to_encoded_uri_component(text: str) -> str:
    """Return `text` in letters that stand in a URL as they are."""
    writer, width = _Writer(), _Width()
    numbers: dict[str, int] = {}
    unsent: set[str] = set()  # units that have a number and were never sent whole

    def send(phrase: str) -> None:
        if phrase in unsent:
            unsent.remove(phrase)
            is_byte = ord(phrase) < 256  # noqa: PLR2004 - what a byte holds
            writer.write(_NEW_BYTE if is_byte else _NEW_UNIT, width.n_bits)
            writer.write(ord(phrase), 8 if is_byte else 16)
            width.count()
        else:
            writer.write(numbers[phrase], width.n_bits)
        width.count()

    phrase = ""
    for unit in _units(text):
        if unit not in numbers:
            numbers[unit] = len(numbers) + _FIRST_PHRASE
            unsent.add(unit)
        if phrase + unit in numbers:
            phrase += unit
            continue
        send(phrase)
        numbers[phrase + unit] = len(numbers) + _FIRST_PHRASE
        phrase = unit
    if phrase:
        send(phrase)
    writer.write(_END, width.n_bits)
    return writer.text()


def decompress_from_encoded_uri_component(text: str) -> str:
    """Return the text that was compressed.

    Raises: ValueError, also for what would be longer than a megabyte: a few letters can stand for
    very much.
    """
    if len(text) > _MAX_BYTES:
        raise ValueError(f"The text is longer than {_MAX_BYTES:,} letters.")
    reader, width = _Reader(text.replace(" ", "+")), _Width()  # as lz-string does: forms eat a plus
    phrases: list[str] = [""] * _FIRST_PHRASE
    found: list[str] = []
    n_bytes, before = 0, ""
    while True:
        number = reader.read(width.n_bits)
        if number == _END:
            return _joined(found)
        if number in {_NEW_BYTE, _NEW_UNIT}:
            phrases.append(chr(reader.read(8 if number == _NEW_BYTE else 16)))
            number = len(phrases) - 1
            width.count()
        phrase = _phrase(phrases, number, before)
        found.append(phrase)
        n_bytes += 2 * len(phrase)
        if n_bytes > _MAX_BYTES:
            raise ValueError(f"The text unpacks to more than {_MAX_BYTES:,} bytes.")
        if before:
            phrases.append(before + phrase[0])
        width.count()
        before = phrase


def _phrase(phrases: list[str], number: int, before: str) -> str:
    if number < len(phrases):
        return phrases[number]
    if number == len(phrases) and before:
        return before + before[0]  # the one phrase that is used before it is known
    raise ValueError("The text names a phrase that it has not given.")


def _units(text: str) -> Iterable[str]:
    raw = text.encode("utf-16-le", "surrogatepass")
    return (chr(raw[at] | raw[at + 1] << 8) for at in range(0, len(raw), 2))


def _joined(found: list[str]) -> str:
    return "".join(found).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
