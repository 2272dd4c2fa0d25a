"""Read, from the header of a GGUF file, what has to be known before its model is loaded.

A GGUF file begins with keys and values, little-endian: a string is its length and its bytes, an
array its element type, its length and its elements (the specification is docs/gguf.md of
ggml-org/ggml).  Arrays are passed over, but for the vocabulary where that is asked for.  After them
it says where each tensor lies.

A file is not trusted: every length in it is bounded, and what is wrong with it is said in a
sentence.  A file that ends before its last tensor does, as a broken download leaves it, is found
here, because engines read beyond its end and crash.

What is made of the numbers (how much memory, how long a context) is decided by the engines; what
of the vocabulary is a control token, by `prompting.control_token`.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar, cast

from locktender.core.errors import ConfigError, EngineStartError
from locktender.prompting.control_token import AddedToken

__all__ = ["GgufHeader", "GgufVocabulary", "read_header", "read_vocabulary"]

_Read = TypeVar("_Read")
Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | list[str] | list[int]

MAX_HEADER_BYTES = 64 << 20  # a vocabulary of 262,144 tokens, the largest in use, takes 8 MB
MAX_STRING_BYTES = 1 << 20  # chat templates, the longest strings, have some 10 kB
MAX_KEYS = 10_000
MAX_TENSORS = 1_000_000
MAX_DIMENSIONS = 4
VERSIONS = (2, 3)  # version 1 was replaced within weeks; a big-endian file reads as another number

STRING, ARRAY = 8, 9
SCALARS: Mapping[int, struct.Struct] = {
    kind: struct.Struct("<" + code) for kind, code in enumerate("BbHhIif?")
} | {10: struct.Struct("<Q"), 11: struct.Struct("<q"), 12: struct.Struct("<d")}

# Tensor types to how many numbers a block of them has, in how many bytes.  Of other types, which
# are rare, only the place where the tensor begins is checked.
BLOCKS: Mapping[int, tuple[int, int]] = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    30: (1, 2),  # BF16
}
DEFAULT_ALIGNMENT = 32

_TOKENS, _TOKEN_TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
# Types of tokens.  Those of single bytes are, like normal ones, what texts are made of.
_NORMAL, _UNKNOWN, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 4, 5, 6
# What templates call the tokens whose ids the header names.
_NAMED_IDS: Mapping[str, str] = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
}


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a model is, as far as the room that it needs goes."""

    architecture: str
    context_tokens: int  # the longest prompt and answer that it was trained for
    n_layers: int
    n_kv_heads: int
    key_length: int  # of one head
    value_length: int


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """What is to be known of a model's tokens to write its chats."""

    chat_template: str | None
    tokens: Sequence[AddedToken]  # those that are no pieces of text by their type
    named_tokens: Mapping[str, str]  # `bos_token` and its like, to their texts


def read_header(path: Path) -> GgufHeader:
    """Read the header of the file at `path`.  Raises: ConfigError, EngineStartError."""

    def read(reader: _Reader) -> GgufHeader:
        n_tensors, n_keys = _read_counts(reader)
        values = _read_values(reader, n_keys)
        n_bytes = _read_extent(reader, n_tensors, values.get("general.alignment"))
        if n_bytes > path.stat().st_size:
            raise _DamagedError(f"it is cut off, and should have {n_bytes:,} bytes at least")
        return _to_header(values)

    return _read(path, read)


def read_vocabulary(path: Path) -> GgufVocabulary:
    """Read the chat template and the control tokens of the file at `path`.

    Raises: ConfigError, EngineStartError.
    """

    def read(reader: _Reader) -> GgufVocabulary:
        _, n_keys = _read_counts(reader)
        return _to_vocabulary(_read_values(reader, n_keys, arrays=(_TOKENS, _TOKEN_TYPES)))

    return _read(path, read)


def _read(path: Path, read: "Callable[[_Reader], _Read]") -> _Read:
    try:
        with path.open("rb") as file:
            return read(_Reader(file))
    except OSError as error:
        message = f"The model file {str(path)!r} cannot be read: {error}."
        raise _kind(error)(message) from error
    except _DamagedError as error:
        raise ConfigError(f"The file {str(path)!r} is no usable GGUF model: {error}.") from error


def _kind(error: OSError) -> type[ConfigError] | type[EngineStartError]:
    # Else it is the machine that is short of something, and the next try may go better.
    is_theirs = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
    return ConfigError if is_theirs else EngineStartError


class _DamagedError(Exception):
    """The file is not what it must be; says how, as the end of a sentence."""


