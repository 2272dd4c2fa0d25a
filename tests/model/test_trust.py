import logging

import pytest

from locktender.core.errors import InvalidRequest
from locktender.core.scope import Scope
from locktender.model.trust import Trust
from locktender.wire.header import OUTER, SIGNATURE, TENANT, TIMEOUT
from locktender.wire.inner_call import InnerCall, sign

KEY = b"a key of this deployment"
NOW = 1_800_000_000.0
HEADERS = {OUTER: "r1", TENANT: "ann", TIMEOUT: "3"}
SIGNED = {
    **HEADERS,
    SIGNATURE: sign(KEY, InnerCall("r1", "ann", "3"), expires_at=NOW + 60),
}
STRANGER = Scope(timeout_s=3.0, outer="r1", outer_s=None, caller_id="theirs", tenant="ann")


def test_what_is_signed_has_a_claim_for_as_long_as_it_says() -> None:
    scope = Trust(KEY).scope(SIGNED, "theirs", now=NOW)
    assert scope.outer_s is not None
    assert scope.outer_s >= 60


def test_what_a_stranger_says_of_himself_is_heard_and_gives_him_nothing() -> None:
    assert Trust(KEY).scope(HEADERS, "theirs", now=NOW) == STRANGER
    assert Trust(KEY).scope({}, None, now=NOW) == Scope()


@pytest.mark.parametrize(
    "changed", [{OUTER: "r2"}, {TENANT: "bob"}, {TIMEOUT: "4"}, {TENANT: ""}, {SIGNATURE: "v1 1 x"}]
)
def test_of_headers_that_were_changed_nothing_is_believed(changed: dict[str, str]) -> None:
    assert Trust(KEY).scope({**SIGNED, **changed}, None, now=NOW).outer_s is None


@pytest.mark.parametrize("key", [None, b"another key"])
def test_a_signature_that_is_not_ours_makes_a_stranger_and_is_said_once(
    key: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    trust = Trust(key)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert trust.scope(SIGNED, "theirs", now=NOW) == STRANGER
    assert [
        record.message for record in caplog.records if "LOCKTENDER_SHARED_KEY" in record.message
    ]
    assert len(caplog.records) == 1


def test_a_signature_without_an_outer_request_is_nothing() -> None:
    signature = {SIGNATURE: SIGNED[SIGNATURE]}
    assert Trust(KEY).scope(signature, None, now=NOW) == Scope()


def test_a_time_limit_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Trust(KEY).scope({**SIGNED, TIMEOUT: "soon"}, None, now=NOW)
