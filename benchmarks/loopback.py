"""A model service of its own and raw connections to it, for benchmarks.

The connections are no more than HTTP/1.1 over asyncio's streams: what a client library costs would
be counted as the service's, because both have the same cores.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, cast
from urllib.parse import urlsplit

READ_BYTES = 64 * 1024
END = b"\r\n0\r\n\r\n"  # of a body in chunks
READY_S = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A streamed answer, as it came."""

    raw: bytes
    first_s: float  # from sending the request to the first event

    def text(self) -> str:
        """Return the whole text."""
        return "".join(
            choice["delta"].get("content") or ""
            for event in self._events()
            for choice in event.get("choices", ())
        )

    def n_tokens(self) -> int:
        """Return the number of generated tokens."""
        usages = [usage for event in self._events() if (usage := event.get("usage"))]
        return int(usages[-1]["completion_tokens"])

    def _events(self) -> Iterator[Mapping[str, Any]]:
        for line in self.raw.splitlines():
            if line.startswith(b"data: {"):
                yield json.loads(line.removeprefix(b"data: "))


@dataclass(frozen=True, slots=True)
class Service:
    """A running `locktender model` of one model."""

    process: subprocess.Popen[str]
    host: str
    port: int
    model: str

    def request(self, content: str, max_tokens: int) -> bytes:
        """Return a chat request, to be streamed, as it goes over the connection."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        encoded = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(encoded)}\r\n\r\n"
        )
        return head.encode() + encoded

    async def until_ready(self) -> None:
        """Wait until the engine is loaded."""
        probe = f"GET /readyz HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n".encode()
        async with asyncio.timeout(READY_S):
            status = b""
            while b" 200 " not in status:
                await asyncio.sleep(0.2)
                reader, writer = await asyncio.open_connection(self.host, self.port)
                writer.write(probe)
                status = await reader.readline()
                writer.close()


class Connection:
    """A connection that is kept alive; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, service: Service) -> Self:
        """Connect to `service`."""
        return cls(*await asyncio.open_connection(service.host, service.port))

    async def ask(self, request: bytes) -> Answer:
        """Send `request` and read the stream to its end."""
        began_at = time.perf_counter()
        self._writer.write(request)
        first_s = 0.0
        raw = bytearray()
        while not raw.endswith(END):
            chunk = await self._reader.read(READ_BYTES)
            if not chunk or (raw[:15].startswith(b"HTTP/1.1 ") and raw[9:12] != b"200"):
                message = f"The service said: {bytes(raw[-500:])!r}"
                raise RuntimeError(message)
            raw += chunk
            if not first_s and b"data: {" in chunk:
                first_s = time.perf_counter() - began_at
        return Answer(bytes(raw), first_s)

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()


@contextmanager
def running_service(model: str, table: Mapping[str, Any]) -> Iterator[Service]:
    """Run a service of `model`, whose table is given, in a folder of its own."""
    lines = [f"[models.{model}]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in table.items() if name != "options"]
    lines.append(f"[models.{model}.options]")
    lines += [f"{name} = {json.dumps(value)}" for name, value in table.get("options", {}).items()]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "locktender.toml").write_text("\n".join(lines), encoding="utf-8")
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("locktender")),
                *("model", model, "--port", "0", "--log", "events.jsonl"),
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            output = cast("IO[str]", process.stdout)
            url = urlsplit(output.readline().split()[-1])
            yield Service(process, url.hostname or "", url.port or 0, model)
        finally:
            process.terminate()
            process.communicate()
