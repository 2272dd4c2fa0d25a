"""Fixtures of tests and checks alike; the `conftest` of each imports those that it offers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from harness.service import Starter
from locktender.model.catalogue import find_known
from locktender.model.weights import cache_root, pull


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every asynchronous test on asyncio, the loop that the product runs on."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have the key that processes share made in a folder of this run's, and not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("LOCKTENDER_SHARED_KEY", raising=False)
        yield


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The weights of the real model; fetched once, then they are in the user's cache."""
    model = find_known("smollm2-135m-instruct")
    assert model
    return pull(model, cache_root())


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client without a limit of connections of its own."""
    timeout = aiohttp.ClientTimeout(total=100)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout
    ) as session:
        yield session


@pytest.fixture
def start_service(tmp_path: Path, client: aiohttp.ClientSession) -> Iterator[Starter]:
    """Give a function that starts a service; all of them end with the test."""
    starter = Starter(tmp_path, client)
    yield starter
    starter.end_all()
