"""What the checks share with the tests: a real service on a real socket, and the real model."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from harness.fixture import anyio_backend, own_state, smollm2, start_service

__all__ = ["anyio_backend", "client", "own_state", "smollm2", "start_service"]


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client that waits as long as a check may take."""
    timeout = aiohttp.ClientTimeout(total=400)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout
    ) as session:
        yield session
