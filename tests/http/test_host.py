import pytest

from locktender.http.host import (
    Authority,
    Hosts,
    Proxies,
    is_loopback,
    is_same_origin,
    parse_authority,
)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("localhost", Authority("localhost", None)),
        ("LocalHost:8000", Authority("localhost", 8000)),
        ("[::1]:80", Authority("::1", 80)),
        ("127.0.0.1", Authority("127.0.0.1", None)),
        *(
            (bad, None)
            for bad in ("", "a b", "a:b", "[::1", "a:8000:1", "ann@a", "a/b", "a:123456")
        ),
    ],
)
def test_a_host_and_its_port_are_read(text: str, authority: Authority | None) -> None:
    assert parse_authority(text) == authority


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1:8000", "[::1]", "LOCALHOST", "box", "Box:80"]
)
def test_the_loopbacks_names_and_those_that_are_named_are_known(host: str) -> None:
    assert Hosts(["box"]).know([host])


@pytest.mark.parametrize(
    "given",
    [
        *([], ["localhost", "localhost"], [""], ["evil.example"], ["localhost.evil.example"]),
        *(["192.0.2.7"], ["box.evil.example"], ["localhost:x"], ["127.0.0.1.evil.example"]),
    ],
)
def test_others_are_not(given: list[str]) -> None:
    assert not Hosts(["box"]).know(given)


def test_a_star_is_everything_and_one_before_a_dot_every_name_below_it() -> None:
    assert Hosts(["*"]).know(["evil.example"])
    below = Hosts(["*.example.com"])
    assert below.know(["a.example.com:1"])
    assert not below.know(["example.com"])
    assert not below.know(["anexample.com"])


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])  # noqa: S104 - nothing listens here
def test_a_listener_on_every_address_answers_to_numbers_and_not_to_names(everywhere: str) -> None:
    hosts = Hosts([everywhere])
    assert hosts.know(["192.0.2.7:8000"])
    assert hosts.know(["[2001:db8::1]"])
    assert not hosts.know(["evil.example"])


@pytest.mark.parametrize(
    ("origin", "host", "is_same"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("https://example.com", "example.com", True),
        ("https://example.com", "example.com:443", True),
        ("http://example.com:80", "example.com", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://localhost:8001", "localhost:8000", False),
        ("https://example.com", "example.com:80", False),
        ("http://evil.example", "localhost", False),
        ("null", "localhost", False),
        ("", "localhost", False),
        ("file://", "localhost", False),
    ],
)
def test_an_origin_is_compared_by_host_and_port(origin: str, host: str, *, is_same: bool) -> None:
    own = parse_authority(host)
    assert own
    assert is_same_origin(origin, own) is is_same


def test_a_proxy_is_trusted_by_its_address_or_network() -> None:
    proxies = Proxies(["127.0.0.1", "10.0.0.0/8"])
    assert [proxies.trust(peer) for peer in ("127.0.0.1", "10.9.8.7")] == [True, True]
    assert [proxies.trust(peer) for peer in ("192.0.2.7", "", None, "ann")] == [False] * 4
    assert Proxies(["*"]).trust("192.0.2.7")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_the_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "box", ""])  # noqa: S104 - as above
def test_what_others_may_reach_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)
