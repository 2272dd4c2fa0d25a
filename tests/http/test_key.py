import pytest

from locktender.http.key import Keys

KEY = "a-key-of-ours"


def opens(*headers: tuple[str, str], takes_x_api_key: bool = True) -> bool:
    keys = Keys([KEY, "another"], takes_x_api_key=takes_x_api_key)
    return keys.open_for([(name.encode(), value.encode()) for name, value in headers])


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {KEY}")],
        [("authorization", f"bearer  {KEY} ")],
        [("authorization", "Bearer another")],
        [("x-api-key", KEY)],
        [("authorization", "Basic YTpi"), ("x-api-key", KEY)],
    ],
)
def test_a_key_opens_in_each_of_its_forms(headers: list[tuple[str, str]]) -> None:
    assert opens(*headers)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", KEY)],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {KEY}x")],
        [("authorization", f"Bearer {KEY[:-1]}")],
        [("authorization", f"Basic {KEY}")],
        [("x-api-key", "")],
        [("cookie", f"key={KEY}")],
    ],
)
def test_nothing_else_does(headers: list[tuple[str, str]]) -> None:
    assert not opens(*headers)


def test_the_header_of_langserves_users_opens_on_their_wire_only() -> None:
    assert not opens(("x-api-key", KEY), takes_x_api_key=False)


def test_without_keys_the_door_is_open() -> None:
    assert not Keys([], takes_x_api_key=True).is_needed
    assert Keys([KEY], takes_x_api_key=True).is_needed
