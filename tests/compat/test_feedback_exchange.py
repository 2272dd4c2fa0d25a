"""Feedback, tokens and links with a LangSmith that is on: the same, or different as is listed.

Each package has a LangSmith of its own on loopback, and what they send there is compared as well.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compat.difference import DIFFERENCES, find
from compat.difference_callbacks import WITH_LANGSMITH
from compat.exchange import Answer, Sent, ask, post
from compat.exchange_callbacks import feedback
from compat.server import serving
from harness.langsmith_twin import LangSmithTwin, langsmith_twin
from harness.telling import Tell

ROOT = Path(__file__).parents[2]
_CHANGING = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)?"
)


@dataclass
class Side:
    """A package that serves, and the LangSmith that it knows."""

    port: int
    twin: LangSmithTwin

    def sent_on(self) -> list[tuple[str, str, str]]:
        """Return what has come to LangSmith, less traces and tokens: those may still be coming."""
        told = [
            (method, _masked(path), _masked(repr(body)))
            for method, path, body in self.twin.asked
            if path.startswith("/feedback") or path.endswith("/share")
            if path != "/feedback/tokens"
        ]
        self.twin.asked.clear()
        return sorted(told)


@pytest.fixture(scope="module")
def sides(
    peer_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("langsmith")
    with ExitStack() as stack:

        def side(python: Path | str, package: str) -> Side:
            twin = stack.enter_context(langsmith_twin())
            log, app = folder / package, "compat.callbacks_app"
            server = serving(python, package, log, app, twin.environment())
            return Side(stack.enter_context(server), twin)

        yield side(peer_python, "langserve"), side(sys.executable, "locktender")


@pytest.mark.timeout(900)  # the first run installs LangServe
def test_answers_with_a_langsmith_are_langserve_s_but_for_the_listed_differences(
    sides: tuple[Side, Side], tell: Tell
) -> None:
    seen: Counter[str] = Counter()
    unlisted: list[str] = []
    n_exchanges = 0
    for sent in feedback():
        (theirs, sent_there), (ours, sent_here) = (_exchange(side, sent) for side in sides)
        n_exchanges += 1
        if (theirs, sent_there) == (ours, sent_here):
            continue
        name = _name_of(sent, theirs, ours)
        if name is None:
            there, here = f"{theirs} {sent_there}", f"{ours} {sent_here}"
            unlisted.append(f"{sent}\n  LangServe: {there}\n  locktender: {here}")
        else:
            seen[name] += 1
    tell(f"compared {n_exchanges} exchanges about feedback, {seen.total()} listed differences")
    assert unlisted == []
    assert set(seen) >= set(WITH_LANGSMITH)
    assert set(seen) <= set(WITH_LANGSMITH) | set(DIFFERENCES)


@pytest.mark.timeout(900)  # as above
def test_chunks_come_while_the_token_does_not(sides: tuple[Side, Side]) -> None:
    _, ours = sides
    ours.twin.may_give_tokens.clear()
    try:
        body = ask(ours.port, post("/ls/token_count/stream", {"input": 3})).body
    finally:
        ours.twin.may_give_tokens.set()
    events = re.findall(rb"event: (\w+)(?:\r\ndata: (.*)\r)?", body)
    assert [data for event, data in events if event == b"data"] == [b"0", b"1", b"2"]
    assert [event for event, _ in events] == [b"data", b"data", b"data", b"metadata", b"end"]
    assert events[3][1].endswith(b'"feedback_tokens": []}')


@pytest.mark.timeout(900)  # as above
def test_every_difference_with_a_langsmith_is_documented_with_its_reason() -> None:
    text = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    section = text.partition("<!-- differences: langsmith -->")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|`]+?) \| [^|]+ \| [^|]+ \| [^|]+ \|$", section, re.MULTILINE)
    assert set(WITH_LANGSMITH) == set(rows) - {"difference", "---"}


def _exchange(side: Side, sent: Sent) -> tuple[Answer, Sequence[Any]]:
    answer = ask(side.port, sent)
    told = _masked(answer.body.decode("utf-8", "backslashreplace")).encode()
    masked = Answer(answer.status, answer.headers, told, answer.is_cut)
    return masked, side.sent_on()


def _name_of(sent: Sent, theirs: Answer, ours: Answer) -> str | None:
    listed = (name for name, holds in WITH_LANGSMITH.items() if holds(sent, theirs, ours))
    return next(listed, None) or find(sent, theirs, ours)


def _masked(text: str) -> str:
    return _CHANGING.sub("CHANGING", text)
