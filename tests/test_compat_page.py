"""The page of a route, for apps that serve it by LangServe's function."""

import json
import re
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from starlette.responses import Response

from locktender.compat_page import serve_playground


def add_one(x: int) -> int:
    return x + 1


async def served(file_path: str, **changes: Any) -> Response:
    runnable: RunnableLambda[int, int] = RunnableLambda(add_one)
    parts: dict[str, Any] = {
        "runnable": runnable,
        "input_schema": runnable.get_input_schema(),
        "output_schema": runnable.get_output_schema(),
        "config_keys": ["configurable"],
        "base_url": "add_one/playground",
        "file_path": file_path,
        "feedback_enabled": True,
        "public_trace_link_enabled": False,
        "playground_type": "default",
    }
    return await serve_playground(**{**parts, **changes})


def settings_of(page: str) -> dict[str, Any]:
    found = re.search(r"\{.*FEEDBACK_ENABLED.*\}", page)
    assert found, page
    settings: dict[str, Any] = json.loads(found[0])
    return settings


@pytest.mark.parametrize("base_url", ["add_one/playground", "/add_one/playground/"])
@pytest.mark.parametrize("file_path", ["", "index.html"])
async def test_the_page_knows_where_it_is_and_what_it_is_for(base_url: str, file_path: str) -> None:
    response = await served(file_path, base_url=base_url)
    page = bytes(response.body).decode()
    assert response.status_code == 200
    assert '"/add_one/playground/assets/' in page
    assert settings_of(page)["INPUT_SCHEMA"] == {"title": "add_one_input", "type": "integer"}
    assert settings_of(page)["FEEDBACK_ENABLED"] == "true"
    assert settings_of(page)["PUBLIC_TRACE_LINK_ENABLED"] == "false"


@pytest.mark.parametrize("file_path", ["nothing.js", "../playground.py", "/etc/hosts"])
async def test_what_is_no_file_of_the_page_is_not_found(file_path: str) -> None:
    assert (await served(file_path)).status_code == 404
