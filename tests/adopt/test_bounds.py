"""A guarded pipeline is bounded: in what runs, what waits, what it takes, and how long.

The pipeline classes are the real ones; the model is real where its size counts, else tiny.
"""

import asyncio
import threading
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import aiohttp
import anyio
import psutil
import pytest
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda
from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline

from harness.app_server import Serve, serve
from harness.pipe import (
    IN_VAIN_S,
    LIMIT_S,
    Forwards,
    Guarding,
    MakePipe,
    guarding,
    make_pipe,
    make_tiny_pipe,
    one_torch_thread,
)
from locktender import GuardSettings, add_routes, guard
from locktender.adopt.heavy import owner_of
from locktender.core.errors import QueueFull, WaitTooLong

__all__ = ["guarding", "make_pipe", "make_tiny_pipe", "one_torch_thread", "serve"]

PROMPT = "The lock keeper opened the gate and"
MAX_GROWTH_BYTES = 96 << 20  # of 32 callers over one; eight prompts at a time take a few of them


@pytest.fixture
def make_chat() -> Callable[[Any], Any]:
    """Give a function that makes a chat object over a pipeline object."""

    def make(llm: Any) -> Any:
        with warnings.catch_warnings():
            # It looks for classes in a package that says that it is on its way out.
            warnings.filterwarnings("ignore", "`langchain-community`", DeprecationWarning)
            return ChatHuggingFace(llm=llm, tokenizer=llm.pipeline.tokenizer, model_id="a-model")

    return make


class Held:
    """A model that stands still at the beginning of its first pass until it is let go."""

    def __init__(self, pipe: Any) -> None:
        self._is_let_go = threading.Event()
        self.is_running = threading.Event()
        self.forwards = Forwards(pipe.model, self._stand)

    def let_go(self) -> None:
        self._is_let_go.set()

    async def until_running(self) -> None:
        await asyncio.to_thread(self.is_running.wait, LIMIT_S)

    def _stand(self, _: int) -> None:
        self.is_running.set()
        self._is_let_go.wait(LIMIT_S)


def test_a_crowd_runs_no_more_at_once_than_the_limit(
    guarding: Guarding, make_tiny_pipe: MakePipe
) -> None:
    pipe, together = make_tiny_pipe(max_new_tokens=3), threading.Barrier(32)
    llm = guarding(HuggingFacePipeline(pipeline=pipe), max_running=2, batch=False)
    forwards = Forwards(pipe.model)

    def call(n: int) -> str:
        together.wait(LIMIT_S)
        return llm.invoke(PROMPT) if n % 2 else "".join(llm.stream(PROMPT))

    with ThreadPoolExecutor(32) as pool:
        answers = set(pool.map(call, range(32), timeout=LIMIT_S))
    assert len(answers) == 2  # with the prompt, and without it
    assert (forwards.n_at_once <= 2) is guarding.is_on


async def test_a_crowd_takes_what_one_caller_takes(make_pipe: MakePipe) -> None:
    pipe = make_pipe(max_new_tokens=3)
    llm = guard(HuggingFacePipeline(pipeline=pipe))
    process, threads, bytes_used = psutil.Process(), list[int](), list[int]()

    def measure(_: int) -> None:
        threads.append(process.num_threads())
        bytes_used.append(process.memory_info().rss)

    forwards = Forwards(pipe.model, measure)
    alone = await llm.ainvoke(PROMPT)
    n_alone = forwards.n
    assert await llm.abatch([PROMPT] * 8) == [alone] * 8  # the most that run together
    n_before = forwards.n
    with anyio.fail_after(LIMIT_S):
        answers = await asyncio.gather(*(llm.ainvoke(PROMPT) for _ in range(32)))
    assert answers == [alone] * 32
    assert forwards.n_at_once == 1
    assert max(threads[n_alone:]) <= max(threads[:n_alone])
    assert max(bytes_used[n_before:]) - max(bytes_used[:n_alone]) < MAX_GROWTH_BYTES


