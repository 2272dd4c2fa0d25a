"""Chains of each make give over HTTP what they give in process, or a difference that is listed.

What a chain fails at in process may fail over HTTP; what it answers must be answered the same, by
each method.  `compat` has the same by LangServe's own client, and from LangServe's server.
"""

from itertools import product
from typing import Any

import pytest
from fastapi import FastAPI
from langchain_core.runnables import Runnable

from harness.app_server import Serve, serve
from harness.shape import AS_JSON, CONFIG, DECLARED, HEADS, INPUTS, in_process
from locktender import RemoteRunnable, add_routes

__all__ = ["serve"]


async def told(call: Any) -> Any:
    """Return what comes out, or None for an error of whatever kind."""
    try:
        return await call
    except Exception:  # noqa: BLE001 - in process and over HTTP they differ
        return None


async def summed(runnable: Runnable[Any, Any], value: Any) -> Any:
    total: Any = None
    async for chunk in runnable.astream(value, CONFIG):
        total = chunk if total is None else total + chunk
    return total


async def by_each_method(remote: Runnable[Any, Any], value: Any) -> list[Any]:
    batch = await told(remote.abatch([value, value], CONFIG))
    one, stream = await told(remote.ainvoke(value, CONFIG)), await told(summed(remote, value))
    return [one, stream, *(batch or [None, None])]


@pytest.mark.parametrize("extensions", [False, True])
async def test_what_runs_in_process_runs_over_http(serve: Serve, extensions: bool) -> None:
    app = FastAPI()
    for head, runnable in HEADS.items():
        add_routes(app, runnable, path=f"/{head}")
    address = await serve(app)
    found = {}
    for head, kind in product(HEADS, INPUTS):
        here = await told(in_process(head, INPUTS[kind]))
        if here is None:
            continue
        remote: Runnable[Any, Any] = RemoteRunnable(f"{address}/{head}", extensions=extensions)
        for there in await by_each_method(remote, INPUTS[kind]):
            if here != there:
                found[head, kind] = (here, there)
    assert found.keys() == (DECLARED if extensions else {**DECLARED, **AS_JSON}).keys()
