"""What a user wants to serve is looked for before anything is loaded."""

from pathlib import Path

import pytest

from locktender.core.errors import ConfigError
from locktender.deploy.target_name import parse_target


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with what can be served, if it may be loaded."""
    (tmp_path / "app.py").write_text("raise RuntimeError")
    (tmp_path / "package").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_and_modules_here_and_elsewhere_are_found(folder: Path) -> None:
    for place in ("app.py", f"{folder}/app.py"):
        assert parse_target(f"{place}:chain") == (place, "chain")
        assert parse_target(f"{place}:chain").file == Path(place)
    for place in ("app", "package.module", "json.tool", "locktender.app.demo"):
        assert parse_target(f"{place}:chain") == (place, "chain")
        assert parse_target(f"{place}:chain").file is None


@pytest.mark.parametrize("text", ["", "app.py", ":app", "app.py:", "app.py:a b", "app.py:a.b"])
def test_what_is_no_name_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"Name what to serve as 'app\.py:chain'"):
        parse_target(text)


@pytest.mark.parametrize(
    "place", ["package.py", "other.py", "nowhere", "nowhere.app", "..app", "/"]
)
def test_what_is_not_there_is_named(place: str) -> None:
    with pytest.raises(ConfigError, match="There is no "):
        parse_target(f"{place}:app")
