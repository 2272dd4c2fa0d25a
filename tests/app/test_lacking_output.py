"""Outputs of what JSON lacks, over a real socket: every endpoint writes them, on both wires."""

import datetime as dt
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from fastapi import FastAPI
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from harness.app_server import Serve
from locktender import RemoteRunnable, add_routes

ENDPOINTS = ("invoke", "batch", "stream", "stream_log", "stream_events")
VALUES: dict[str, tuple[Any, Any]] = {
    "number": (np.float32(0.5), 0.5),
    "array": (np.array([1, 2]), [1, 2]),
    "decimal": (Decimal("1.50"), "1.50"),
    "path": (Path("a/b"), "a/b"),
    "duration": (dt.timedelta(minutes=1), "PT1M"),
    "set": ({"b", "a"}, ["a", "b"]),
    "text": (b"ab", "ab"),
    "bytes": (b"\xff", "/w=="),
}


def made(name: str) -> Any:
    value = VALUES[name][0]
    return {"value": value, "found": [Document("d", metadata={"value": value})]}


def lacking_app() -> FastAPI:
    app = FastAPI()
    # Two steps, so that logs and events tell of it as an output and as an input.
    add_routes(app, RunnableLambda(made) | RunnableLambda(lambda value: value), path="/made")
    add_routes(app, RunnableLambda(lambda _: {"a": [{"size": 1j}]}), path="/bad")
    return app


def told(value: Any, key: str) -> Iterator[Any]:
    """Yield whatever stands below `key`, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from told(item, key)
    elif isinstance(value, dict):
        yield from ([value[key]] if key in value else [])
        for item in value.values():
            yield from told(item, key)


def frames(body: str) -> list[Any]:
    """Return the data of each event, or the whole of an answer that is no stream."""
    lines = [line[6:] for line in body.split("\r\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines or [body]]


async def test_every_endpoint_writes_them(serve: Serve, client: aiohttp.ClientSession) -> None:
    url = await serve(lacking_app())
    for endpoint, (name, (_, written)) in product(ENDPOINTS, VALUES.items()):
        body = {"inputs": [name]} if endpoint == "batch" else {"input": name}
        async with client.post(f"{url}/made/{endpoint}", json=body) as response:
            text = await response.text()
        assert response.status == 200
        assert "event: error" not in text
        values = [each for each in told(frames(text), "metadata") if "value" in each]
        assert values
        assert all(each == {"value": written} for each in values)
        assert written in list(told(frames(text), "value"))


async def test_they_are_tagged_only_where_that_was_agreed(serve: Serve) -> None:
    url = await serve(lacking_app())
    remote: RemoteRunnable[str, Any] = RemoteRunnable(f"{url}/made")
    extended: RemoteRunnable[str, Any] = RemoteRunnable(f"{url}/made", extensions=True)
    for name, (value, written) in VALUES.items():
        plain = await remote.ainvoke(name)
        assert plain == {"value": written, "found": [Document("d", metadata={"value": written})]}
        whole = await extended.ainvoke(name)
        is_tagged = name in {"decimal", "duration", "set", "text", "bytes"}
        assert whole["value"] == (value if is_tagged else written)
        assert whole["found"][0].metadata == {"value": whole["value"]}


@pytest.mark.parametrize("headers", [{}, {"X-Locktender-Extensions": "1"}])
async def test_what_json_cannot_hold_fails_and_the_log_names_its_key(
    headers: dict[str, str],
    serve: Serve,
    client: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = await serve(lacking_app())
    for endpoint in ENDPOINTS:
        body = {"inputs": [1]} if endpoint == "batch" else {"input": 1}
        caplog.clear()
        with caplog.at_level(logging.ERROR, logger="locktender"):
            async with client.post(f"{url}/bad/{endpoint}", json=body, headers=headers) as response:
                text = await response.text()
        is_stream = endpoint.startswith("stream")
        assert response.status == (200 if is_stream else 500)
        assert ("event: error" in text) == is_stream
        assert "size" not in text
        assert "['a'][0]['size'] cannot be written as JSON" in caplog.text
