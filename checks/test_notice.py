"""Nobody is turned away by a service that ends behind a proxy which looks ten times a second."""

import signal
from functools import partial

import aiohttp
import anyio

from harness.probed_load import ProbedLoad, until_ready
from harness.service import Starter

N_REQUESTS = 500
N_CALLERS = 48
TABLE = {"max_running": 64, "max_waiting": 1000, "options": {"tokens_per_s": 400}}


async def test_of_500_requests_none_is_refused_cut_or_turned_away(
    start_service: Starter, client: aiohttp.ClientSession
) -> None:
    url, service = start_service.serve("chains:app", TABLE, n_workers=2)
    await until_ready(client, url)
    load = ProbedLoad(client, url, service.url)
    with anyio.fail_after(300):
        async with anyio.create_task_group() as group:
            group.start_soon(load.probe, partial(anyio.sleep, 0.1))
            for n in range(N_CALLERS):
                group.start_soon(load.call, n)
            # The last of them are under way, or come, when the signal does.
            while load.right.total() + len(load.wrong) < N_REQUESTS - N_CALLERS:  # noqa: ASYNC110 - the callers tell nobody
                await anyio.sleep(0.01)
            service.process.send_signal(signal.SIGTERM)
    print(f"right: {dict(load.right)}, wrong: {load.wrong}")
    assert load.wrong == []
    assert load.right.total() >= N_REQUESTS
    assert service.process.wait(60) == 0
