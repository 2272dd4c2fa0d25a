"""A real service on a real socket, started as its users start it, and what a test asks of it."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import psutil

from harness.ending import still_running

END_S = 20.0
# Where the tests find the package is where a service finds it.
_OWN = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
APPS = Path(__file__).parents[1] / "flows" / "apps"
ENGINES = (
    Path(__file__).parents[1] / "flows" / "engines"
)  # test engines, importable by name in a service


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    status: int
    text: str = ""
    finish_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    retry_after: str | None = None
    n_chunks: int = 0


@dataclass(slots=True)
class Service:
    """A running `locktender model`, and a client to it."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    client: aiohttp.ClientSession
    model: str
    n_past_bytes: int = 0  # of the log, from before this test

    async def ask(
        self,
        content: str,
        *,
        headers: Mapping[str, str] | None = None,
        on_text: Callable[[], object] = lambda: None,
        **fields: Any,
    ) -> Reply:
        """Send one chat and read its answer to the end, streamed or not.

        `on_text` is called at each piece of a stream's text.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            **fields,
        }
        async with self.client.post(
            f"{self.url}/chat/completions", json=body, headers=headers
        ) as response:
            if response.content_type == "text/event-stream":
                return await read_stream(response, on_text)
            return read_whole(response, await response.json())

    async def ask_many(
        self, contents: Sequence[str], *, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> list[Reply]:
        """Ask all at once; return the replies in the order of `contents`."""
        replies: dict[int, Reply] = {}

        async def ask(n: int) -> None:
            replies[n] = await self.ask(contents[n], headers=headers, **fields)

        with anyio.fail_after(90):
            async with anyio.create_task_group() as group:
                for n in range(len(contents)):
                    group.start_soon(ask, n)
        return [replies[n] for n in range(len(contents))]

    async def status(self) -> dict[str, Any]:
        """Return what `/readyz` says of the model."""
        async with self.client.get(f"{self.url.removesuffix('/v1')}/readyz") as response:
            models: dict[str, dict[str, Any]] = (await response.json())["models"]
        return models[self.model]

    async def until(self, holds: Callable[[dict[str, Any]], bool], within_s: float = 30.0) -> None:
        """Ask for the status until it satisfies `holds`."""
        with anyio.fail_after(within_s):
            while not holds(await self.status()):
                await anyio.lowlevel.checkpoint()

    async def until_quiet(self, within_s: float = 30.0) -> None:
        """Wait until nothing runs and nothing waits."""
        await self.until(lambda status: status["running"] == status["waiting"] == 0, within_s)

    def engine_pids(self) -> list[int]:
        """Return the engine processes."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind that the log holds so far."""
        written = self.log.read_bytes()[self.n_past_bytes :]
        lines = [json.loads(line) for line in written.rpartition(b"\n")[0].splitlines()]
        return [line for line in lines if line["event"] == kind]

    async def outcomes(self, n_requests: int) -> dict[str, int]:
        """Count the requests by their outcome, once the log has the end of so many."""
        with anyio.fail_after(10):
            while len(self.events("RequestEnded")) < n_requests:
                await anyio.lowlevel.checkpoint()
        assert len(self.events("RequestReceived")) == n_requests
        return dict(Counter(event["outcome"] for event in self.events("RequestEnded")))

    async def turn_page(self) -> None:
        """Wait until nothing is going on any more, and leave all that is in the log behind."""
        await self.until_quiet()
        with anyio.fail_after(10):
            while len(self.events("RequestEnded")) < len(self.events("RequestReceived")):
                await anyio.lowlevel.checkpoint()
        self.n_past_bytes = self.log.read_bytes().rfind(b"\n") + 1


