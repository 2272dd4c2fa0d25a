"""The key that the processes of one deployment share: made once, and read by them alone."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from locktender.app.shared_key import read_shared_key
from locktender.core.errors import ConfigError

N_PROCESSES = 8
READ = """
import sys
from locktender.app.shared_key import read_shared_key
sys.stdin.readline()  # until all are there
print(read_shared_key().decode())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "locktender" / "shared.key"


def test_the_first_makes_it_for_its_user_alone_and_the_next_reads_it(
    environment: dict[str, str], path: Path
) -> None:
    key = read_shared_key(environment)
    assert key
    assert len(bytes.fromhex(key.decode())) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_shared_key(environment) == key
    assert [each.name for each in path.parent.iterdir()] == ["shared.key"]


def test_processes_that_begin_together_agree(environment: dict[str, str], path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", READ],
            env={**os.environ, **environment, "LOCKTENDER_SHARED_KEY": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(N_PROCESSES)
    ]
    keys = {process.communicate("now\n", timeout=30)[0] for process in processes}
    assert keys == {path.read_text() + "\n"}
    assert [each.name for each in path.parent.iterdir()] == ["shared.key"]


def test_the_setting_wins_and_leaves_no_file(environment: dict[str, str], path: Path) -> None:
    chosen = "a key for several hosts"
    assert read_shared_key({**environment, "LOCKTENDER_SHARED_KEY": chosen}) == chosen.encode()
    assert not path.exists()


def test_a_setting_that_anybody_could_guess_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="at least 16 characters; `openssl rand -hex 32`"):
        read_shared_key({**environment, "LOCKTENDER_SHARED_KEY": "secret"})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.chmod(0o640), "its mode 600"),
        (lambda path: path.parent.chmod(0o770), "its mode 700"),
        (lambda path: path.write_text("short"), "holds no key of locktender's; remove it"),
        (lambda path: path.write_text("x" * 5000), "holds no key of locktender's; remove it"),
    ],
)
def test_a_key_that_others_may_know_or_have_put_there_is_not_used_and_that_is_said(
    environment: dict[str, str],
    path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], object],
    said: str,
) -> None:
    read_shared_key(environment)
    spoil(path)
    with caplog.at_level(logging.WARNING):
        assert read_shared_key(environment) is None
    assert said in caplog.text


def test_a_link_is_not_followed(environment: dict[str, str], path: Path) -> None:
    read_shared_key(environment)
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    assert read_shared_key(environment) is None


def test_where_nothing_can_be_kept_there_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_shared_key({"XDG_STATE_HOME": str(tmp_path / "file" / "state")}) is None


@pytest.mark.skipif(sys.platform != "linux", reason="each platform has a place of its own")
def test_without_a_setting_it_lies_where_the_platform_keeps_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}):
        assert read_shared_key(ignored)
    assert (tmp_path / ".local/state/locktender/shared.key").is_file()
