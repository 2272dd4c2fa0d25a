"""Every exchange with LangServe 0.3.3 and with us is the same, or differs as is written down."""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compat.difference import DIFFERENCES, find
from compat.exchange import Answer, Sent, ask, requests
from harness.telling import Tell

ROOT = Path(__file__).parents[2]


def exchanges(peer_port: int, our_port: int) -> Iterator[tuple[Sent, Answer, Answer]]:
    """Ask both at once: each has a core."""
    with ThreadPoolExecutor(1) as thread:
        for sent in requests():
            theirs = thread.submit(ask, peer_port, sent)
            ours = ask(our_port, sent)
            yield sent, theirs.result(), ours


@pytest.mark.timeout(900)  # the first run installs LangServe
def test_answers_are_langserve_s_but_for_the_listed_differences(
    peer_port: int, our_port: int, tell: Tell
) -> None:
    seen: Counter[str] = Counter()
    unlisted = []
    n_exchanges = 0
    for sent, theirs, ours in exchanges(peer_port, our_port):
        n_exchanges += 1
        if theirs == ours:
            continue
        name = find(sent, theirs, ours)
        if name is None:
            unlisted.append(f"{sent}\n  LangServe: {theirs}\n  locktender: {ours}")
        else:
            seen[name] += 1
    tell(f"compared {n_exchanges} exchanges, {seen.total()} listed differences")
    assert unlisted == []
    assert set(seen) == set(DIFFERENCES)


def test_every_listed_difference_is_documented_with_its_reason() -> None:
    text = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    section = text.partition("<!-- differences: compared -->")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|`]+?) \| [^|]+ \| [^|]+ \| [^|]+ \|$", section, re.MULTILINE)
    assert set(DIFFERENCES) == set(rows) - {"difference", "---"}


def test_nothing_that_a_runnable_raises_reaches_the_caller(our_port: int) -> None:
    bodies = [ask(our_port, sent).body for sent in requests() if "boom" in sent.path]
    assert bodies
    assert not any(b"secret" in body for body in bodies)
