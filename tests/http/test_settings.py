import re
from typing import Any

import pytest

from locktender.core.errors import ConfigError
from locktender.http.settings import ConnectionSettings, Doors, DoorSettings, is_key


def test_a_worker_reads_what_its_crew_has_written() -> None:
    doors = Doors(
        DoorSettings(api_keys=("k",), hosts=("*",), cors_origins=("https://a.example",)),
        ConnectionSettings(max_connections=7, idle_timeout_s=1.5),
    )
    assert Doors.from_json(doors.to_json()) == doors
    assert Doors.from_json(Doors().to_json()) == Doors()


def test_a_key_is_not_shown() -> None:
    assert "very-secret" not in repr(Doors(DoorSettings(api_keys=("very-secret",))))


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "ключ", "a" * 513])
def test_what_no_header_could_carry_is_no_key(text: str) -> None:
    assert not is_key(text)
    with pytest.raises(ConfigError, match="visible ASCII"):
        DoorSettings(api_keys=(text,))


@pytest.mark.parametrize(
    ("name", "values", "wrong"),
    [
        ("hosts", ("*", "*.a.example", "a", "A.example", "::1", "[::1]", "10.0.0.1"), ""),
        *(
            ("hosts", (), wrong)
            for wrong in ("https://a.example", "a.example:8000", "a.example/", "a b", "", "a.*")
        ),
        ("cors_origins", ("*", "null", "http://a", "HTTPS://a.example:1", "tauri://localhost"), ""),
        *(
            ("cors_origins", (), wrong)
            for wrong in ("a.example", "https://a.example/", "https://*.a.example", "", "://a")
        ),
        ("trusted_proxies", ("*", "10.0.0.0/8", "::1"), ""),
        *(("trusted_proxies", (), wrong) for wrong in ("proxy", "10.0.0.0/33", "")),
    ],
)
def test_what_no_request_could_ever_name_is_refused(
    name: str, values: tuple[str, ...], wrong: str
) -> None:
    given: dict[str, Any] = {name: values}
    if values:
        assert getattr(DoorSettings(**given), name) == values
        return
    setting = name.replace("hosts", "allowed_hosts")
    given = {name: ("*", wrong)}
    with pytest.raises(ConfigError, match=re.escape(f"`{setting}` has ")) as refused:
        DoorSettings(**given)
    assert refused.value.message.endswith(f"not {wrong!r}.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_connections", 0), ("max_header_bytes", 255), ("max_headers", 7)),
        *(("header_timeout_s", 0), ("idle_timeout_s", float("nan"))),
    ],
)
def test_a_bound_that_cannot_work_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        ConnectionSettings(**{name: value})


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trusted_proxies.*'nginx'"):
        DoorSettings(trusted_proxies=("nginx",))
