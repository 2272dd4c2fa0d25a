"""Say whether a file has its SHA-256, hashing it only if it has changed.

What was found is remembered in a note beside the file, with the file's size, time of change and
inode: as long as these are the same, the next start costs a look at them.  A file that was damaged
in place, cut off, or put there by somebody else differs in one of them, and is hashed.

Above it, `weights` says which file and which hash.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

__all__ = ["has_sha256", "remember_sha256"]

_NOTE_SUFFIX = ".checked"


def has_sha256(path: Path, sha256: str) -> bool:
    """Return whether the contents of `path` have this hash.  Raises: OSError."""
    before = _describe(path, sha256)
    if _read(_note_of(path)) == before:
        return True
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256 or _describe(path, sha256) != before:
        return False
    _remember(path, before)
    return True


def remember_sha256(path: Path, sha256: str) -> None:
    """Note that the contents of `path`, as it is now, were found to have this hash."""
    _remember(path, _describe(path, sha256))


def _remember(path: Path, description: str) -> None:
    with contextlib.suppress(OSError):  # A cache that may only be read: it is hashed each time.
        _write(_note_of(path), description)


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + _NOTE_SUFFIX)


def _describe(path: Path, sha256: str) -> str:
    found = path.stat()
    known = {
        "sha256": sha256,
        "n_bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "inode": found.st_ino,
    }
    return json.dumps(known)


def _read(note: Path) -> str | None:
    try:
        return note.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write(note: Path, text: str) -> None:
    """Write `note` at once or not at all."""
    descriptor, name = tempfile.mkstemp(dir=note.parent, prefix=note.name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(note)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