class _Reader:
    """Reads forward through a file, never beyond `MAX_HEADER_BYTES`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._n_left = MAX_HEADER_BYTES

    def take(self, n_bytes: int) -> bytes:
        self._spend(n_bytes)
        taken = self._file.read(n_bytes)
        if len(taken) < n_bytes:
            raise _DamagedError("it ends within its header")
        return taken

    def skip(self, n_bytes: int) -> None:
        self._spend(n_bytes)
        self._file.seek(n_bytes, 1)

    @property
    def at(self) -> int:
        return MAX_HEADER_BYTES - self._n_left

    def scalar(self, kind: int) -> int | float | bool:
        packing = SCALARS.get(kind)
        if packing is None:
            raise _DamagedError(f"it has a value of the unknown type {kind}")
        return cast("int | float | bool", packing.unpack(self.take(packing.size))[0])

    def count(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def kind(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def string(self) -> str:
        n_bytes = self.count()
        if n_bytes > MAX_STRING_BYTES:
            raise _DamagedError(f"it has a string of {n_bytes} bytes")
        return self.take(n_bytes).decode("utf-8", errors="replace")

    def array(self) -> list[str] | list[int]:
        """Return an array of strings or of whole numbers."""
        kind, n_elements = self.kind(), self.count()
        if n_elements > MAX_HEADER_BYTES:
            raise _DamagedError(f"it has an array of {n_elements} elements")
        if kind == STRING:
            return [self.string() for _ in range(n_elements)]
        if kind not in SCALARS:
            raise _DamagedError(f"it has an array of the unknown type {kind}")
        taken = self.take(n_elements * SCALARS[kind].size)
        return [int(number) for (number,) in SCALARS[kind].iter_unpack(taken)]

    def skip_array(self) -> None:
        kind, n_elements = self.kind(), self.count()
        if kind == STRING:
            for _ in range(n_elements):
                self.skip(self.count())
        elif kind in SCALARS:
            self.skip(n_elements * SCALARS[kind].size)
        else:
            raise _DamagedError(f"it has an array of the unknown type {kind}")

    def _spend(self, n_bytes: int) -> None:
        self._n_left -= n_bytes
        if self._n_left < 0:
            raise _DamagedError(f"its header is longer than {MAX_HEADER_BYTES} bytes")


def _read_counts(reader: _Reader) -> tuple[int, int]:
    """Return how many tensors and how many keys there are."""
    if reader.take(4) != b"GGUF":
        raise _DamagedError("it does not begin with 'GGUF'")
    version = reader.kind()
    if version not in VERSIONS:
        raise _DamagedError(f"its version is {version}, and 2 and 3 are known")
    n_tensors, n_keys = reader.count(), reader.count()
    if n_keys > MAX_KEYS or n_tensors > MAX_TENSORS:
        raise _DamagedError(f"its header has {n_keys} keys and {n_tensors} tensors")
    return n_tensors, n_keys


def _read_values(reader: _Reader, n_keys: int, arrays: Sequence[str] = ()) -> Mapping[str, Value]:
    """Return the keys and values; of arrays, those that are named."""
    values: dict[str, Value] = {}
    for _ in range(n_keys):
        key, kind = reader.string(), reader.kind()
        if kind == ARRAY and key in arrays:
            values[key] = reader.array()
        elif kind == ARRAY:
            reader.skip_array()
        else:
            values[key] = reader.string() if kind == STRING else reader.scalar(kind)
    return values


def _read_extent(reader: _Reader, n_tensors: int, alignment: Value | None) -> int:
    """Return how many bytes a file with these tensors has at least."""
    step = alignment if isinstance(alignment, int) and alignment > 0 else DEFAULT_ALIGNMENT
    ends = []
    for _ in range(n_tensors):
        reader.string()  # the name
        n_dimensions = reader.kind()
        if n_dimensions > MAX_DIMENSIONS:
            raise _DamagedError(f"it has a tensor of {n_dimensions} dimensions")
        n_numbers = math.prod(reader.count() for _ in range(n_dimensions))
        n_in_block, block_bytes = BLOCKS.get(reader.kind(), (1, 0))
        ends.append(reader.count() + n_numbers // n_in_block * block_bytes)
    begins_at = -(-reader.at // step) * step
    return begins_at + max(ends) if ends else reader.at


def _to_vocabulary(values: Mapping[str, Value]) -> GgufVocabulary:
    texts, types = values.get(_TOKENS), values.get(_TOKEN_TYPES)
    if not isinstance(texts, list) or not isinstance(types, list) or len(texts) != len(types):
        raise _DamagedError("it does not say which of its tokens are control tokens")
    tokens = [
        AddedToken(
            str(text),
            id=number,
            is_special=kind not in (_USER_DEFINED, _UNUSED),
            is_unknown=kind == _UNKNOWN,
        )
        for number, (text, kind) in enumerate(zip(texts, types, strict=True))
        if kind not in (_NORMAL, _BYTE)
    ]
    named = {
        name: str(texts[number])
        for name, key in _NAMED_IDS.items()
        if isinstance(number := values.get(key), int) and number < len(texts)
    }
    template = values.get("tokenizer.chat_template")
    return GgufVocabulary(template if isinstance(template, str) else None, tokens, named)


def _to_header(values: Mapping[str, Value]) -> GgufHeader:
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        raise _DamagedError("it does not name its architecture")

    def number(name: str, default: int | None = None) -> int:
        key = f"{architecture}.{name}"
        value = values.get(key, default)
        if not isinstance(value, int) or value < 1:
            raise _DamagedError(f"it does not state its {key!r}")
        return value

    n_heads = number("attention.head_count")
    head_length = number("embedding_length") // n_heads
    return GgufHeader(
        architecture=architecture,
        context_tokens=number("context_length"),
        n_layers=number("block_count"),
        # Where it differs by layer, which is an array, the number of all heads is an upper bound.
        n_kv_heads=number("attention.head_count_kv", n_heads),
        key_length=number("attention.key_length", head_length),
        value_length=number("attention.value_length", head_length),
    )
