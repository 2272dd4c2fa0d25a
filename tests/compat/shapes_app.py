"""Chains of each make, and some that LangServe cannot describe, behind routes."""

import contextlib
from collections.abc import Iterator
from typing import Any, TypedDict

from fastapi import FastAPI
from langchain_core.runnables import Runnable, RunnableLambda

from harness.shape import HEADS


class Typed(TypedDict):
    """One of `typing`'s, of which pydantic takes none before Python 3.12."""

    a: int


class Unknown:
    """A class of which JSON knows nothing."""


def takes(kind: Any) -> Runnable[Any, Any]:
    def run(value: Any) -> Any:
        return value

    run.__annotations__ = {"value": kind}
    return RunnableLambda(run)


def letters(value: str) -> Any:
    yield from value


def odd() -> Iterator[tuple[str, Runnable[Any, Any]]]:
    yield "typed_dict", takes(Typed)
    yield "class", takes(Unknown)
    yield "unknown_name", takes("nowhere.Nothing")
    yield "generator", RunnableLambda(letters)


def add(app: FastAPI, add_routes: Any) -> None:
    for head, runnable in HEADS.items():
        add_routes(app, runnable, path=f"/shape/{head}")
    apart = FastAPI()  # with a document of its own, that LangServe cannot make
    for name, runnable in odd():
        with contextlib.suppress(Exception):  # a package that cannot serve it answers 404
            add_routes(apart, runnable, path=f"/{name}")
    app.mount("/odd", apart)
