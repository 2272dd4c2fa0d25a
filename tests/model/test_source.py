"""What a user writes as a model's source is found, or refused with what would work."""

import re
from pathlib import Path

import pytest

from locktender.core.errors import ConfigError
from locktender.model.catalogue import KNOWN_MODELS
from locktender.model.checksum import remember_sha256
from locktender.model.source import is_folder, locate, locate_folder, require_known

SMOLLM2 = KNOWN_MODELS[0]


def test_a_gguf_file_is_located_by_its_path_whatever_its_name(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"GGUF" + bytes(8))
    assert locate(str(file), tmp_path) == file


def test_a_relative_path_becomes_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    assert locate("a.gguf", tmp_path) == tmp_path / "a.gguf"


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/a.gguf", tmp_path) == tmp_path / "a.gguf"


def test_a_known_name_is_found_in_the_cache(tmp_path: Path) -> None:
    cached = _put_into_cache(tmp_path)
    assert locate("smollm2", tmp_path) == cached
    assert locate("smollm2-135m-instruct", tmp_path, pull_missing=True) == cached


def test_a_known_name_goes_before_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smollm2").write_bytes(b"GGUF")
    cached = _put_into_cache(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert locate("smollm2", tmp_path) == cached
    assert locate("./smollm2", tmp_path) == tmp_path / "smollm2"


def test_a_known_model_that_is_not_there_is_named_with_the_command_that_fetches_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"run 'locktender models pull smollm2'"):
        locate("smollm2-135m-instruct", tmp_path)


def test_weights_that_are_not_the_ones_meant_are_named_with_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    path = _put_into_cache(tmp_path, is_checked=False)
    with pytest.raises(ConfigError) as caught:
        locate("smollm2", tmp_path)
    assert caught.value.message == (
        f"The weights of smollm2-135m-instruct in '{path}' are damaged: "
        "run 'locktender models pull smollm2'."
    )


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "There is no known model and no file ''"),
        ("gpt-9", "There is no known model and no file 'gpt-9'"),
        ("absent/a.gguf", "There is no known model and no file 'absent/a.gguf'"),
        ("~nobody-of-that-name/a/b", "There is no known model and no file"),
        (".", "is a folder, which the engine transformers reads"),
        ("org/Model-1.7B", "models of a hub are not supported yet"),
        ("hf:org/Model-1.7B", "models of a hub are not supported yet"),
    ],
)
def test_any_other_source_is_refused_with_what_would_work(
    source: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    works = r"use a known name \(smollm2\) or the path of a GGUF file\."
    with pytest.raises(ConfigError, match=f"{re.escape(why)}.*: {works}"):
        locate(source, tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGU", b"version https://git-lfs"])
def test_a_file_that_is_no_gguf_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.gguf' is not a GGUF file"):
        locate(str(file), tmp_path)


def test_a_folder_is_located_wherever_the_engine_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert is_folder("model")
    assert locate_folder("./model") == tmp_path / "model"


@pytest.mark.parametrize("source", ["", "absent", "empty"])
def test_a_folder_without_a_model_is_refused(source: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"is no folder of a Hugging Face model"):
        locate_folder(str(tmp_path / source) if source else "")


def test_a_known_name_is_no_folder_even_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smollm2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_folder("smollm2")
    assert is_folder("./smollm2")


def test_only_a_known_name_is_required_with_success() -> None:
    assert require_known("smollm2") is SMOLLM2
    with pytest.raises(ConfigError, match=r"no known model 'gpt-9': the known ones are smollm2\."):
        require_known("gpt-9")


def _put_into_cache(root: Path, *, is_checked: bool = True) -> Path:
    """Put a file of the right size where the weights belong; checked, it is taken for them."""
    folder = root / "models" / f"{SMOLLM2.name}-{SMOLLM2.sha256[:12]}"
    folder.mkdir(parents=True)
    path = folder / SMOLLM2.file_name
    with path.open("wb") as file:
        file.truncate(SMOLLM2.n_bytes)  # sparse: it takes no room on the disk
    if is_checked:
        remember_sha256(path, SMOLLM2.sha256)
    return path
