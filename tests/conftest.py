"""What every test shares: the event loop it runs on, and how examples are generated."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from harness.service import Starter
from hypothesis import HealthCheck, settings

from locktender.model.catalogue import find_known
from locktender.model.engine import EngineSpec, Stepper, load_engine
from locktender.model.weights import cache_root, pull

# A slow machine is not a failure: no example has a time limit of its own, and pytest-timeout
# bounds the whole test.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every asynchronous test on asyncio, the loop that the product runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The weights of the real model; fetched once, then they are in the user's cache."""
    model = find_known("smollm2-135m-instruct")
    assert model
    return pull(model, cache_root())


@pytest.fixture(scope="session")
def openvino_stepper(smollm2: Path) -> Iterator[Stepper]:
    """The real model, loaded once: whoever uses it leaves it without work."""
    spec = EngineSpec("openvino", max_running=16, source=str(smollm2))
    stepper = load_engine("openvino")(spec)
    yield stepper
    stepper.close()


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
