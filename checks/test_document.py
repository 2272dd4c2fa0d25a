"""Whatever a caller sends to a described app, it is answered, and fails only in the runnable."""

import sys
from pathlib import Path

import pytest

from compat import fuzz
from compat.server import serving

N_CASES = 2_000


@pytest.mark.timeout(600)
def test_two_thousand_requests_are_answered_and_fail_only_in_the_runnable(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(sys.executable, "locktender", log, app="compat.document_app") as port:
        tried = fuzz.try_out(port, n_cases=N_CASES, is_same_each_time=False)
    print(f"\ntried {tried.n_cases} requests: {dict(tried.statuses)}")
    n_theirs, others = fuzz.faults_in(log.read_text(encoding="utf-8"))
    assert others == []
    assert tried.n_cases >= N_CASES
    assert len(tried.failed) <= n_theirs
