"""What Python would print by itself is in the log."""

import gc
import logging
import threading
import warnings
from collections.abc import Iterator

import pytest

from locktender.core.printed import log_what_python_prints


@pytest.fixture(autouse=True)
def logged() -> Iterator[None]:
    """Have it there for one test."""
    leave = log_what_python_prints()
    yield
    leave()


class Broken:
    def __del__(self) -> None:
        raise ValueError("at its end")


def fail() -> None:
    raise ValueError("in a thread")


def test_warnings_and_errors_that_nobody_catches_are_records(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        leave = log_what_python_prints()  # pytest has a warnings' hook of its own
        warnings.warn("Old.", FutureWarning, stacklevel=1)
        leave()
    for target in (fail, exit):
        thread = threading.Thread(target=target, name="mine")
        thread.start()
        thread.join(10)
    Broken()
    gc.collect()
    assert [(each.levelno, each.name) for each in caplog.records] == [
        (logging.WARNING, "locktender.python"),
        *[(logging.ERROR, "locktender.python")] * 2,
    ]
    warned, uncaught, ignored = caplog.records
    assert warned.getMessage().startswith(f"FutureWarning: Old. ({__file__}:")
    assert uncaught.getMessage() == "The thread mine has failed"
    assert uncaught.exc_info
    assert str(uncaught.exc_info[1]) == "in a thread"
    assert "Broken.__del__" in ignored.getMessage()
    assert capsys.readouterr().err == ""
