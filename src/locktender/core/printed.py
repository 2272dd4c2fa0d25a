"""Have in the log what Python would print by itself, in a form of its own.

Warnings, what a thread raises and nobody catches, what is raised where nobody can (`__del__`).
Standard library only, since engine processes write their logs with it, too.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TextIO

__all__ = ["log_what_python_prints"]

_log = logging.getLogger("locktender.python")


def log_what_python_prints() -> Callable[[], None]:
    """Do so from now on, as warnings and errors of `locktender.python`; return what ends it."""
    shown, uncaught, ignored = warnings.showwarning, threading.excepthook, sys.unraisablehook
    warnings.showwarning = _show_warning
    threading.excepthook = _tell_uncaught
    sys.unraisablehook = _tell_ignored

    def leave() -> None:
        warnings.showwarning, threading.excepthook, sys.unraisablehook = shown, uncaught, ignored

    return leave


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - Python's signature
    line: str | None = None,  # noqa: ARG001 - Python's signature
) -> None:
    _log.warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)


def _tell_uncaught(told: Any) -> None:
    if not issubclass(told.exc_type, SystemExit):  # Python says nothing of that either.
        name = told.thread.name if told.thread else "?"
        _log.error("The thread %s has failed", name, exc_info=_exception_of(told))


def _tell_ignored(told: Any) -> None:
    what = told.err_msg or "Exception ignored in"
    _log.error("%s %r", what, told.object, exc_info=_exception_of(told))


def _exception_of(told: Any) -> Any:
    return told.exc_type, told.exc_value, told.exc_traceback
