"""Read what a user wants to serve, ``app.py:chain`` or ``package.module:app``; load nothing.

So that a name which leads nowhere is told before anything is said to be served.
"""

import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from locktender.core.errors import ConfigError

__all__ = ["TargetName", "parse_target"]


class TargetName(NamedTuple):
    """What of which module."""

    place: str  # a file, or a module's name
    name: str

    @property
    def file(self) -> Path | None:
        """The file, if one is named."""
        return Path(self.place) if self.place.endswith(".py") else None


def parse_target(text: str) -> TargetName:
    """Return what `text` names.  Raises: ConfigError, also if there is no such file or package."""
    place, colon, name = text.rpartition(":")
    if not (colon and place and name.isidentifier()):
        message = f"Name what to serve as 'app.py:chain' or 'package.module:app', not {text!r}."
        raise ConfigError(message)
    target = TargetName(place, name)
    if target.file and not target.file.is_file():
        message = f"There is no file {place!r}."
        raise ConfigError(message)
    if not target.file and not _is_there(place.partition(".")[0]):
        raise ConfigError(f"There is no module {place!r} here or in this environment.")
    return target


def _is_there(package: str) -> bool:
    try:
        here = PathFinder.find_spec(package, [str(Path.cwd())])
        return bool(here or importlib.util.find_spec(package))
    except (ImportError, ValueError):  # It can be no package's name.
        return False
