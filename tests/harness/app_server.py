"""A user's FastAPI app on a real socket, in the loop of the test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import anyio
import pytest
import uvicorn
from fastapi import FastAPI

Serve: TypeAlias = Callable[[FastAPI], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Give a function that serves an app and returns its address; all of them end with the test."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(app: FastAPI) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        running.append((server, task))
        with anyio.fail_after(20):
            while not server.started:
                await anyio.lowlevel.checkpoint()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    # The last one first: each puts back the signal handlers that it found.
    for server, task in reversed(running):
        server.should_exit = True
        with anyio.fail_after(20):
            await task
