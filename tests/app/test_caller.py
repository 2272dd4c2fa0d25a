import time

import pytest

from locktender.app.caller import outer_request_of
from locktender.core.errors import InvalidRequest

KEY = "s3cret-key-of-ann"


def test_a_request_without_headers_counts_for_nobody_and_has_no_end() -> None:
    outer = outer_request_of([(b"accept", b"*/*")])
    assert (outer.tenant, outer.deadline_at, outer.caller_id, outer.traceparent) == (None,) * 4
    assert outer.id != outer_request_of([]).id


def test_a_named_tenant_goes_before_a_key() -> None:
    outer = outer_request_of([(b"x-locktender-tenant", b"ann"), (b"x-api-key", KEY.encode())])
    assert outer.tenant == "ann"


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer " + KEY.encode()),
        (b"authorization", b"bearer  " + KEY.encode()),
        (b"x-api-key", KEY.encode()),
    ],
)
def test_a_key_stands_for_one_tenant_and_is_not_told(header: tuple[bytes, bytes]) -> None:
    tenant = outer_request_of([header]).tenant
    assert tenant == outer_request_of([(b"x-api-key", KEY.encode())]).tenant
    assert tenant != outer_request_of([(b"x-api-key", b"another")]).tenant
    assert tenant
    assert KEY not in tenant
    assert len(tenant) <= 20


@pytest.mark.parametrize("value", [b"Basic YW5uOng=", b"Bearer ", b""])
def test_other_credentials_name_nobody(value: bytes) -> None:
    assert outer_request_of([(b"authorization", value)]).tenant is None


def test_a_time_limit_ends_on_the_monotonic_clock() -> None:
    before = time.monotonic()
    deadline_at = outer_request_of([(b"x-request-timeout-seconds", b"60")]).deadline_at
    assert deadline_at is not None
    assert before + 60 <= deadline_at <= time.monotonic() + 60


def test_a_bad_time_limit_is_the_caller_s_fault() -> None:
    with pytest.raises(InvalidRequest):
        outer_request_of([(b"x-request-timeout-seconds", b"-1")])


def test_ids_that_cannot_go_into_a_header_are_not_repeated() -> None:
    assert outer_request_of([(b"x-request-id", b"a b\n")]).caller_id is None
