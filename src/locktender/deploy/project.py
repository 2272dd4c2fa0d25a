"""Write a small project that runs.

The project is the folder `template` beside this module, with the project's name in it.  It is
written whole or not at all, and never over anything: it is made under a name of its own beside
its place, and put there by one rename.  The template's files are files of a user, not modules of
ours: nobody imports them.
"""

import re
import tempfile
from importlib import resources
from pathlib import Path

from locktender.core.errors import ConfigError

__all__ = ["write_project"]

MAX_NAME_LENGTH = 64
# Words of letters and digits, joined by one `-` or `_`: what a folder, a Python distribution and,
# in lower case, an image may all be called.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*")


def write_project(name: str, parent: Path) -> Path:
    """Write the project `name` into a new or empty folder below `parent`, and return the folder.

    Raises: ConfigError if the name is none for a project, or something is there already.
    """
    if not NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise ConfigError(
            f"A project cannot be called {name!r}: begin with a letter and go on with at most "
            f"{MAX_NAME_LENGTH - 1} letters and digits, with single '-' or '_' between them."
        )
    folder = parent / name
    try:
        _refuse_taken(folder)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=parent) as workshop:
            made = Path(workshop) / name
            made.mkdir()  # with the rights that the user's own folders get
            _fill(made, name)
            made.rename(folder)  # which fails if somebody has put something there meanwhile
    except OSError as error:
        raise ConfigError(f"The folder {name!r} cannot be written: {error.strerror}.") from error
    return folder


def _refuse_taken(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise ConfigError(f"The folder {folder.name!r} is not empty: choose another name.")
    elif folder.exists() or folder.is_symlink():
        raise ConfigError(f"There is a file {folder.name!r} already: choose another name.")


def _fill(folder: Path, name: str) -> None:
    placeholders = {"PROJECT_NAME": name, "IMAGE_NAME": name.lower()}
    for file in (resources.files(__package__) / "template").iterdir():
        if not file.is_file():
            continue  # pip compiles what it installs, into a folder of its own
        text = file.read_text(encoding="utf-8")
        for placeholder, value in placeholders.items():
            text = text.replace(placeholder, value)
        (folder / file.name).write_text(text, encoding="utf-8")
