import errno
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from locktender.core.errors import ConfigError, EngineStartError
from locktender.model.gguf import GgufHeader, read_header, read_vocabulary
from locktender.prompting.control_token import AddedToken

LLAMA: Mapping[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
}


def packed(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def typed(value: Any) -> bytes:
    """Write a value as its type and itself, as GGUF does."""
    match value:
        case str():
            return struct.pack("<I", 8) + packed(value)
        case float():
            return struct.pack("<If", 6, value)
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(packed, value))
        case _:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def gguf(values: Mapping[str, Any], version: int = 3, tensors: Sequence[bytes] = ()) -> bytes:
    pairs = b"".join(packed(key) + typed(value) for key, value in values.items())
    counts = struct.pack("<IQQ", version, len(tensors), len(values))
    return b"GGUF" + counts + pairs + b"".join(tensors)


def tensor(shape: Sequence[int], kind: int, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return packed("weight") + dimensions + struct.pack("<IQ", kind, offset)


def aligned(content: bytes, alignment: int = 32) -> bytes:
    return content + bytes(-len(content) % alignment)


def read(tmp_path: Path, content: bytes) -> GgufHeader:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return read_header(path)


def test_the_header_says_what_the_model_is(tmp_path: Path) -> None:
    assert read(tmp_path, gguf(LLAMA)) == GgufHeader("llama", 8192, 30, 3, 64, 64)


def test_arrays_and_values_of_every_type_are_passed_over(tmp_path: Path) -> None:
    values = {
        "tokenizer.ggml.tokens": ["a", "", "longer"],
        "tokenizer.ggml.token_type": [1, 2, 3],
        "general.is_good": True,
        "llama.rope.freq_base": 1e5,
        **LLAMA,
    }
    assert read(tmp_path, gguf(values)).context_tokens == 8192


def test_the_length_of_a_head_may_be_stated(tmp_path: Path) -> None:
    values = {**LLAMA, "llama.attention.key_length": 256, "llama.attention.value_length": 128}
    header = read(tmp_path, gguf(values))
    assert (header.key_length, header.value_length) == (256, 128)


def test_where_kv_heads_differ_by_layer_all_heads_are_the_bound(tmp_path: Path) -> None:
    header = read(tmp_path, gguf({**LLAMA, "llama.attention.head_count_kv": [3, 1]}))
    assert header.n_kv_heads == 9


def test_the_real_model_is_read(smollm2: Path) -> None:
    assert read_header(smollm2) == GgufHeader("llama", 8192, 30, 3, 64, 64)


def test_a_file_that_is_cut_off_anywhere_is_a_config_error(tmp_path: Path) -> None:
    whole = gguf({**LLAMA, "tokenizer.ggml.tokens": ["a", "b"], "llama.last": 1})
    for n_bytes in range(len(whole)):
        with pytest.raises(ConfigError, match="no usable GGUF model"):
            read(tmp_path, whole[:n_bytes])


@pytest.mark.parametrize(("kind", "n_bytes"), [(0, 256 * 4), (3, 160), (12, 144), (99, 0)], ids=str)
def test_a_file_without_the_end_of_its_last_tensor_is_cut_off(
    kind: int, n_bytes: int, tmp_path: Path
) -> None:
    tensors = [tensor((8,), 0, 64), tensor((128, 2), kind, 96)]
    whole = aligned(gguf(LLAMA, tensors=tensors)) + bytes(96 + n_bytes)
    assert read(tmp_path, whole).architecture == "llama"
    with pytest.raises(ConfigError, match=f"cut off, and should have {len(whole):,} bytes"):
        read(tmp_path, whole[:-1])


def test_tensors_begin_where_the_file_aligns_them(tmp_path: Path) -> None:
    values = {**LLAMA, "general.alignment": 4096}
    whole = aligned(gguf(values, tensors=[tensor((8,), 0, 0)]), 4096) + bytes(32)
    read(tmp_path, whole)
    with pytest.raises(ConfigError, match=f"{len(whole):,} bytes"):
        read(tmp_path, whole[:-1])


def test_the_real_model_is_cut_off_by_one_byte(smollm2: Path, tmp_path: Path) -> None:
    n_bytes = smollm2.stat().st_size
    shorter = tmp_path / "model.gguf"
    with smollm2.open("rb") as file:
        shorter.write_bytes(file.read(4 << 20))
    os.truncate(shorter, n_bytes - 1)  # a hole: the size counts, and nothing is read there
    with pytest.raises(ConfigError, match=f"{n_bytes:,} bytes"):
        read_header(shorter)
    os.truncate(shorter, n_bytes)
    assert read_header(shorter).context_tokens == 8192


@pytest.mark.parametrize("missing", sorted(LLAMA.keys() - {"llama.attention.head_count_kv"}))
def test_a_value_that_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    values = {key: value for key, value in LLAMA.items() if key != missing}
    named = "architecture" if missing == "general.architecture" else missing
    with pytest.raises(ConfigError, match=named):
        read(tmp_path, gguf(values))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04" + bytes(60), "does not begin with 'GGUF'"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version is 50331648"),
        (gguf({}, version=1), "version is 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60), "a string of"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + packed("a") + struct.pack("<I", 77),
            "unknown type 77",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + packed("a") + struct.pack("<IIQ", 9, 9, 1),
            "array of the unknown type 9",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + packed("a")
            + struct.pack("<IIQ", 9, 10, 1 << 62),
            "longer than",
        ),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "tensors"),
        (gguf(LLAMA, tensors=[tensor((1,) * 5, 0, 0)]), "5 dimensions"),
        (gguf({**LLAMA, "llama.context_length": 0}), "context_length"),
        (gguf({**LLAMA, "llama.context_length": "long"}), "context_length"),
        (gguf({**LLAMA, "general.architecture": 3}), "architecture"),
        (gguf({**LLAMA, "llama.embedding_length": 4}), "key_length"),
    ],
)
def test_a_foreign_or_damaged_file_is_a_config_error_with_a_sentence(
    content: bytes, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read(tmp_path, content)


def test_a_missing_file_is_a_config_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.gguf' cannot be read"):
        read_header(tmp_path / "absent.gguf")


def test_a_machine_that_is_short_of_something_is_no_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENFILE, "Too many open files in system")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EngineStartError, match=r"m\.gguf' cannot be read: .*open files in system"):
        read_header(tmp_path / "m.gguf")