class Starter:
    """Starts services in a folder, and ends them all."""

    def __init__(
        self,
        folder: Path,
        client: aiohttp.ClientSession | None,
        environment: Mapping[str, str] | None = None,
        **popen: Any,
    ) -> None:
        self._folder = folder
        self._client = client  # None: of those that are started each gets its own
        paths = {"PYTHONPATH": os.pathsep.join(map(str, (ENGINES, APPS, *_OWN)))}
        self._environment = {**os.environ, **paths, **(environment or {})}
        self._popen = popen
        self._started: list[subprocess.Popen[str]] = []

    def __call__(
        self, table: Mapping[str, Any] | None = None, model: str = "echo", **settings: Any
    ) -> Service:
        """Start a service of one model, whose table and settings are given."""
        assert self._client
        return self.start(table, model, **settings)(self._client)

    def start(
        self, table: Mapping[str, Any] | None = None, model: str = "echo", **settings: Any
    ) -> Callable[[aiohttp.ClientSession], Service]:
        """Do the same, and return what gives the service to a client."""
        folder = self._folder / f"service-{len(self._started)}"
        folder.mkdir()
        toml = _toml(model, {"engine": "echo", **(table or {})}, settings)
        process = self._run(folder, toml, ["model", model, "--port", "0"])
        url = _read_url(process)
        return lambda client: Service(process, url, folder / "events.jsonl", client, model)

    def serve(
        self,
        target: str,
        table: Mapping[str, Any] | None = None,
        *,
        n_workers: int = 1,
        model: str = "echo",
        **settings: Any,
    ) -> tuple[str, Service]:
        """Start an app over a service of one model; return the app's URL, and the service."""
        assert self._client
        url, of_client = self.start_app(target, table, n_workers=n_workers, model=model, **settings)
        return url, of_client(self._client)

    def start_app(
        self,
        target: str,
        table: Mapping[str, Any] | None = None,
        *,
        n_workers: int = 1,
        model: str = "echo",
        **settings: Any,
    ) -> tuple[str, Callable[[aiohttp.ClientSession], Service]]:
        """Do the same, and return what gives the service to a client."""
        folder = self._folder / f"service-{len(self._started)}"
        folder.mkdir()
        toml = _toml(model, {"engine": "echo", **(table or {})}, settings)
        flags = ["--port", "0", "--model-port", "0", "--workers", str(n_workers)]
        process = self._run(folder, toml, ["serve", target, *flags])
        url, model_url = _read_url(process), _read_url(process)
        log = folder / "events.jsonl"
        return url, lambda client: Service(process, model_url, log, client, model)

    def _run(self, folder: Path, toml: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
        (folder / "locktender.toml").write_text(toml)
        program = str(Path(sys.executable).with_name("locktender"))
        process = subprocess.Popen(
            [program, *arguments, "--log", "events.jsonl"],
            cwd=folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            **self._popen,
        )
        self._started.append(process)
        return process

    def end_all(self) -> None:
        """Kill every service and see its engines end with it."""
        for process in self._started:
            children = _children(process)
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
            assert not still_running(children, within_s=END_S)


def read_whole(response: aiohttp.ClientResponse, body: Mapping[str, Any]) -> Reply:
    """Read an answer that was not streamed."""
    if response.status != 200:
        retry_after = response.headers.get("Retry-After")
        return Reply(response.status, error=body["error"], retry_after=retry_after)
    choice = body["choices"][0]
    return Reply(
        200, choice["message"]["content"], choice["finish_reason"], body["usage"], n_chunks=1
    )


async def read_stream(
    response: aiohttp.ClientResponse, on_text: Callable[[], object] = lambda: None
) -> Reply:
    """Read a streamed answer, to its end."""
    text, finish_reason, n_chunks = "", None, 0
    usage: dict[str, int] = {}
    error: dict[str, Any] = {}
    async for line in response.content:
        if not line.startswith(b"data: ") or line == b"data: [DONE]\n":
            continue
        body = json.loads(line.removeprefix(b"data: "))
        error = body.get("error", error)
        usage = body.get("usage") or usage
        for choice in body.get("choices", ()):
            if choice["delta"].get("content"):
                n_chunks += 1
                text += choice["delta"]["content"]
                on_text()
            finish_reason = choice["finish_reason"] or finish_reason
    return Reply(200, text, finish_reason, usage, error, n_chunks=n_chunks)


def _read_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().split()[-1]


def _children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _toml(model: str, table: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    options = table.get("options", {})
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    lines.append(f"[models.{model}]")
    lines += [f"{name} = {json.dumps(value)}" for name, value in table.items() if name != "options"]
    lines.append(f"[models.{model}.options]")
    lines += [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    return "\n".join(lines)
