"""What a user means by a model's `source`: a known name, a GGUF file, or a Hugging Face folder.

A name is looked up before a path, so that a file that happens to lie in the working directory
changes nothing; ``./name`` is always a path.  Which engine reads a source is told by what it is.
Hubs are told apart, only to be refused with a sentence that says what would work.

Below it, `weights` keeps and fetches the files of known models.
"""

import contextlib
import re
from pathlib import Path

from locktender.core.errors import ConfigError
from locktender.model.catalogue import KNOWN_MODELS, KnownModel, find_known
from locktender.model.weights import OnProgress, find_cached, find_damaged, ignore_progress, pull

__all__ = ["is_folder", "locate", "locate_folder", "require_known"]

MAGIC = b"GGUF"
_CONFIG = "config.json"  # in every folder that transformers can load


def require_known(name: str) -> KnownModel:
    """Return the known model of that name or alias.  Raises: ConfigError."""
    model = find_known(name)
    if model is None:
        message = f"There is no known model {name!r}: the known ones are {_known_names()}."
        raise ConfigError(message)
    return model


def locate(
    source: str,
    root: Path,
    *,
    pull_missing: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Path:
    """Return the file that `source` means; known models are kept under `root`.

    Raises: ConfigError, which says what would work.
    """
    model = find_known(source)
    if model is None:
        return _locate_file(source)
    if pull_missing:
        return pull(model, root, on_progress=on_progress)
    path = find_cached(model, root)
    if path is not None:
        return path
    damaged = find_damaged(model, root)
    why = f"in {str(damaged)!r} are damaged" if damaged else "are not on this machine yet"
    message = f"The weights of {model.name} {why}: run 'locktender models pull {model.alias}'."
    raise ConfigError(message)


def is_folder(source: str) -> bool:
    """Return whether `source` is no known name but a folder."""
    return bool(source) and find_known(source) is None and _path(source).is_dir()


def locate_folder(source: str) -> Path:
    """Return the Hugging Face folder that `source` means.  Raises: ConfigError."""
    path = _path(source)
    if not source or not (path / _CONFIG).is_file():
        message = (
            f"The source {source!r} is no folder of a Hugging Face model: it has no {_CONFIG}."
        )
        raise ConfigError(message)
    return path


def _path(source: str) -> Path:
    path = Path(source)
    with contextlib.suppress(RuntimeError):  # the home of an unknown user: then "~" is a name
        path = path.expanduser()
    return path.absolute()  # an engine process may have another working directory


def _locate_file(source: str) -> Path:
    path = _path(source)
    if path.is_file():
        return _checked_gguf(path)
    works = f"use a known name ({_known_names()}) or the path of a GGUF file"
    if source and path.is_dir():
        message = (
            f"The source {source!r} is a folder, which the engine transformers reads: {works}."
        )
    elif re.fullmatch(r"(hf:)?[\w-][\w.-]*/[\w.-]+", source) and not source.endswith(".gguf"):
        message = (
            f"There is no file {source!r}, and models of a hub are not supported yet: {works}."
        )
    else:
        message = f"There is no known model and no file {source!r}: {works}."
    raise ConfigError(message)


def _checked_gguf(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        message = f"The file {str(path)!r} cannot be read: {error.strerror}."
        raise ConfigError(message) from error
    if not is_gguf:
        message = f"The file {str(path)!r} is not a GGUF file, and no other kind is supported yet."
        raise ConfigError(message)
    return path


def _known_names() -> str:
    return ", ".join(model.alias for model in KNOWN_MODELS)
