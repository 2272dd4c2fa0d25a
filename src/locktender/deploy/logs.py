"""Set up the log of a process: its form, where it goes, whose records are in it.

The process of the service has the events of the core in it as well.  A worker of an app has what
our modules and the server say; what the app logs is in it if the app has set up no log of its own.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console

from locktender.config import Settings
from locktender.core.errors import ConfigError
from locktender.core.events import Observer
from locktender.core.log_line import LogFormat
from locktender.core.printed import log_what_python_prints
from locktender.deploy.orders import Orders
from locktender.http import access
from locktender.ops.log import Log, take_records

__all__ = ["log_of_service", "log_of_worker", "take_rest"]

_OURS = ("locktender", "uvicorn")
_ROOT = ""


@contextlib.contextmanager
def log_of_service(
    settings: Settings, path: Path | None, console: Console
) -> Iterator[list[Observer]]:
    """Set up the log of this process on standard error; give the observers that write events.

    With a `path` they go there, as JSON.  On a terminal there are none: they would tear up the
    live table.  Raises: ConfigError.
    """
    with contextlib.ExitStack() as stack:
        log = _begun(settings.log_format, stack, has_access=settings.access_log)
        stack.callback(take_records(log, [_ROOT]))
        if path is not None:
            events = Log(stack.enter_context(_opened(path)))
            stack.callback(events.close)
            yield [events]
        else:
            yield [] if console.is_terminal else [log]


@contextlib.contextmanager
def log_of_worker(orders: Orders) -> Iterator[Log]:
    """Set up the log of this worker; `take_rest` of it when the app is loaded."""
    with contextlib.ExitStack() as stack:
        log = _begun(orders.log_format, stack, has_access=orders.access_log)
        stack.callback(take_records(log, _OURS))
        yield log


def take_rest(log: Log) -> None:
    """Have everybody's records in `log`, unless the app has set up a log of its own."""
    if not logging.getLogger().handlers:
        take_records(log, [_ROOT])


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        message = f"The file {str(path)!r} of --log cannot be written: {error.strerror}."
        raise ConfigError(message) from error


def _begun(form: LogFormat | None, stack: contextlib.ExitStack, *, has_access: bool) -> Log:
    log = Log(sys.stderr, form or ("text" if sys.stderr.isatty() else "json"))
    stack.callback(log.close)
    access.switch(is_on=has_access)
    stack.callback(log_what_python_prints())
    return log
