"""Bad input over a real socket: a sentence and a code, never a 500, and no neighbour disturbed."""

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import anyio
import pytest

from harness.service import Service, Starter
from harness.shared_service import Shared, sharing

HELLO = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}

BAD_BODIES: Mapping[str, tuple[bytes, int, str]] = {
    "not JSON": (b"{", 400, "invalid_request"),
    "not UTF-8": (b'{"model": "\xff"}', 400, "invalid_request"),
    "no object": (b"[1, 2]", 400, "invalid_request"),
    "empty": (b"", 400, "invalid_request"),
    "deep nesting": (b"[" * 40_000 + b"]" * 40_000, 400, "invalid_request"),
    "a prompt of a megabyte": (
        json.dumps({**HELLO, "messages": [{"role": "user", "content": "a " * 500_000}]}).encode(),
        413,
        "request_too_large",
    ),
    "values without end": (
        b'{"model": "echo", "x": [%b[]]}' % (b"[]," * 300_000),
        413,
        "request_too_large",
    ),
    "many messages": (
        b'{"model": "echo", "messages": [%b{}]}' % (b'{"role": "user", "content": ""},' * 9_000),
        400,
        "invalid_request",
    ),
}
BAD_FIELDS: Mapping[str, tuple[Mapping[str, Any], int, str]] = {
    "unknown model": ({"model": "gpt-12"}, 404, "model_not_found"),
    "no messages": ({"messages": []}, 400, "invalid_request"),
    "messages of a wrong type": ({"messages": "hello"}, 400, "invalid_request"),
    "a wrong role": ({"messages": [{"role": "wizard", "content": "hi"}]}, 400, "invalid_request"),
    "negative max_tokens": ({"max_tokens": -5}, 400, "invalid_request"),
    "max_tokens beyond the model's": ({"max_tokens": 10**9}, 400, "invalid_request"),
    "huge n": ({"n": 10**6}, 400, "invalid_request"),
    "a temperature that is text": ({"temperature": "hot"}, 400, "invalid_request"),
    "too many stop strings": ({"stop": ["a"] * 100}, 400, "invalid_request"),
    "a context that is too long": (
        {"messages": [{"role": "user", "content": "word " * 9000}]},
        400,
        "context_length_exceeded",
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    table = {"options": {"tokens_per_s": 2000}}
    with sharing(tmp_path_factory.mktemp("service"), table) as shared:
        yield shared


@pytest.fixture
async def service(shared: Shared, client: aiohttp.ClientSession) -> Service:
    return await shared.lend(client)


async def test_bad_bodies_get_a_sentence_and_a_code_while_neighbours_are_answered(
    service: Service,
) -> None:
    cases = dict(BAD_BODIES)
    for name, (fields, status, code) in BAD_FIELDS.items():
        cases[name] = (json.dumps({**HELLO, **fields}).encode(), status, code)
    found: dict[str, tuple[int, str]] = {}
    neighbours: list[str] = []

    async def send(name: str, body: bytes) -> None:
        status, error = await _post(service, body)
        assert error["message"].endswith(".")
        found[name] = (status, error["code"])

    async def ask() -> None:
        neighbours.append((await service.ask("repeat 200: undisturbed", stream=True)).text)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask)
            for name, (body, _, _) in cases.items():
                group.start_soon(send, name, body)
    assert found == {name: (status, code) for name, (_, status, code) in cases.items()}
    assert neighbours == [" ".join(["undisturbed"] * 200)] * 4
    assert await service.outcomes(4 + len(cases)) == {"completed": 4, "invalid": len(cases)}


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat/completions", "/"])
async def test_unknown_paths_and_methods_are_told_in_the_same_form(
    service: Service, path: str
) -> None:
    url = service.url.removesuffix("/v1") + path
    async with service.client.delete(url) as response:
        body = await response.json()
    has_path = path == "/v1/chat/completions"
    assert response.status == (405 if has_path else 404)
    assert response.headers.get("Allow") == ("POST" if has_path else None)
    others = "; there is POST" if has_path else ""
    assert body["error"]["message"] == f"There is no DELETE {path} here{others}."


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions/chat/completions"])
async def test_a_path_that_is_meant_for_another_gets_a_hint(
    service: Service, path: str, method: str
) -> None:
    url = service.url.removesuffix("/v1") + path
    async with service.client.request(method, url, json=HELLO) as response:
        body = await response.json()
    assert (response.status, response.headers.get("Allow")) == (404, None)
    assert body["error"]["message"] == (
        f"There is no {method} {path} here. "
        "There is `/v1/chat/completions`: a base URL ends in `/v1`."
    )


async def test_two_thousand_fuzzed_bodies_get_neither_a_500_nor_silence(service: Service) -> None:
    dice = random.Random(8)
    bodies = [_fuzzed(dice) for _ in range(2000)]
    statuses: list[int] = []

    async def send_some(mine: list[bytes]) -> None:
        for body in mine:
            status, _ = await _post(service, body)
            statuses.append(status)

    with anyio.fail_after(100):
        async with anyio.create_task_group() as group:
            for n in range(16):
                group.start_soon(send_some, bodies[n::16])
    assert len(statuses) == 2000
    assert set(statuses) <= {200, 400, 404, 413}
    assert {200, 400} <= set(statuses)
    await service.until_quiet()
    assert (await service.ask("still well")).text == "still well"


async def _post(service: Service, body: bytes) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json"}
    url = f"{service.url}/chat/completions"
    async with service.client.post(url, data=body, headers=headers) as response:
        raw = await response.read()
    if response.status == 200:
        return 200, {}
    error: dict[str, Any] = json.loads(raw)["error"]
    return response.status, error


ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    10**30,
    1.5,
    "",
    "x",
    "\x00",
    [],
    [[]],
    {},
    {"a": 1},
    "é" * 50,
)


def _fuzzed(dice: random.Random) -> bytes:
    """Return a good body with some of it replaced: a field, or bytes."""
    body: dict[str, Any] = {
        **HELLO,
        "max_tokens": dice.randint(1, 20),
        "stop": ["zz"],
        "temperature": 0.5,
        "stream": dice.random() < 0.5,
    }
    for _ in range(dice.randint(0, 3)):
        body[dice.choice([*body, "n", "tools", "seed", "top_p", "logprobs"])] = dice.choice(
            ODD_VALUES
        )
    raw = bytearray(json.dumps(body).encode())
    if dice.random() < 0.3:
        for _ in range(dice.randint(1, 10)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
    if dice.random() < 0.1:
        del raw[dice.randrange(len(raw)) :]
    return bytes(raw)


async def test_a_body_that_does_not_arrive_is_refused(start_service: Starter) -> None:
    service = start_service(body_timeout_s=0.2)
    await service.until(lambda status: status["ready"])
    host, port = service.url.removeprefix("http://").removesuffix("/v1").split(":")
    with anyio.fail_after(20):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 100\r\n\r\n{"
            )
            answer = await stream.receive()
    assert answer.startswith(b"HTTP/1.1 400")
    assert await service.outcomes(1) == {"invalid": 1}
