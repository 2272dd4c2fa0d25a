"""A program of somebody else's ends when it is done, and when whoever asked for it goes away."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness.ending import still_running
from locktender.core.errors import ConfigError
from locktender.model import program
from locktender.model.program import run_program

ENDLESS = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {ENDLESS}"
PARENT = (
    "import subprocess, sys, signal\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
    "print(child.pid, flush=True)\n"
    "signal.pause()\n"
)


def test_the_exit_status_is_returned_and_the_words_are_in_the_log(tmp_path: Path) -> None:
    source = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert _run(source, tmp_path / "log") == 3
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


def test_the_program_has_no_input_to_wait_for(tmp_path: Path) -> None:
    caller = (
        "import os, pathlib, sys\n"
        "from locktender.model.program import run_program\n"
        "command = [sys.executable, '-c', 'import sys; sys.exit(len(sys.stdin.read()))']\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "sys.exit(run_program(command, os.environ, log, timeout_s=60, on_poll=lambda: None))\n"
    )
    command = [sys.executable, "-c", caller]
    finished = subprocess.run(command, check=False, input=b"of its caller", timeout=60)
    assert finished.returncode == 0


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"'.*absent' cannot be run: No such file"):
        run_program([absent], os.environ, tmp_path / "log", timeout_s=60, on_poll=_nothing)


@pytest.mark.parametrize("source", [ENDLESS, STUBBORN, PARENT])
def test_a_caller_that_is_interrupted_leaves_no_program_behind(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_S", 0.1)
    log = tmp_path / "log"

    def interrupt_once_it_runs() -> None:
        if log.read_text().endswith("\n"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(source, log, on_poll=interrupt_once_it_runs)
    _assert_gone(int(log.read_text()))


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"took longer than 0 s and was ended"):
        _run(ENDLESS, tmp_path / "log", timeout_s=0)


def test_sigterm_ends_the_program_and_then_its_caller(tmp_path: Path) -> None:
    log = tmp_path / "log"
    caller = (
        "import os, pathlib, signal, sys\n"
        "from locktender.model.program import run_program\n"
        f"log = pathlib.Path({str(log)!r})\n"
        "def terminate():\n"
        "    if log.read_text().endswith('\\n'):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        f"command = [sys.executable, '-c', {ENDLESS!r}]\n"
        "run_program(command, os.environ, log, timeout_s=60, on_poll=terminate)\n"
    )
    finished = subprocess.run([sys.executable, "-c", caller], check=False, timeout=60)
    assert finished.returncode == 128 + signal.SIGTERM
    _assert_gone(int(log.read_text()))


def test_a_callers_own_answer_to_sigterm_is_left_alone(tmp_path: Path) -> None:
    def own(_number: int, _frame: object) -> None:
        """Stand for a server's graceful stop."""

    log = tmp_path / "log"
    seen = []

    def look_and_end_it() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))
        if log.read_text().endswith("\n"):
            os.kill(int(log.read_text()), signal.SIGKILL)

    before = signal.signal(signal.SIGTERM, own)
    try:
        assert _run(ENDLESS, log, on_poll=look_and_end_it) == -signal.SIGKILL
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(seen) == {own}


def test_the_systems_answer_to_sigterm_is_put_back(tmp_path: Path) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    _run("", tmp_path / "log")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _nothing() -> None:
    pass


def _run(
    source: str, log: Path, *, timeout_s: float = 60, on_poll: Callable[[], None] = _nothing
) -> int:
    command = [sys.executable, "-c", source]
    return run_program(command, os.environ, log, timeout_s=timeout_s, on_poll=on_poll)


def _assert_gone(pid: int) -> None:
    """Wait for the end of a process that is not ours to collect."""
    with contextlib.suppress(psutil.NoSuchProcess):
        assert not still_running([psutil.Process(pid)], within_s=10)
