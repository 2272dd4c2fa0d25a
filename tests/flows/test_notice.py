"""A service that leaves behind a proxy: `/readyz` says so first, and nobody is turned away."""

import json
import os
import pty
import signal
from functools import partial
from pathlib import Path

import aiohttp
import anyio
import psutil

from harness.probed_load import ANSWER, BODY, ProbedLoad, is_ready, until_ready
from harness.service import Reply, Starter

TABLE = {"max_running": 32, "max_waiting": 1000, "options": {"tokens_per_s": 400}}
NOTICE_S = 1.5
END_S = 20.0


async def test_behind_a_probe_nobody_is_refused_cut_or_turned_away(
    start_service: Starter, client: aiohttp.ClientSession
) -> None:
    url, service = start_service.serve("chains:app", TABLE, n_workers=2, drain_notice_s=NOTICE_S)
    await until_ready(client, url)
    load = ProbedLoad(client, url, service.url)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(load.probe, anyio.lowlevel.checkpoint)
            for n in range(12):
                group.start_soon(load.call, n)
            while len(load.right) < 3 or load.right.total() < 50:
                await anyio.lowlevel.checkpoint()
            service.process.send_signal(signal.SIGTERM)
    assert load.wrong == []
    assert service.process.wait(END_S) == 0


async def test_both_ports_say_so_serve_on_and_then_refuse_until_those_inside_have_ended(
    start_service: Starter, client: aiohttp.ClientSession
) -> None:
    table = {"options": {"tokens_per_s": 40}}
    url, service = start_service.serve("chains:app", table, n_workers=2, drain_notice_s=NOTICE_S)
    await until_ready(client, url)
    root, load = service.url.removesuffix("/v1"), ProbedLoad(client, url, service.url)
    body = {"input": {"text": "repeat 120: on"}}
    with anyio.fail_after(60):
        async with client.post(f"{url}/chain/stream", json=body) as inside:
            await inside.content.readline()
            # A service manager tells all processes at once, which cuts nobody off.
            for each in psutil.Process(service.process.pid).children(recursive=True):
                for number in (signal.SIGTERM, signal.SIGHUP):
                    each.send_signal(number)
            service.process.send_signal(signal.SIGTERM)
            while await is_ready(client, url):
                await anyio.lowlevel.checkpoint()
            assert not await is_ready(client, root)
            assert await load.invoke() == await load.chat() == ANSWER
            while (late := await client.post(f"{url}/chain/invoke", json=BODY)).status == 200:
                await late.read()
            assert (late.status, (await late.json())["code"]) == (503, "draining")
            assert late.headers["retry-after"]
            for place in (url, root):
                assert not await is_ready(client, place)
                assert (await client.head(f"{place}/health")).status == 503
                assert (await client.head(f"{place}/livez")).status == 200
            rest = (await inside.read()).decode()
    chunks = [line.removeprefix("data: ") for line in rest.splitlines() if line[:7] == 'data: "']
    assert "".join(map(json.loads, chunks)).split() == ["on"] * 120  # however they were merged
    assert rest.rstrip().endswith("event: end")
    assert service.process.wait(END_S) == 0


async def test_when_its_terminal_goes_those_inside_are_served(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    ours, theirs = pty.openpty()
    starter = Starter(tmp_path, client, preexec_fn=partial(_take_terminal, os.ttyname(theirs)))
    replies: list[Reply] = []
    has_begun = anyio.Event()
    try:
        service = starter({"options": {"tokens_per_s": 40}}, drain_notice_s=0)
        os.close(theirs)
        await service.until(lambda status: status["ready"])

        async def stream() -> None:
            replies.append(await service.ask("repeat 40: on", stream=True, on_text=has_begun.set))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(stream)
                await has_begun.wait()
                os.close(ours)
                while await is_ready(client, service.url.removesuffix("/v1")):
                    await anyio.lowlevel.checkpoint()
                service.process.send_signal(signal.SIGHUP)  # A shell tells its jobs again.
        assert replies[0].text == " ".join(["on"] * 40)
        assert service.process.wait(END_S) == 0
    finally:
        starter.end_all()


def _take_terminal(name: str) -> None:
    """Become the leader of a session with that terminal, as a shell's job in front has it."""
    os.setsid()
    os.close(os.open(name, os.O_RDWR))
