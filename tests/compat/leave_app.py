"""A route whose runs never end, and one that tells when the caller of such a run has left."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from langchain_core.runnables import RunnableGenerator, RunnableLambda

LEAVE_S = 20


def add(app: FastAPI, add_routes: Any) -> None:
    """Add `/wait`, which is given a name, and `/left`, which says if the caller of it has left."""
    left: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def wait(names: AsyncIterator[str]) -> AsyncIterator[str]:
        async for name in names:
            try:
                yield "begun"
                await asyncio.Event().wait()
            finally:
                left[name].set()

    async def has_left(name: str) -> bool:
        try:
            await asyncio.wait_for(left[name].wait(), LEAVE_S)
        except TimeoutError:
            return False
        return True

    add_routes(app, RunnableGenerator(wait), path="/wait", input_type=str)
    add_routes(app, RunnableLambda(has_left), path="/left")
