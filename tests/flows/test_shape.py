"""Chains of each make give over HTTP what they give in process, or a difference that is listed.

What a chain fails at in process may fail over HTTP; what it answers must be answered the same, by
each method.  `compat` has the same by LangServe's own client, and from LangServe's server.
"""

from itertools import product
from typing import Any

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


async def differing(address: str, *, extensions: bool) -> set[tuple[str, str]]:
    """Return the heads and inputs of which something else comes out over HTTP."""
    found = set()
    remotes: dict[str, Runnable[Any, Any]] = {
        head: RemoteRunnable(f"{address}/{head}", extensions=extensions, verify=False)
        for head in HEADS
    }
    for head, (kind, value) in product(HEADS, INPUTS.items()):
        here, remote = await told(in_process(head, value)), remotes[head]
        if here is None:
            continue
        there = [await told(remote.ainvoke(value, CONFIG))]
        # The extended wire differs in how values are written, which one method shows.
        if not extensions:
            there += await told(remote.abatch([value], CONFIG)) or [None]
            there += [await told(summed(remote, value))]
        if any(each != here for each in there):
            found.add((head, kind))
    return found


async def test_what_runs_in_process_runs_over_http(serve: Serve) -> None:
    app = FastAPI()
    for head, runnable in HEADS.items():
        add_routes(app, runnable, path=f"/{head}")
    address = await serve(app)
    assert await differing(address, extensions=False) == DECLARED.keys() | AS_JSON.keys()
    assert await differing(address, extensions=True) == DECLARED.keys()
