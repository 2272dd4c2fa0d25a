"""Callers behind a probe, as behind a proxy: they ask until `/readyz` says to ask no more."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import anyio

from harness.service import read_stream

__all__ = ["ANSWER", "ProbedLoad", "is_ready", "until_ready"]

BODY = {"input": {"text": "repeat 5: on"}}
ANSWER = "on on on on on"


@dataclass
class ProbedLoad:
    """Runs, streams and the model's own streams, in turns."""

    client: aiohttp.ClientSession
    url: str  # of the app
    model_url: str
    wrong: list[object] = field(default_factory=list)
    right: Counter[str] = field(default_factory=Counter)
    has_ended: bool = False

    async def probe(self, pause: Callable[[], Awaitable[None]]) -> None:
        """Ask whether requests should come, with a pause before each time."""
        while not self.has_ended:
            await pause()
            self.has_ended = not await is_ready(self.client, self.url)

    async def call(self, n: int) -> None:
        """Be one caller of many."""
        ask = (self.invoke, self.stream, self.chat)[n % 3]
        while not self.has_ended:
            try:
                answer = await ask()
            except aiohttp.ClientError as error:
                answer = error
            if answer == ANSWER:
                self.right[ask.__name__] += 1
            else:
                self.wrong.append(answer)

    async def invoke(self) -> object:
        """Run the chain."""
        async with self.client.post(f"{self.url}/chain/invoke", json=BODY) as response:
            return (await response.json()).get("output", response.status)

    async def stream(self) -> object:
        """Stream the chain."""
        text, event = "", ""
        async with self.client.post(f"{self.url}/chain/stream", json=BODY) as response:
            async for line in response.content:
                name, _, value = line.decode().strip().partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == "data":
                    text += json.loads(value)
        return text if event == "end" else (response.status, event, text)

    async def chat(self) -> object:
        """Stream from the model's own port."""
        body = {"model": "echo", "messages": [{"role": "user", "content": "repeat 5: on"}]}
        async with self.client.post(
            f"{self.model_url}/chat/completions", json={**body, "stream": True}
        ) as response:
            if response.status != 200:
                return response.status
            reply = await read_stream(response)
        return reply.text if reply.finish_reason else reply


async def is_ready(client: aiohttp.ClientSession, url: str) -> bool:
    """Probe once."""
    async with client.get(f"{url}/readyz") as response:
        told = await response.json()
    assert (response.status == 200) is told["ready"]
    return response.status == 200


async def until_ready(client: aiohttp.ClientSession, url: str) -> None:
    """Probe until requests may come."""
    with anyio.fail_after(60):
        while not await is_ready(client, url):
            await anyio.lowlevel.checkpoint()