async def test_a_hundred_more_than_there_is_room_for_are_refused(make_tiny_pipe: MakePipe) -> None:
    pipe = make_tiny_pipe()
    held = Held(pipe)
    llm = guard(HuggingFacePipeline(pipeline=pipe), max_waiting=12, batch=False)
    with anyio.fail_after(LIMIT_S):
        inside = [asyncio.create_task(llm.ainvoke(PROMPT)) for _ in range(13)]
        await held.until_running()
        await asyncio.wait(inside, timeout=IN_VAIN_S)
        refused = await asyncio.gather(
            *(llm.ainvoke(PROMPT) for _ in range(100)), return_exceptions=True
        )
        assert {type(one) for one in refused} == {QueueFull}
        assert held.forwards.n == 1
        held.let_go()
        assert len(set(await asyncio.gather(*inside))) == 1


async def test_who_is_refused_over_a_socket_is_told_when_to_come_again(
    make_tiny_pipe: MakePipe, serve: Serve, client: aiohttp.ClientSession
) -> None:
    pipe = make_tiny_pipe()
    held, app = Held(pipe), FastAPI()
    settings = GuardSettings(max_waiting=7, batch=False)
    add_routes(
        app,
        HuggingFacePipeline(pipeline=pipe),
        path="/llm",
        guard={"HuggingFacePipeline": settings},
    )
    address = await serve(app)

    async def ask(way: str) -> tuple[int, str | None, str]:
        async with client.post(f"{address}/llm/{way}", json={"input": PROMPT}) as response:
            after = response.headers.get("Retry-After")
            return response.status, after, await response.text()

    with anyio.fail_after(LIMIT_S):
        pending = {asyncio.create_task(ask("invoke")) for _ in range(108)}
        refused: set[Any] = set()
        while len(refused) < 100:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            refused |= done
        replies = [task.result() for task in refused] + [await ask("stream")]
        held.let_go()
        answers = await asyncio.gather(*pending)
    assert {(status, "full" in text) for status, _, text in replies} == {(503, True)}
    assert all(after and int(after) >= 1 for _, after, _ in replies)
    assert [status for status, _, _ in answers] == [200] * 8


async def test_a_caller_that_has_its_answer_is_not_in_its_own_way(
    make_tiny_pipe: MakePipe,
) -> None:
    pipe = make_tiny_pipe(max_new_tokens=1)
    # Fails: the answer is there before the room is given back, and the next call comes too soon.
    llm = guard(HuggingFacePipeline(pipeline=pipe), max_waiting=0, batch=False)
    for _ in range(20):
        assert llm.invoke(PROMPT)
        assert await llm.ainvoke(PROMPT)
        assert list(llm.stream(PROMPT))


async def test_a_wait_ends_at_its_limit(make_tiny_pipe: MakePipe) -> None:
    pipe = make_tiny_pipe()
    held = Held(pipe)
    llm = guard(HuggingFacePipeline(pipeline=pipe), max_wait_s=0.2, batch=False)
    with anyio.fail_after(LIMIT_S):
        running = asyncio.create_task(llm.ainvoke(PROMPT))
        await held.until_running()
        with pytest.raises(WaitTooLong):
            await llm.ainvoke(PROMPT)
        held.let_go()
        assert await running


async def test_a_synchronous_call_in_the_thread_of_a_loop_ends(
    make_tiny_pipe: MakePipe, make_chat: Callable[[Any], Any]
) -> None:
    chat = make_chat(HuggingFacePipeline(pipeline=make_tiny_pipe()))
    chain = guard(RunnableLambda(lambda text: chat.invoke(text).content))
    stream = cast("AsyncGenerator[Any, None]", chat.astream(PROMPT))
    with anyio.fail_after(LIMIT_S):
        await anext(stream)  # it is not read on while the loop is blocked
        alone = chat.invoke(PROMPT).content
        assert "".join(str(one.content) for one in chat.stream(PROMPT))
        assert chat.llm.invoke(PROMPT)
        assert await asyncio.gather(*(chain.ainvoke(PROMPT) for _ in range(12))) == [alone] * 12
        assert [one async for one in stream]


