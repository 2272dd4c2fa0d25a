"""``locktender new``: what is printed, and how a mistake ends."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from locktender.cli_new import new_project
from locktender.core.errors import ConfigError


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """Give the command alone, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(new_project)
    return app


def test_the_project_is_written_here_and_the_next_command_is_shown(
    app: typer.Typer, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["chat"])
    assert result.exit_code == 0
    assert "  cd chat && locktender serve app.py:chain\n" in result.stdout
    assert (tmp_path / "chat" / "app.py").is_file()


def test_a_name_that_is_taken_is_a_mistake_of_the_configuration(app: typer.Typer) -> None:
    CliRunner().invoke(app, ["chat"])
    result = CliRunner().invoke(app, ["chat"])
    assert isinstance(result.exception, ConfigError)  # for which `cli.main` has the exit code
    assert result.output == ""
