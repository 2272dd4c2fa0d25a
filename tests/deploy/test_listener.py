"""Where a server listens, as its users are told."""

import socket

import pytest

from locktender.core.errors import ConfigError
from locktender.deploy.listener import listen, place_of

ALL = "0.0.0.0"  # noqa: S104 - nothing is answered there


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1", "to this machine only, at http://127.0.0.1:PORT"),
        ("::1", "to this machine only, at http://[::1]:PORT"),
        ("localhost", "to this machine only, at http://127.0.0.1:PORT"),
        (ALL, "to the network (0.0.0.0:PORT), at http://127.0.0.1:PORT"),
        ("::", "to the network ([::]:PORT), at http://[::1]:PORT"),
    ],
)
def test_who_reaches_it_where_is_said_with_an_address_that_can_be_called(
    host: str, told: str
) -> None:
    with listen(host, 0) as listener:
        port = str(listener.getsockname()[1])
        assert place_of(listener).told.replace(port, "PORT") == told


def test_a_port_that_is_taken_is_a_mistake_of_the_operators() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 64, "[::1]", ":"])
def test_a_host_that_is_none_is_one_too(host: str) -> None:
    with pytest.raises(ConfigError, match="Cannot listen on "):
        listen(host, 0)


def test_who_comes_while_a_service_begins_waits_for_it() -> None:
    with listen("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname(), timeout=5).close()
