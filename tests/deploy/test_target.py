"""What a target is, and what of it everybody may look at."""

from pathlib import Path
from typing import Any

import pytest

from locktender.deploy.target import Target, load_target

APP = """
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda
from locktender import add_routes

playground = RunnableLambda(lambda x: x)
app = FastAPI()


@app.get("/first/playground/{file:path}")
def mine(file: str) -> str:
    return file


add_routes(app, playground, path="/first")
add_routes(app, playground, path="/second")
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    (tmp_path / "looked_at.py").write_text(APP)
    return lambda name: load_target(f"{tmp_path / 'looked_at.py'}:{name}")


def shows(target: Target, path: str, method: str = "GET") -> bool:
    return target.shows_page({"type": "http", "method": method, "path": path, "headers": []})


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/playground/playground/", "/playground/c/N4XyA/playground/assets/x.js"),
        *("/playground/playground", "/playground/c/N4XyA/playground"),  # sent on to it
    ],
)
def test_the_index_and_the_page_of_a_runnable_are_for_everybody(load: Any, path: str) -> None:
    target = load("playground")
    assert target.is_made
    assert shows(target, path)
    assert not shows(target, path, "POST")


@pytest.mark.parametrize(
    "path",
    [
        *("/playground/invoke", "/playground/input_schema", "/playground", "/docs"),
        *("/playground/c/x/invoke", "/playground/c/playground/input_schema", "/openapi.json"),
        *("/playground/c/playground/invoke", "//playground/playground/", "/x/playground/"),
    ],
)
def test_nothing_else_of_it_is(load: Any, path: str) -> None:
    assert not shows(load("playground"), path)


def test_of_an_app_of_ones_own_only_the_pages_that_its_routes_lead_to_are(load: Any) -> None:
    target = load("app")
    assert not target.is_made
    assert shows(target, "/second/playground/")
    assert not shows(target, "/first/playground/")
    assert not shows(target, "/first/playground")
    assert not shows(target, "/")
    assert not target.shows_page({"type": "websocket", "path": "/second/playground/"})


def test_an_app_without_routes_shows_none() -> None:
    assert not shows(Target(lambda: None, is_made=False), "/playground/")
