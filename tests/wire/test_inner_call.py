"""A signature makes exactly what it was made for believed, and for no longer than it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.wire.inner_call import InnerCall, sign, verify

KEY = b"a key that this deployment's processes share"
CALL = InnerCall(outer="r1", tenant="ann", timeout="3.250")
NOW = 1_800_000_000.0

texts = st.text(max_size=8)
calls = st.builds(InnerCall, texts, texts, texts)


def test_what_was_signed_is_believed_until_it_expires() -> None:
    signature = sign(KEY, CALL, expires_at=NOW + 60)
    left_s = verify(KEY, CALL, signature, now=NOW)
    assert left_s is not None
    assert 60 <= left_s <= 90
    assert verify(KEY, CALL, signature, now=NOW + 80)  # the other's clock may go before ours
    assert verify(KEY, CALL, signature, now=NOW + 91) is None


def test_nothing_is_believed_for_more_than_a_day() -> None:
    assert verify(KEY, CALL, sign(KEY, CALL, expires_at=NOW + 86_400), now=NOW)
    assert verify(KEY, CALL, sign(KEY, CALL, expires_at=NOW + 90_000), now=NOW) is None


def test_another_key_signs_nothing() -> None:
    signature = sign(b"another key", CALL, expires_at=NOW + 60)
    assert verify(KEY, CALL, signature, now=NOW) is None


def test_a_longer_life_than_was_signed_is_not_believed() -> None:
    version, _, digest = sign(KEY, CALL, expires_at=NOW + 60).split()
    assert verify(KEY, CALL, f"{version} {NOW + 600:.0f} {digest}", now=NOW) is None


@pytest.mark.parametrize(
    "signature", ["", "v1", "v1 1800000060", "v2 1800000060 " + 64 * "0", "v1 ٣ " + 64 * "0"]
)
def test_what_is_no_signature_is_not_believed(signature: str) -> None:
    assert verify(KEY, CALL, signature, now=NOW) is None


@given(signed=calls, sent=calls)
def test_what_is_signed_for_one_call_is_good_for_no_other(
    signed: InnerCall, sent: InnerCall
) -> None:
    signature = sign(KEY, signed, expires_at=NOW + 60)
    assert (verify(KEY, sent, signature, now=NOW) is not None) == (sent == signed)


@given(parts=st.tuples(texts, texts, texts), cuts=st.tuples(st.integers(0, 24), st.integers(0, 24)))
def test_where_one_field_ends_and_the_next_begins_is_signed_too(
    parts: tuple[str, str, str], cuts: tuple[int, int]
) -> None:
    whole, (first, second) = "".join(parts), sorted(cuts)
    moved = InnerCall(whole[:first], whole[first:second], whole[second:])
    signature = sign(KEY, InnerCall(*parts), expires_at=NOW + 60)
    assert (verify(KEY, moved, signature, now=NOW) is not None) == (moved == InnerCall(*parts))


@given(signature=st.text(max_size=100))
def test_nothing_that_anybody_sends_breaks_it(signature: str) -> None:
    assert verify(KEY, CALL, signature, now=NOW) is None
