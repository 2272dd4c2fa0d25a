"""Try out a served app with whatever its OpenAPI document allows, and with what it does not."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from compat.exchange_routes import hashed

ANSWER_S = 30  # after which a request hangs
_MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
_HASHES = tuple(map(hashed, ({}, {"tags": ["a"]}, {"configurable": {"a": "x"}}, {"run_id": 5})))
_TRACEBACK = re.compile(
    r"^Traceback \(most recent call last\):\n(?:[ \t|+].*\n|\n)+\S.*$", re.MULTILINE
)
_OF_THE_APP = re.compile(r'File ".*/compat/(captured_app|routes_app)\.py"')
# An output that JSON cannot hold, or that its writer cannot: of integers of 65 bits.
_NOT_JSON = re.compile(r"\nTypeError: (Integer exceeds 64-bit range|.*cannot be \w+ as JSON)")


@dataclass(slots=True)
class Tried:
    """What was answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)  # with 5xx

    @property
    def n_cases(self) -> int:
        return self.statuses.total()


def try_out(port: int, *, n_cases: int, is_same_each_time: bool) -> Tried:
    """Send `n_cases` requests to the app at `port`, good and bad ones.

    Raises: requests' ReadTimeout when one is not answered.
    """
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    found = schema.get_all_operations()
    operations = [each.ok() for each in found if isinstance(each, Ok)]
    tried = Tried()

    @settings(
        max_examples=n_cases,
        deadline=None,
        derandomize=is_same_each_time,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=_cases(operations), config_hash=st.sampled_from((None, *_HASHES)))
    def send(case: Any, config_hash: str | None) -> None:
        if config_hash and "config_hash" in case.path_parameters:
            case.path_parameters["config_hash"] = config_hash
        answer = case.call(session=session, timeout=ANSWER_S)
        tried.statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            tried.failed.append(f"{case.method} {case.formatted_path} {case.body!r:.200}")

    with requests.Session() as session:
        send()
    return tried


def faults_in(log: str) -> tuple[int, list[str]]:
    """Return how many tracebacks are the runnables' own, and those that are somebody else's."""
    tracebacks = [match[0] for match in _TRACEBACK.finditer(log)]
    theirs = [text for text in tracebacks if _OF_THE_APP.search(text) or _NOT_JSON.search(text)]
    return len(theirs), [text for text in tracebacks if text not in theirs]


def _cases(operations: Sequence[Any]) -> Any:
    chosen = st.tuples(st.sampled_from(operations), st.sampled_from(_MODES))
    return chosen.flatmap(lambda pair: pair[0].as_strategy(generation_mode=pair[1]))
