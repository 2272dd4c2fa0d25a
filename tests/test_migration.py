"""The examples of docs/migration.md are files, and do what the page says of them."""

import asyncio
import runpy
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from fastapi import FastAPI

from compat.js.client import packages_folder, program
from harness.app_server import Serve, serve
from harness.hf_folder import hf_folder
from locktender import compat

__all__ = ["hf_folder", "serve"]

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = DOCS / "examples" / "migration"
ADDRESS = "http://127.0.0.1:8000"
RAIN = "Rain is water that falls from the sky."


@pytest.fixture
def without_langserve_afterwards() -> Iterator[None]:
    yield
    compat.uninstall()


def app_of(example: str) -> FastAPI:
    app = runpy.run_path(str(EXAMPLES / example))["app"]
    assert isinstance(app, FastAPI)
    return app


async def output_of(client: aiohttp.ClientSession, url: str, value: Any) -> Any:
    async with client.post(f"{url}/invoke", json={"input": value}) as response:
        assert response.status == 200, await response.text()
        return (await response.json())["output"]


async def printed(*command: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    with anyio.fail_after(60):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.iterdir()))
def test_the_page_shows_every_example_as_it_is(example: str) -> None:
    page = (DOCS / "migration.md").read_text(encoding="utf-8")
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    language = {".py": "python", ".mjs": "js"}[Path(example).suffix]
    assert f"```{language}\n{text}```\n" in page


async def test_a_server_and_a_client_of_one_changed_import(serve: Serve, tmp_path: Path) -> None:
    url = await serve(app_of("server.py"))
    source = (EXAMPLES / "client.py").read_text(encoding="utf-8")
    client = tmp_path / "client.py"
    client.write_text(source.replace(ADDRESS, url), encoding="utf-8")
    snow, hail = (RAIN.replace("Rain", name) for name in ("Snow", "Hail"))
    assert await printed(sys.executable, str(client)) == [RAIN, str([RAIN, snow]), hail]


@pytest.mark.timeout(700)  # the first run installs the client
async def test_a_client_in_javascript(serve: Serve, tmp_path: Path) -> None:
    url = await serve(app_of("server.py"))
    source = (EXAMPLES / "client.mjs").read_text(encoding="utf-8")
    client = tmp_path / "client.mjs"
    client.write_text(source.replace(ADDRESS, url), encoding="utf-8")
    packages = await asyncio.to_thread(packages_folder)
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    assert await printed(program("node"), str(client)) == [RAIN]


@pytest.mark.usefixtures("without_langserve_afterwards")
async def test_an_app_whose_imports_stay(serve: Serve, client: aiohttp.ClientSession) -> None:
    url = await serve(app_of("unchanged.py"))
    output = await output_of(client, f"{url}/weather", {"name": "Bergen"})
    assert output == "It rains in Bergen."


async def test_a_pipeline_answers_two_at_once_as_it_answers_one(
    hf_folder: Path, serve: Serve, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    source = (EXAMPLES / "pipeline.py").read_text(encoding="utf-8")
    example = tmp_path / "pipeline.py"
    name = '"HuggingFaceTB/SmolLM2-135M-Instruct"'
    assert name in source
    example.write_text(source.replace(name, repr(str(hf_folder))), encoding="utf-8")
    url = await serve(app_of(str(example)))
    topics = [{"topic": "Rain"}, {"topic": "The north wind"}]
    alone = [await output_of(client, f"{url}/say", topic) for topic in topics]
    together = await asyncio.gather(*(output_of(client, f"{url}/say", each) for each in topics))
    assert together == alone
    assert all(alone)
    assert alone[0] != alone[1]
