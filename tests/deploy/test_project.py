"""The project that is written: it is whole, its own tests pass, and it answers on a real model."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from locktender.config import Settings, read_settings
from locktender.core.errors import ConfigError
from locktender.deploy.project import write_project
from locktender.model.settings import ModelSettings

FILES = {
    ".dockerignore",
    "Dockerfile",
    "README.md",
    "app.py",
    "locktender.toml",
    "requirements.txt",
    "test_app.py",
}
END_S = 20.0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a new project."""
    return write_project("My-project", tmp_path)


@pytest.fixture
def serving(
    project: Path,
    smollm2: Path,  # noqa: ARG001 - pulled before the service starts
) -> Iterator[subprocess.Popen[str]]:
    """Serve the project's chain with the real model; whatever is left of it ends with the test."""
    locktender = str(Path(sys.executable).with_name("locktender"))
    arguments = ("serve", "app.py:chain", "--model", "smollm2", "--port", "0", "--model-port", "0")
    with subprocess.Popen(
        [locktender, *arguments, "--log", "events.jsonl"],
        cwd=project,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_all_files_are_there_and_nothing_else_is(project: Path, tmp_path: Path) -> None:
    assert {path.name for path in project.iterdir()} == FILES
    assert list(tmp_path.iterdir()) == [project]


def test_the_readme_has_the_projects_name_and_the_image_a_name_it_may_have(project: Path) -> None:
    readme = (project / "README.md").read_text()
    assert readme.startswith("# My-project\n")
    assert "docker build -t my-project ." in readme
    assert len(readme.splitlines()) < 40


def test_no_placeholder_is_left(project: Path) -> None:
    texts = [path.read_text() for path in project.iterdir()]
    assert not [text for text in texts if "_NAME" in text]


def test_an_image_is_given_each_file_that_it_copies_and_no_other(project: Path) -> None:
    lines = (project / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    ignored = (project / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert copied == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert copied < FILES


def test_its_settings_are_the_defaults_spelt_out(project: Path) -> None:
    settings = read_settings(project / "locktender.toml")
    assert settings.model_copy(update={"models": {}}).model_dump() == Settings().model_dump()
    options = (("preset", "exact"),)  # the engine's own default
    assert settings.model("smollm2") == ModelSettings("smollm2", "smollm2", options=options)


def test_a_folder_of_the_user_has_the_rights_that_the_user_gives(
    project: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    assert project.stat().st_mode == (tmp_path / "own").stat().st_mode


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    folder = write_project("here", tmp_path)
    assert {path.name for path in folder.iterdir()} == FILES


def test_a_folder_with_something_in_it_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "app.py").write_text("mine")
    with pytest.raises(ConfigError, match=r"The folder 'here' is not empty: choose another name\."):
        write_project("here", tmp_path)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_a_file_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("mine")
    with pytest.raises(ConfigError, match=r"There is a file 'here' already: choose another name\."):
        write_project("here", tmp_path)
    assert (tmp_path / "here").read_text() == "mine"


def test_a_place_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'x' cannot be written: No such file or directory\."):
        write_project("x", tmp_path / "gone")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../a", "-a", "_a", "1a", "a b", "a.b", "a--b", "a-", "ä", "a\n"],
)
def test_a_name_that_is_none_for_a_project_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="A project cannot be called"):
        write_project(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "chat-bot", "chat_bot2", "ChatBot", "a" * 64])
def test_a_sensible_name_is_taken(tmp_path: Path, name: str) -> None:
    assert write_project(name, tmp_path) == tmp_path / name


def test_a_name_of_more_than_64_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 63 letters"):
        write_project("a" * 65, tmp_path)


def test_its_own_tests_pass_without_a_server_and_weights(project: Path, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:langsmith_plugin"],
        capture_output=True,
        check=False,
        cwd=project,
        # Neither the weights' folder nor a model service is to be found.
        env={
            "LOCKTENDER_CACHE": str(tmp_path / "none"),
            "LOCKTENDER_BASE_URL": "http://127.0.0.1:9",
        },
        text=True,
        timeout=100,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "4 passed" in finished.stdout


def test_it_is_served_answers_and_ends_with_all_its_processes(
    serving: subprocess.Popen[str],
) -> None:
    assert serving.stdout
    greeting = serving.stdout.readline()
    assert greeting.startswith(
        "locktender serves app.py:chain, to this machine only, at http://127.0.0.1:"
    )
    body = {"input": {"question": "What is the capital of France?"}}
    answer = httpx.post(f"{greeting.split()[-1]}/chain/invoke", json=body, timeout=100)
    assert "Paris" in answer.json()["output"]

    children = psutil.Process(serving.pid).children(recursive=True)
    assert len(children) == 2  # the app's worker and the engine
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(END_S) == 0
    _, left = psutil.wait_procs(children, timeout=END_S)
    assert left == []
