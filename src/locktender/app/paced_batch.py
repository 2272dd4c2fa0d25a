"""Run a batch whose runs begin a few at a time, where LangChain would begin all of them at once.

A thousand first steps take the event loop a third of a second, in which nobody else is served.
LangChain's own `abatch` is that: each input's `ainvoke`, together.  A runnable that has another one
knows better what a batch is to it, and is asked; so is LangChain, where `max_concurrency` is given.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase

__all__ = ["run_batch"]

_PER_TURN = 4  # of the event loop


async def run_batch(
    runnable: Runnable[Any, Any], values: Sequence[Any], configs: Sequence[RunnableConfig]
) -> list[Any]:
    """Return the outputs, and exceptions in the place of those that there are not.

    With exceptions among the outputs: LangChain leaves the others running when one is raised, and
    nothing is to run on after the answer.
    """
    is_limited = any(config.get("max_concurrency") for config in configs)
    if is_limited or not _is_together(runnable):
        return await runnable.abatch(list(values), list(configs), return_exceptions=True)
    async with asyncio.TaskGroup() as group:
        runs = []
        for n, (value, config) in enumerate(zip(values, configs, strict=True), start=1):
            runs.append(group.create_task(_outcome(runnable, value, config)))
            if n % _PER_TURN == 0:
                await asyncio.sleep(0)
    return [run.result() for run in runs]


def _is_together(runnable: Runnable[Any, Any]) -> bool:
    """Whether a batch of `runnable` is the `ainvoke` of each input, all of them at once."""
    while isinstance(runnable, RunnableBindingBase):
        if type(runnable).abatch is not RunnableBindingBase.abatch:
            return False
        if runnable.config.get("max_concurrency"):
            return False
        runnable = runnable.bound
    return type(runnable).abatch is Runnable.abatch


async def _outcome(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig) -> Any:
    try:
        return await runnable.ainvoke(value, config)
    except Exception as error:  # noqa: BLE001 - whatever a run raises is its outcome
        return error
