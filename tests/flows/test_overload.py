"""What a full gate does: it answers those inside, refuses the rest at once, and loses nobody."""

import anyio

from harness.service import Reply, Starter


async def test_a_burst_is_answered_or_refused_with_a_time_to_come_again(
    start_service: Starter,
) -> None:
    table = {"max_running": 8, "max_waiting": 16, "options": {"tokens_per_s": 400}}
    service = start_service(table)
    await service.until(lambda status: status["ready"])
    replies = await service.ask_many([f"repeat 20: caller {n} asks" for n in range(64)])
    answered = {n: reply for n, reply in enumerate(replies) if reply.status == 200}
    refused = [reply for reply in replies if reply.status == 503]

    assert len(answered) >= 24
    assert len(answered) + len(refused) == 64
    for n, reply in answered.items():
        assert reply.text == " ".join(f"caller {n} asks".split() * 7)[: len(reply.text)]
        assert reply.usage["completion_tokens"] == 20
    for reply in refused:
        assert reply.error["code"] == "queue_full"
        assert reply.retry_after
        assert int(reply.retry_after) >= 1
    await service.until_quiet()
    assert await service.outcomes(64) == {
        "completed": len(answered),
        "refused": len(refused),
    }


async def test_nobody_waits_longer_than_the_wait_limit(start_service: Starter) -> None:
    table = {"max_running": 1, "max_wait_s": 0.2, "options": {"tokens_per_s": 20}}
    service = start_service(table)
    await service.until(lambda status: status["ready"])
    replies = await service.ask_many(["repeat 20: on and on"] * 4)
    late = [reply for reply in replies if reply.error]

    assert sorted(reply.status for reply in replies) == [200, 503, 503, 503]
    assert {reply.error["code"] for reply in late} == {"wait_too_long"}
    assert all(reply.retry_after for reply in late)


async def test_a_deadline_ends_a_request_that_waits_and_one_that_runs(
    start_service: Starter,
) -> None:
    service = start_service({"max_running": 1, "options": {"tokens_per_s": 20}})
    await service.until(lambda status: status["ready"])
    header = {"X-Request-Timeout-Seconds": "0.3"}
    replies: list[Reply] = []

    async def ask(*, stream: bool = False) -> None:
        content = "repeat 100: on and on"
        replies.append(await service.ask(content, headers=header, stream=stream))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
        await ask(stream=True)

    waited_or_ran, streamed = replies[:3], replies[3]
    assert [reply.status for reply in waited_or_ran] == [504, 504, 504]
    assert {reply.error["code"] for reply in replies} == {"deadline_exceeded"}
    assert streamed.status == 200
    assert streamed.text.startswith("on and on")
    await service.until_quiet()
    assert await service.outcomes(4) == {"expired": 4}


async def test_a_time_limit_or_a_bound_that_makes_no_sense_is_refused(
    start_service: Starter,
) -> None:
    service = start_service()
    for value in ("0", "-1", "soon", "nan", "1e9"):
        reply = await service.ask("hello", headers={"X-Request-Timeout-Seconds": value})
        assert reply.status == 400
        assert reply.error["param"] == "X-Request-Timeout-Seconds"
