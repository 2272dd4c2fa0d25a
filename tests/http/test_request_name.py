"""What a request is called, and where its name goes."""

from collections.abc import Iterator

import pytest
from starlette.types import Message

from locktender.core.scope import current_request
from locktender.http.request_name import is_named, name_of, naming


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """Begin and end with no request."""
    token = current_request.set(None)
    yield
    current_request.reset(token)


def scope_of(path: str = "/run", *ids: bytes) -> dict[str, object]:
    return {"type": "http", "path": path, "headers": [(b"x-request-id", each) for each in ids]}


@pytest.mark.parametrize("given", ["a", "3f-00.x/y", "~" * 128])
def test_a_callers_own_id_is_kept(given: str) -> None:
    assert name_of(scope_of("/run", given.encode())).id == given


@pytest.mark.parametrize(
    "given", [b"", b"two words", b"x" * 129, b"line\r\nbreak", "\u00e9".encode(), b"\x00"]
)
def test_one_that_could_not_go_back_into_a_header_is_replaced(given: bytes) -> None:
    own = name_of(scope_of("/run", given)).id
    assert len(own) == 32
    assert own != name_of(scope_of("/run", given)).id


def test_a_request_has_one_name_and_its_log_knows_it() -> None:
    scope = scope_of()
    assert not is_named(scope)
    assert name_of(scope) is name_of(scope) is current_request.get()
    assert is_named(scope)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/chain/invoke", "/chain/invoke"),
        ("/chain/c/N4XyA-secret/invoke", "/chain/c/*/invoke"),
        ("/c/N4XyA/playground/index.html", "/c/*/playground/index.html"),
        ("/x" * 1000, "/x" * 250),
    ],
)
def test_a_path_is_shown_without_the_config_in_it_and_not_for_ever(path: str, route: str) -> None:
    assert name_of(scope_of(path)).route == route


async def test_an_answer_that_has_an_id_keeps_it() -> None:
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    send = naming(scope_of("/run", b"mine"), keep)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Request-ID", b"z")]})
    await send({"type": "http.response.body", "body": b"x"})
    assert [message.get("headers") for message in sent] == [
        [(b"x-request-id", b"mine")],
        [(b"X-Request-ID", b"z")],
        None,
    ]