VOCABULARY: Mapping[str, Any] = {
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "<think>", "<0x0A>", "word", "<unused0>"],
    "tokenizer.ggml.token_type": [2, 3, 4, 6, 1, 5],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 99,
    "tokenizer.chat_template": "{{ messages }}",
}


def test_the_vocabulary_says_which_tokens_are_no_pieces_of_text(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf({**VOCABULARY, **LLAMA}))
    found = read_vocabulary(path)
    assert found.chat_template == "{{ messages }}"
    assert found.named_tokens == {"bos_token": "<s>"}  # an id that there is not names nothing
    assert list(found.tokens) == [
        AddedToken("<unk>", 0, is_special=True, is_unknown=True),
        AddedToken("<s>", 1, is_special=True),
        AddedToken("<think>", 2, is_special=False),
        AddedToken("<unused0>", 5, is_special=False),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"tokenizer.ggml.tokens": ["a"]},
        {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": [1, 1]},
        {"tokenizer.ggml.tokens": "a", "tokenizer.ggml.token_type": [1]},
    ],
)
def test_a_vocabulary_that_does_not_tell_commands_from_text_is_a_config_error(
    values: Mapping[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf({**LLAMA, **values}))
    with pytest.raises(ConfigError, match="which of its tokens are control tokens"):
        read_vocabulary(path)
