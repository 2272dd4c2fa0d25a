import inspect
import pickle  # noqa: TID251 - what is tested is that errors survive it

import pytest

from locktender.core import errors
from locktender.core.errors import (
    CapacityError,
    InvalidRequest,
    LocktenderError,
    QueueFull,
    ReplicaLost,
    RequestError,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, LocktenderError)
]


def _example(kind: type[LocktenderError]) -> LocktenderError:
    if issubclass(kind, RequestError):
        return kind("A sentence.", "messages[0].content")
    if issubclass(kind, CapacityError):
        return kind("A sentence.", 2.5)
    if issubclass(kind, ReplicaLost):
        return kind("A sentence.", "m-0#1")
    return kind("A sentence.")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling_with_all_it_says(kind: type[LocktenderError]) -> None:
    error = _example(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes, of a line above
    assert type(copy) is kind
    assert copy.args == error.args
    assert vars(copy) == vars(error)
    assert (copy.code, copy.message) == (error.code, "A sentence.")


@pytest.mark.parametrize("kind", KINDS)
def test_the_sentence_is_all_that_an_error_needs(kind: type[LocktenderError]) -> None:
    assert kind("A sentence.").message == "A sentence."


def test_an_error_without_a_sentence_says_its_code() -> None:
    assert LocktenderError().message == "internal_error"


def test_what_is_not_known_is_none() -> None:
    assert RequestError("A sentence.").param is None
    assert QueueFull("A sentence.").retry_after_s is None
    assert ReplicaLost("A sentence.").loss == ""


def test_whoever_may_come_again_is_told_so_and_no_one_else() -> None:
    assert {kind.__name__ for kind in KINDS if kind.retryable} == {
        "CapacityError",
        "QueueFull",
        "WaitTooLong",
        "NoReplicaReady",
        "Draining",
        "DeadlineExceeded",
        "ReplicaLost",
        "TooManyConnections",
    }


def test_only_kinds_that_a_caller_cannot_tell_apart_share_a_code() -> None:
    by_code: dict[str, set[str]] = {}
    for kind in KINDS:
        by_code.setdefault(kind.code, set()).add(kind.__name__)
    shared = [names for names in by_code.values() if len(names) > 1]
    assert shared == [{"RequestError", "InvalidRequest", "TemplateRefusal"}]


def test_an_error_says_its_sentence_and_nothing_else() -> None:
    assert str(QueueFull("No room.", 3)) == "No room."
    assert str(InvalidRequest("Wrong.", "stop")) == "Wrong."
