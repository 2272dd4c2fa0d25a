"""Hold the key that the processes of one deployment share, and make it where there is none.

`LOCKTENDER_SHARED_KEY` wins.  Else it lies in the user's state folder, so that the processes of one
user on one host have it without a word: whoever comes first makes it, and those who come at the
same moment agree on one.  Where there is no such place (a read-only home, a file system without
links) there is no key: nothing is signed then, and nothing is believed.

Standard library only; a client without a server signs too.
"""

import contextlib
import logging
import os
import secrets
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from locktender.core.errors import ConfigError

__all__ = ["read_shared_key"]

_log = logging.getLogger(__name__)

_VARIABLE = "LOCKTENDER_SHARED_KEY"
_MIN_CHARACTERS = 16  # of a key that somebody chose
_FILE_NAME = "shared.key"
_N_BYTES = 32
_MAX_READ_BYTES = 1024  # of a file that is not ours it is enough to see that
# A link could have been put there by somebody else.
_READ_ONLY = os.O_RDONLY if sys.platform == "win32" else os.O_RDONLY | os.O_NOFOLLOW
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


def read_shared_key(environment: Mapping[str, str] = os.environ) -> bytes | None:
    """Return the key, made if it was not there; None where there is no place for it.

    Raises: ConfigError if the one in the environment is too short to be a secret.
    """
    chosen = environment.get(_VARIABLE)
    if chosen:
        if len(chosen) < _MIN_CHARACTERS:
            message = (
                f"`{_VARIABLE}` must have at least {_MIN_CHARACTERS} characters; "
                "`openssl rand -hex 32` makes a good one."
            )
            raise ConfigError(message)
        return chosen.encode("utf-8", "surrogateescape")
    try:
        path = _state_folder(environment) / _FILE_NAME
        return _read(path) or _made(path)
    except _NotBelievedError as error:
        _log.warning("%s", error)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        _log.info("no shared key can be kept: %s", error)
    return None


class _NotBelievedError(Exception):
    """A key that somebody else may know, or may have put there."""


def _state_folder(environment: Mapping[str, str]) -> Path:
    """Return where the platform wants a program's state.

    XDG Base Directory Specification 0.8; Apple's File System Programming Guide; Windows' known
    folder FOLDERID_LocalAppData.
    """
    named = environment.get("XDG_STATE_HOME", "")
    if Path(named).is_absolute():  # others are to be ignored
        return Path(named) / "locktender"
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "locktender"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/locktender"
    return Path.home() / ".local/state/locktender"


def _read(path: Path) -> bytes | None:
    """Return the key in the file; None if there is no file.  Raises: _NotBelievedError, OSError."""
    try:
        descriptor = os.open(path, _READ_ONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        _believe(path, os.fstat(descriptor), _OTHERS_MAY)
        _believe(path.parent, path.parent.stat(), _OTHERS_MAY_WRITE)
        key = file.read(_MAX_READ_BYTES)
    if len(key) != 2 * _N_BYTES:
        message = f"{path} holds no key of locktender's; remove it, and a new one is made."
        raise _NotBelievedError(message)
    return key


def _believe(path: Path, status: os.stat_result, denied: int) -> None:
    if sys.platform == "win32":  # The folder is the user's own, by its access control list.
        return
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & denied:
        message = (
            f"{path} may be read or changed by others, so the shared key is not used; "
            f"its owner must be you, and its mode {'700' if path.is_dir() else '600'}."
        )
        raise _NotBelievedError(message)


def _made(path: Path) -> bytes | None:
    """Make the key; or return the one of whoever was quicker.  Raises: as `_read`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_hex(_N_BYTES).encode()
    # Whole before it has its name, so that nobody reads half of it.
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a renaming, it replaces nobody's
    finally:
        draft.unlink(missing_ok=True)
    return _read(path)
