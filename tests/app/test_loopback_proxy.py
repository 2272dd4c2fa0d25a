"""What runs on this machine is reached directly, whatever proxy the environment names."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda

from harness.app_server import Serve
from locktender import ChatLocktender, RemoteRunnable, add_routes
from locktender.app.client_http import past_proxies

PROXY = "http://127.0.0.1:9"  # where nobody listens
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "here"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


@pytest.fixture(autouse=True)
def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, PROXY)
        monkeypatch.setenv(name.lower(), PROXY)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def app() -> FastAPI:
    made = FastAPI()
    add_routes(made, RunnableLambda(lambda value: value + 1), path="/run")
    made.post("/v1/chat/completions")(lambda: COMPLETION)
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_remote_runnable_on_this_machine_needs_no_proxy(host: str, serve: Serve) -> None:
    url = (await serve(app())).replace("127.0.0.1", host)
    remote: RemoteRunnable[int, int] = RemoteRunnable(f"{url}/run")
    assert await remote.ainvoke(1) == 2
    assert await asyncio.to_thread(remote.invoke, 1) == 2
    assert [chunk async for chunk in remote.astream(1)] == [2]


async def test_a_chat_model_on_this_machine_needs_none(serve: Serve) -> None:
    chat = ChatLocktender(base_url=f"{await serve(app())}/v1", model="m")
    assert (await chat.ainvoke("x")).content == "here"
    assert (await asyncio.to_thread(chat.invoke, "x")).content == "here"


def goes_past(url: str, to: str | None = None, **settings: Any) -> bool:
    """Whether a client for `url` reaches `to` by the transport that uses no proxy."""
    with httpx.Client(base_url=url, **past_proxies(url, settings)) as client:
        direct = client._transport  # noqa: SLF001 - httpx does not say by which way it goes
        return client._transport_for_url(httpx.URL(to or url)) is direct  # noqa: SLF001 - as above


@pytest.mark.parametrize(
    "url", ["http://localhost:1/a", "http://127.9.9.9", "https://[::1]:8000", "http://LOCALHOST"]
)
def test_every_name_of_this_machine_is_known(url: str) -> None:
    assert goes_past(url)


def test_other_hosts_and_what_a_user_names_himself_keep_their_proxy() -> None:
    assert not goes_past("http://example.org")
    assert not goes_past("http://127.0.0.1", "http://example.org")
    assert not goes_past("http://127.0.0.1", proxy=PROXY)
    assert not goes_past("http://127.0.0.1", mounts={"all://": httpx.HTTPTransport()})
