import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from locktender.model.checksum import has_sha256, remember_sha256

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count what is hashed."""
    found: list[str] = []
    digest = hashlib.file_digest

    def counted(file: Any, kind: str) -> Any:
        found.append(kind)
        return digest(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return found


def test_a_file_is_hashed_once_and_then_known_by_its_looks(file: Path, hashed: list[str]) -> None:
    assert has_sha256(file, SHA256)
    assert has_sha256(file, SHA256)
    assert len(hashed) == 1


def test_what_was_found_elsewhere_is_remembered(file: Path, hashed: list[str]) -> None:
    remember_sha256(file, SHA256)
    assert has_sha256(file, SHA256)
    assert hashed == []


def test_noise_of_the_right_size_is_found_out(file: Path) -> None:
    assert has_sha256(file, SHA256)
    file.write_bytes(os.urandom(len(CONTENT)))
    assert not has_sha256(file, SHA256)
    assert not has_sha256(file, SHA256)


def test_noise_under_the_old_time_of_change_is_found_out_by_its_inode(file: Path) -> None:
    assert has_sha256(file, SHA256)
    other = file.with_name("other")
    other.write_bytes(os.urandom(len(CONTENT)))
    found = file.stat()
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(file)
    assert not has_sha256(file, SHA256)


def test_a_file_that_only_looks_changed_is_hashed_again_and_known_again(
    file: Path, hashed: list[str]
) -> None:
    assert has_sha256(file, SHA256)
    os.utime(file, ns=(1, 1))
    assert has_sha256(file, SHA256)
    assert has_sha256(file, SHA256)
    assert len(hashed) == 2


def test_another_hash_is_another_question(file: Path) -> None:
    assert has_sha256(file, SHA256)
    assert not has_sha256(file, hashlib.sha256(b"").hexdigest())


@pytest.mark.parametrize("note", [b"", b"{", b"\xff", b'{"sha256": 1}'])
def test_a_damaged_note_is_none(file: Path, note: bytes, hashed: list[str]) -> None:
    assert has_sha256(file, SHA256)
    (written,) = file.parent.glob("*.checked")
    written.write_bytes(note)
    assert has_sha256(file, SHA256)
    assert len(hashed) == 2


def test_where_no_note_can_be_written_the_file_is_hashed_each_time(
    file: Path, hashed: list[str]
) -> None:
    file.with_name(file.name + ".checked").mkdir()  # for a root user, a folder's mode is no bar
    assert has_sha256(file, SHA256)
    assert has_sha256(file, SHA256)
    assert len(hashed) == 2
    assert len(list(file.parent.iterdir())) == 2


def test_a_file_that_is_not_there_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        has_sha256(tmp_path / "none", SHA256)
