"""Every code that a service may send stands for one class, the one that was there."""

import inspect

from locktender.core import errors
from locktender.core.errors import (
    AnswerUnread,
    ConfigError,
    EngineStartError,
    InvalidRequest,
    LocktenderError,
)
from locktender.wire.error_code import find_kind

NEVER_SENT = {AnswerUnread, ConfigError, EngineStartError}


def test_every_code_that_is_sent_is_known() -> None:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if not issubclass(kind, LocktenderError) or kind in NEVER_SENT:
            continue
        found = find_kind(kind.code)
        assert found is not None
        assert issubclass(found, kind) or issubclass(kind, found)
        assert found.code == kind.code


def test_what_no_caller_is_told_is_not_known() -> None:
    assert [find_kind(kind.code) for kind in NEVER_SENT] == [None, None, None]


def test_the_code_that_two_classes_share_means_the_nearer_one() -> None:
    assert find_kind("invalid_request") is InvalidRequest
    assert find_kind("internal_error") is LocktenderError


def test_what_is_no_code_stands_for_nothing() -> None:
    assert [find_kind(code) for code in ("", "theirs", None, 1, ["queue_full"])] == [None] * 5
