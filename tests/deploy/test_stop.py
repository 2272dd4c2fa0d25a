"""Which signals stop a process, told by processes that get them."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

LISTENER = """
import asyncio
from locktender.deploy.stop import Stop


async def main():
    stop = Stop()
    asked = asyncio.create_task(stop.wait_asked())
    hurried = asyncio.create_task(stop.wait_hurried())
    loop = asyncio.get_running_loop()
    while True:  # A line comes after each signal.
        print("heard", flush=True)
        if await loop.run_in_executor(None, input) == "that was all":
            break
        for _ in range(10):
            await asyncio.sleep(0)  # What the signal has set off goes first.
    notice = asyncio.create_task(stop.wait_notice(0.1))
    _, waiting = await asyncio.wait([notice], timeout=0.02)
    await notice
    print(asked.done(), hurried.done(), bool(waiting))


asyncio.run(main())
"""
HUP, TERM, INT = signal.SIGHUP, signal.SIGTERM, signal.SIGINT
UNIT = {"INVOCATION_ID": "0"}


def heard(signals: Sequence[signal.Signals], way: str = "plain") -> tuple[bool, bool, bool]:
    """Send `signals` to a process; return whether it stops, hurries, and gives notice."""
    ours, theirs = pty.openpty()

    def prepare() -> None:
        os.setsid()
        if way == "nohup":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if way.startswith("terminal"):
            os.close(os.open(os.ttyname(theirs), os.O_RDWR))

    with subprocess.Popen(
        [sys.executable, "-c", LISTENER],
        env={**os.environ, **(UNIT if way.endswith("unit") else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - no thread of ours holds a lock
    ) as process:
        try:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "heard\n"
            for number in signals:
                process.send_signal(number)
                process.stdin.write("and\n")
                process.stdin.flush()
                assert process.stdout.readline() == "heard\n"
            told = process.communicate("that was all\n", timeout=30)[0].split()
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)
    asked, hurried, noticed = (word == "True" for word in told)
    return asked, hurried, noticed


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([], (False, False, False)),
        ([TERM], (True, False, True)),
        ([INT], (True, False, False)),  # Who presses Ctrl-C sees what he stops.
        ([HUP], (True, False, True)),
        ([TERM, INT], (True, True, False)),
        ([HUP, TERM], (True, True, False)),
        ([TERM, HUP], (True, False, True)),  # as systemd with SendSIGHUP=yes
    ],
)
def test_a_signal_asks_and_a_second_one_hurries(
    signals: Sequence[signal.Signals], expected: tuple[bool, bool, bool]
) -> None:
    assert heard(signals) == expected


@pytest.mark.parametrize(
    ("way", "is_heard"),
    [("nohup", False), ("unit", False), ("terminal of a unit", True)],
)
def test_a_hangup_is_heard_where_there_is_a_terminal_to_lose(way: str, *, is_heard: bool) -> None:
    assert heard([HUP], way)[0] is is_heard
    assert heard([HUP, TERM], way)[0]
