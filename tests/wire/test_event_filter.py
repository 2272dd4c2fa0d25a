"""Which of a run's events a caller wishes to have."""

import pytest

from locktender.wire.event_filter import EventFilter, parse_event_filter
from locktender.wire.langserve import Unprocessable


def test_a_body_without_lists_admits_every_run() -> None:
    chosen = parse_event_filter(b'{"input":1,"diff":false,"include_names":null}')
    assert chosen == EventFilter()
    assert chosen.admits("any", "chain", [])


@pytest.mark.parametrize(
    ("chosen", "is_admitted"),
    [
        (EventFilter(include_names=["a"]), True),
        (EventFilter(include_types=["llm"]), True),
        (EventFilter(include_tags=["t", "u"]), True),
        (EventFilter(include_names=["b"], include_types=["chain"], include_tags=["v"]), False),
        (EventFilter(include_names=["b"], include_types=["llm"]), True),
        (EventFilter(include_names=[]), False),
        (EventFilter(exclude_names=["a"]), False),
        (EventFilter(exclude_types=["llm"]), False),
        (EventFilter(exclude_tags=["u"]), False),
        (EventFilter(exclude_names=[], exclude_types=["chain"], exclude_tags=["v"]), True),
        (EventFilter(include_names=["a"], exclude_tags=["u"]), False),
    ],
)
def test_a_run_is_admitted_that_one_list_includes_and_none_excludes(
    chosen: EventFilter, *, is_admitted: bool
) -> None:
    assert chosen.admits("a", "llm", ["s", "u"]) is is_admitted


def test_every_list_that_is_none_is_named_in_the_order_of_the_fields() -> None:
    body = b'{"input":1,"exclude_tags":5,"include_types":"abc","include_names":["a",1]}'
    with pytest.raises(Unprocessable) as caught:
        parse_event_filter(body)
    assert isinstance(caught.value.detail, list)
    assert [(error["loc"], error["type"]) for error in caught.value.detail] == [
        (["include_names", 1], "string_type"),
        (["include_types"], "sequence_str"),
        (["exclude_tags"], "is_instance_of"),
    ]


@pytest.mark.parametrize(
    "body",
    [b'{"input":"\\ud800","include_names":["a"]}', '{"include_names":["a"]}'.encode("utf-16")],
)
def test_a_body_that_python_alone_can_read_is_read(body: bytes) -> None:
    assert parse_event_filter(body) == EventFilter(include_names=["a"])


def test_a_list_without_measure_is_refused() -> None:
    names = ",".join(f'"{n}"' for n in range(1001)).encode()
    with pytest.raises(Unprocessable, match="too_long"):
        parse_event_filter(b'{"exclude_names":[%b]}' % names)
