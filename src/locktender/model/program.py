"""Run a program of somebody else's to its end, and let it never outlive whoever asked.

The program cannot ask anything: its input is closed, and it has no terminal.  Its words go to a
file, so that it never waits for a reader.  It ends when it is done, at the time-out, at Ctrl-C
and at SIGTERM; only SIGKILL leaves it behind, and then it ends by itself.

What is run, and what it means, is known above: by `wheel`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

from locktender.core.errors import ConfigError

__all__ = ["run_program"]

POLL_S = 0.1  # from one `on_poll` to the next
GRACE_S = 5.0  # from SIGTERM to SIGKILL


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    timeout_s: float,
    on_poll: Callable[[], None],
) -> int:
    """Run `command`, calling `on_poll` now and then, and return its exit status.

    SIGTERM is only seen in the main thread, and where the caller has no handler for it.

    Raises: ConfigError, if it cannot be started or takes longer than `timeout_s`.
    """
    with (
        _exit_on_sigterm(),
        log.open("wb") as output,
        _running(command, environment, output) as process,
    ):
        status = _watch(process, timeout_s=timeout_s, on_poll=on_poll)
        if status is None:
            message = (
                f"The program {command[0]!r} took longer than {timeout_s:.0f} s and was ended."
            )
            raise ConfigError(message)
        return status


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Make SIGTERM unwind the stack, as Ctrl-C does, where it would just end the process."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)  # what a shell shows for a program that a signal ended


@contextlib.contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # no terminal to ask at, and one group to end it by
        )
    except OSError as error:
        message = f"The program {command[0]!r} cannot be run: {error.strerror}."
        raise ConfigError(message) from error
    try:
        yield process
    finally:
        _end(process)


def _watch(
    process: subprocess.Popen[bytes], *, timeout_s: float, on_poll: Callable[[], None]
) -> int | None:
    """Wait for the program's end and return its exit status, or None if it takes too long."""
    ends_at = time.monotonic() + timeout_s
    while True:
        try:
            return process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() >= ends_at:
                return None
            on_poll()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it started, if it still runs."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
