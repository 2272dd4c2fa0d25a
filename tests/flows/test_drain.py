"""A service that is told to stop: who is inside is served, who comes is told, and it ends well."""

import signal

import anyio

from harness.service import Reply, Starter


async def test_streams_complete_new_requests_are_told_and_the_exit_code_is_0(
    start_service: Starter,
) -> None:
    table = {"max_running": 8, "options": {"tokens_per_s": 160}}
    service = start_service(table, drain_notice_s=0)
    await service.until(lambda status: status["ready"])
    speaking: set[int] = set()
    all_speak = anyio.Event()
    replies: dict[int, Reply] = {}

    async def ask(n: int) -> None:
        def on_text() -> None:
            speaking.add(n)
            if len(speaking) == 8:
                all_speak.set()

        content = f"repeat 40: caller {n}"
        replies[n] = await service.ask(content, stream=True, on_text=on_text)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for n in range(8):
                group.start_soon(ask, n)
            await all_speak.wait()
            service.process.send_signal(signal.SIGTERM)
            late = await service.ask("too late?")
            while late.status == 200:  # The signal was still on its way.
                late = await service.ask("too late?")
            async with service.client.get(service.url.replace("/v1", "/readyz")) as response:
                assert (response.status, (await response.json())["draining"]) == (503, True)
    assert (late.status, late.error["code"]) == (503, "draining")
    assert late.retry_after
    assert [replies[n].text for n in range(8)] == [" ".join([f"caller {n}"] * 20) for n in range(8)]
    assert service.process.wait(timeout=20) == 0


async def test_a_drain_does_not_wait_longer_than_it_may_and_ctrl_c_gives_no_notice(
    start_service: Starter,
) -> None:
    service = start_service({"options": {"tokens_per_s": 10}}, drain_notice_s=60, drain_s=0.2)
    await service.until(lambda status: status["ready"])
    replies: list[Reply] = []
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                def stop() -> None:
                    service.process.send_signal(signal.SIGINT)

                replies.append(await service.ask("repeat 4000: on", stream=True, on_text=stop))

            group.start_soon(ask)
    assert service.process.wait(timeout=20) == 0
    assert not replies[0].finish_reason


async def test_a_second_signal_ends_it_at_once_also_while_notice_is_given(
    start_service: Starter,
) -> None:
    service = start_service({"options": {"tokens_per_s": 10}}, drain_notice_s=60, drain_s=60)
    await service.until(lambda status: status["ready"])
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                def stop() -> None:
                    service.process.send_signal(signal.SIGTERM)

                await service.ask("repeat 4000: on", stream=True, on_text=stop)

            group.start_soon(ask)
    assert service.process.wait(timeout=20) == 0
