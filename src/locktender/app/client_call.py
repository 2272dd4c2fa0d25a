"""Make the calls of a `RemoteRunnable` that are no streams: one request, one answer.

Each is what LangChain runs within a run of the caller's, and so takes the run and the config that
it gives.  The address is relative to the client's own, because users put clients of theirs there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig

from locktender.app.client_codec import Codec

__all__ = ["abatch", "ainvoke", "batch", "invoke"]


def invoke(
    codec: Codec,
    client: httpx.Client,
    kwargs: Mapping[str, Any],
    value: Any,
    run_manager: CallbackManagerForChainRun,
    config: RunnableConfig,
) -> Any:
    """Return the output of one input.  Raises: as `RemoteRunnable.invoke`."""
    body = codec.write_one(value, config, kwargs)
    response = client.post("/invoke", content=body, headers=codec.headers)
    return codec.read_one(response, run_manager)


async def ainvoke(
    codec: Codec,
    client: httpx.AsyncClient,
    kwargs: Mapping[str, Any],
    value: Any,
    run_manager: AsyncCallbackManagerForChainRun,
    config: RunnableConfig,
) -> Any:
    """Do as `invoke`."""
    body = codec.write_one(value, config, kwargs)
    response = await client.post("/invoke", content=body, headers=codec.headers)
    return await codec.read_one_async(response, run_manager)


def batch(
    codec: Codec,
    client: httpx.Client,
    kwargs: Mapping[str, Any],
    inputs: Sequence[Any],
    run_manager: Sequence[CallbackManagerForChainRun],
    config: Sequence[RunnableConfig],
) -> list[Any]:
    """Return the outputs of all `inputs`.  Raises: as `invoke`."""
    body = codec.write_many(inputs, config, kwargs)
    response = client.post("/batch", content=body, headers=codec.headers)
    return codec.read_many(response, run_manager)


async def abatch(
    codec: Codec,
    client: httpx.AsyncClient,
    kwargs: Mapping[str, Any],
    inputs: Sequence[Any],
    run_manager: Sequence[AsyncCallbackManagerForChainRun],
    config: Sequence[RunnableConfig],
) -> list[Any]:
    """Do as `batch`."""
    body = codec.write_many(inputs, config, kwargs)
    response = await client.post("/batch", content=body, headers=codec.headers)
    return await codec.read_many_async(response, run_manager)
