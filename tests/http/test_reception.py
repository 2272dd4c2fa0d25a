"""What a server of ours does for each request, asked of the whole stack."""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from locktender.http import access
from locktender.http.door import Wire
from locktender.http.reception import Reception
from locktender.http.settings import Doors, DoorSettings
from locktender.http.stack import server_config
from locktender.wire.problem import langserve_problem, openai_problem

LANGSERVE = Wire(langserve_problem, takes_x_api_key=True)
OPENAI = Wire(openai_problem, takes_x_api_key=False)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/before":
        raise ValueError("a secret")
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"12345", "more_body": True})
    if scope["path"] == "/after":
        raise ValueError("too late")
    if scope["path"] == "/left":
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.body", "body": b"678"})


async def asked(
    path: str = "/run",
    headers: Mapping[str, str] | None = None,
    *,
    wire: Wire = LANGSERVE,
    settings: DoorSettings | None = None,
    peer: str = "192.0.2.7",
) -> httpx.Response:
    config = server_config(app, Doors(settings or DoorSettings()), wire, ws="none")
    config.load()
    transport = httpx.ASGITransport(config.loaded_app, client=(peer, 1), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(path, headers=headers)


@pytest.fixture
def lines() -> Iterator[list[logging.LogRecord]]:
    """Give the lines of the access log, which is switched on."""
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("locktender.access")
    listener = logging.Handler()
    listener.emit = records.append  # type: ignore[method-assign,assignment]  # that is all
    logger.addHandler(listener)
    access.switch(is_on=True)
    yield records
    access.switch(is_on=False)
    logger.removeHandler(listener)


def fields_of(records: list[logging.LogRecord]) -> dict[str, Any]:
    (record,) = records
    fields: dict[str, Any] = vars(record)["fields"]
    return fields


@pytest.mark.parametrize("wire", [LANGSERVE, OPENAI])
async def test_every_answer_has_an_id_those_of_the_doors_too(wire: Wire) -> None:
    mine = {"X-Request-Id": "mine"}
    shut = DoorSettings(api_keys=("k",))
    for settings, headers, status in (
        (None, {}, 201),
        (shut, {}, 401),
        (None, {"Host": "evil.example"}, 403),
    ):
        answer = await asked(headers={**headers, **mine}, settings=settings, wire=wire)
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "mine")
        answer = await asked(headers=headers, settings=settings, wire=wire)
        assert len(answer.headers["x-request-id"]) == 32


async def test_a_request_that_is_over_has_a_line(lines: list[logging.LogRecord]) -> None:
    await asked("/chain/c/secret/invoke?api_key=secret", {"X-Request-Id": "mine"})
    fields = fields_of(lines)
    assert fields.pop("duration_s") >= 0
    assert fields == {
        "request_id": "mine",
        "method": "POST",
        "status": 201,
        "bytes": 8,
        "client": "192.0.2.7",
        "left": None,
    }
    assert lines[0].getMessage() == "POST /chain/c/*/invoke 201"


async def test_what_the_doors_refuse_has_one_too(lines: list[logging.LogRecord]) -> None:
    await asked(settings=DoorSettings(api_keys=("k",)))
    assert fields_of(lines)["status"] == 401


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(("peer", "client"), [("127.0.0.1", "10.1.2.3"), ("192.0.2.7",) * 2])
async def test_whom_a_proxy_speaks_for_is_told_where_the_proxy_is_trusted(
    peer: str, client: str, prefix: str, lines: list[logging.LogRecord]
) -> None:
    settings = DoorSettings(root_path=prefix)
    await asked(headers={"X-Forwarded-For": "10.1.2.3"}, settings=settings, peer=peer)
    assert fields_of(lines)["client"] == client


async def test_without_being_asked_for_there_are_no_lines_whatever_an_app_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        await asked()
    assert [each for each in caplog.records if each.name == "locktender.access"] == []


@pytest.mark.parametrize("wire", [LANGSERVE, OPENAI])
async def test_a_fault_that_nobody_has_answered_is_a_500_in_each_wires_form(
    wire: Wire, lines: list[logging.LogRecord]
) -> None:
    answer = await asked("/before", wire=wire)
    assert answer.status_code == 500
    assert answer.json() == json.loads(wire.problem_of(ValueError()).body)
    assert answer.headers["x-request-id"] == fields_of(lines)["request_id"]


async def test_after_the_status_line_a_fault_cuts_the_answer(
    lines: list[logging.LogRecord],
) -> None:
    await asked("/after")
    assert (fields_of(lines)["status"], fields_of(lines)["bytes"]) == (201, 5)


async def test_a_caller_that_left_is_told_as_that(lines: list[logging.LogRecord]) -> None:
    config = server_config(app, Doors(), LANGSERVE, ws="none")
    config.load()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/left", "headers": [(b"host", b"localhost")]}
    await config.loaded_app({**scope, "client": None}, receive, send)
    assert (fields_of(lines)["left"], fields_of(lines)["client"]) == (True, None)


async def test_what_opens_a_websocket_has_the_id_too(lines: list[logging.LogRecord]) -> None:
    sent: list[Message] = []

    async def accept(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": [(b"x-own", b"1")]})
        await send({"type": "websocket.send", "text": "hello"})

    async def keep(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/run", "headers": [(b"x-request-id", b"mine")]}
    await Reception(accept, langserve_problem)(scope, receive, keep)
    assert sent[0]["headers"] == [(b"x-own", b"1"), (b"x-request-id", b"mine")]
    assert sent[1] == {"type": "websocket.send", "text": "hello"}
    (line,) = lines
    assert line.getMessage() == "WEBSOCKET /run 101"