def test_a_call_beside_an_unread_stream_of_the_same_thread_ends(make_tiny_pipe: MakePipe) -> None:
    llm = guard(HuggingFacePipeline(pipeline=make_tiny_pipe(max_new_tokens=40)))
    streams = [llm.stream(PROMPT) for _ in range(3)]
    heads = [next(stream) for stream in streams]
    whole = llm.invoke(PROMPT)
    texts = [head + "".join(stream) for head, stream in zip(heads, streams, strict=True)]
    assert [PROMPT + text for text in texts] == [whole] * 3


def test_a_function_that_calls_the_model_that_called_it_ends(
    make_tiny_pipe: MakePipe, make_chat: Callable[[Any], Any]
) -> None:
    llm = HuggingFacePipeline(pipeline=make_tiny_pipe())
    chat = make_chat(llm)
    chain = guard(chat | RunnableLambda(lambda message: llm.invoke(message.content)))
    assert len(set(chain.batch([PROMPT] * 12))) == 1


async def test_a_full_executor_holds_nobody(
    make_tiny_pipe: MakePipe, make_chat: Callable[[Any], Any]
) -> None:
    chat = guard(make_chat(HuggingFacePipeline(pipeline=make_tiny_pipe())))
    loop, is_over = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    blocked = loop.run_in_executor(None, is_over.wait, LIMIT_S)
    with anyio.fail_after(LIMIT_S):
        assert (await chat.ainvoke(PROMPT)).content
        assert [one async for one in chat.astream(PROMPT)]
        assert len(await chat.abatch([PROMPT] * 4)) == 4
        is_over.set()
        await blocked


async def until_empty(llm: Any) -> None:
    while "waiting 0 | running 0" not in repr(owner_of(llm)):
        await anyio.lowlevel.checkpoint()


async def running(llm: Any) -> None:
    await llm.ainvoke(PROMPT)


async def streaming(llm: Any) -> None:
    async for _ in llm.astream(PROMPT):
        pass


@pytest.mark.parametrize("call", [running, streaming])
@pytest.mark.parametrize("is_waiting", [False, True])
async def test_a_cancelled_call_leaves_nothing_behind(
    make_tiny_pipe: MakePipe, call: Callable[[Any], Awaitable[None]], is_waiting: bool
) -> None:
    pipe = make_tiny_pipe()
    llm = guard(HuggingFacePipeline(pipeline=pipe), max_waiting=1, batch=False)
    held = Held(pipe)
    with anyio.fail_after(LIMIT_S):
        tasks = [asyncio.ensure_future(call(llm))]
        await held.until_running()
        if is_waiting:
            tasks.append(asyncio.ensure_future(call(llm)))
            await asyncio.wait(tasks, timeout=IN_VAIN_S)
        tasks[-1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[-1]
        held.let_go()
        await asyncio.wait(tasks)
        await until_empty(llm)
        assert held.forwards.n <= (8 if is_waiting else 2)
        # All room is back: one can run, and one wait.
        assert await asyncio.gather(llm.ainvoke(PROMPT), llm.ainvoke(PROMPT))


async def test_a_stream_that_is_left_unread_in_its_midst_leaves_nothing_behind(
    make_tiny_pipe: MakePipe,
) -> None:
    llm = guard(HuggingFacePipeline(pipeline=make_tiny_pipe(max_new_tokens=400)), batch=False)
    with anyio.fail_after(LIMIT_S):
        for _ in range(4):
            stream = cast("AsyncGenerator[str, None]", llm.astream(PROMPT))
            await anext(stream)
            await stream.aclose()
    synchronous = cast("Generator[str, None, None]", llm.stream(PROMPT))
    next(synchronous)
    synchronous.close()
    assert llm.invoke(PROMPT, max_new_tokens=1)
