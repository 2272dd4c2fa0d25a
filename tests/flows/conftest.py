"""What flows share: the real model, served once for all of them."""

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from harness.app_server import serve
from harness.service import Service
from harness.shared_service import Shared, sharing
from harness.tiny_model import GEMMA, make_tiny_model, served_by_transformers

__all__ = ["serve"]


@pytest.fixture(scope="session")
def shared_smollm2(
    smollm2: Path,  # noqa: ARG001 - pulled before the service starts
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shared]:
    with sharing(tmp_path_factory.mktemp("smollm2"), {"engine": "openvino"}, "smollm2") as shared:
        yield shared


@pytest.fixture(scope="session")
def shared_gemma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A folder of transformers, whose template is as strict as Gemma's."""
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"), GEMMA)
    with sharing(tmp_path_factory.mktemp("gemma"), served_by_transformers(folder), "gemma") as one:
        yield one


@pytest.fixture
async def smollm2_service(shared_smollm2: Shared, client: aiohttp.ClientSession) -> Service:
    """The real model; it is not to be ended."""
    return await shared_smollm2.lend(client)
