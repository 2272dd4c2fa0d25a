"""What LangServe's own Python client gets of a server; run by LangServe's interpreter.

    python remote_client.py BASE_URL

Prints one JSON object: what each call gave, or the error that it raised.
"""

import asyncio
import functools
import itertools
import json
import ssl
import sys
from collections.abc import Callable
from typing import Any

import httpx
from langserve import RemoteRunnable  # type: ignore[import-not-found]  # LangServe's environment

from harness.shape import CONFIG, HEADS, INPUTS, plain


def shown(value: Any) -> Any:
    if isinstance(value, list):
        return [shown(item) for item in value]
    if hasattr(value, "content"):
        return [type(value).__name__, value.content]
    return value if isinstance(value, int | str | dict | None) else repr(value)


def told(call: Callable[[], Any]) -> Any:
    try:
        return shown(call())
    except httpx.HTTPStatusError as error:
        return {"status": error.response.status_code, "text": text_of(error.response)}


def text_of(response: httpx.Response) -> str:
    try:
        return response.text
    except httpx.ResponseNotRead:  # its client does not read the body of a refused stream
        return ""


async def asynchronous(remote: Any, values: list[Any]) -> dict[str, Any]:
    return {
        "ainvoke": shown(await remote.ainvoke(values[0])),
        "abatch": shown(await remote.abatch(values)),
        "astream": shown([chunk async for chunk in remote.astream(values[0])]),
    }


def every_call(base: str, path: str, values: list[Any]) -> dict[str, Any]:
    remote = RemoteRunnable(f"{base}{path}", timeout=30)
    return {
        "invoke": shown(remote.invoke(values[0])),
        "batch": shown(remote.batch(values)),
        "stream": shown(list(remote.stream(values[0]))),
        **asyncio.run(asynchronous(RemoteRunnable(f"{base}{path}", timeout=30), values)),
    }


def errors(base: str) -> dict[str, Any]:
    def boom() -> Any:
        # A client each: LangServe's server closes a connection that it has answered 500 on, and
        # the next request on it may be lost.
        return RemoteRunnable(f"{base}/boom", timeout=30)

    chunks: list[int] = []

    def read_on() -> None:
        chunks.extend(RemoteRunnable(f"{base}/gen_err", timeout=30).stream(1))

    async def read_on_async() -> list[Any]:
        remote = RemoteRunnable(f"{base}/boom", timeout=30)
        return [chunk async for chunk in remote.astream(1)]

    return {
        "invoke": told(lambda: boom().invoke(1)),
        "ainvoke": told(lambda: asyncio.run(RemoteRunnable(f"{base}/boom").ainvoke(1))),
        "batch": told(lambda: boom().batch([1])),
        "stream": told(lambda: list(boom().stream(1))),
        "astream": told(lambda: asyncio.run(read_on_async())),
        "late": told(read_on),
        "bad input": told(lambda: boom().invoke("x")),
        "bad input of a stream": told(lambda: list(boom().stream("x"))),
        "refusal": told(lambda: RemoteRunnable(f"{base}/teapot").invoke(1)),
    }


def configured(base: str) -> dict[str, Any]:
    remote = RemoteRunnable(f"{base}/conf", timeout=30)
    config = {"configurable": {"template": "bye {name}"}, "tags": ["t"], "metadata": {"m": 1}}
    return {
        "invoke": remote.invoke({"name": "x"}, config=config).to_string(),
        "batch": [value.to_string() for value in remote.batch([{"name": "x"}], config=[config])],
        "prompt": type(RemoteRunnable(f"{base}/cprompt").invoke({"q": "hi"})).__name__,
        "sequence": (remote | (lambda value: value.to_string())).invoke({"name": "x"}),
    }


def shapes(base: str) -> dict[str, Any]:
    """Return what each chain gives for each input, or how it was refused."""
    shared = ssl.create_default_context()  # to make one takes longer than a call

    def give(head: str, value: Any) -> Any:
        # A client each, as above.
        remote = RemoteRunnable(f"{base}/shape/{head}", timeout=30, verify=shared)
        return plain(remote.invoke(value, CONFIG))

    return {
        f"{head} {kind}": told(functools.partial(give, head, INPUTS[kind]))
        for head, kind in itertools.product(HEADS, INPUTS)
    }


if __name__ == "__main__":
    sys.tracebacklimit = 1  # a failure here must not print LangServe's source
    url = sys.argv[1]
    found = {
        "numbers": every_call(url, "/add_one", [1, 2]),
        "messages": every_call(url, "/chat", [{"question": "a"}, {"question": "b"}]),
        "strings": every_call(url, "/str", [{"question": "a"}, {"question": "b"}]),
        "documents": every_call(url, "/ret", ["q", "r"]),
        "errors": errors(url),
        "configured": configured(url),
        "shapes": shapes(url),
    }
    print(json.dumps(found))  # noqa: T201 - it is what the test reads
