"""What a test found that is part of the result, such as how much was compared.

Printed behind the last test: the process of a test need not be the one that has the terminal.
"""

from collections.abc import Callable
from functools import partial

import pytest

__all__ = ["Tell", "print_told", "tell"]

Tell = Callable[[str], None]

_NAME = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Give a function that has a line printed when all tests have run."""
    return partial(record_property, _NAME)


def print_told(reporter: pytest.TerminalReporter) -> None:
    """Print the lines of all tests."""
    reports = [report for key in ("passed", "failed") for report in reporter.getreports(key)]
    told = [line for report in reports for name, line in report.user_properties if name == _NAME]
    if told:
        reporter.section("told by tests")
    for line in told:
        reporter.write_line(str(line))
