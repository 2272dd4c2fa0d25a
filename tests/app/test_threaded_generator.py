"""Plain generators behind a route: streamed from a thread, and gone with their caller."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, cast

import aiohttp
import anyio
import pytest
from fastapi import FastAPI
from langchain_core.callbacks import CallbackManagerForChainRun
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    chain,
)
from langchain_core.tracers.context import collect_runs

from harness.app_server import Serve
from locktender import add_routes
from locktender.app.threaded_generator import with_threaded_generators

THREAD = "locktender-generator"


def shout(chunks: Iterator[str]) -> Iterator[str]:
    for chunk in chunks:
        yield chunk.upper()


def letters(text: str) -> Iterator[str]:
    yield from text


async def words(chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    async for chunk in chunks:
        for word in chunk.split():
            yield word


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith(THREAD)]


async def no_threads() -> None:
    with anyio.fail_after(20):
        while threads():
            await anyio.lowlevel.checkpoint()


async def make_later(_: str) -> Runnable[Any, Any]:
    return RunnableGenerator(shout)


@chain
def make_both(text: str) -> Runnable[Any, Any]:
    return RunnableLambda(lambda _: RunnableGenerator(shout)) if text else RunnableGenerator(shout)


class Shouter:
    """Whose method makes a generator."""

    def make(self, _: str) -> Runnable[Any, Any]:
        return RunnableLambda(letters).with_config(tags=["t"])


CHAINS: dict[str, tuple[Runnable[Any, Any], list[Any]]] = {
    "alone": (RunnableGenerator(shout), ["A B"]),
    "behind another": (RunnableGenerator(words) | shout, ["A", "B"]),
    "before another": (RunnableGenerator(shout) | words, ["A", "B"]),
    "two": (RunnableGenerator(words) | shout | RunnableGenerator(shout), ["A", "B"]),
    "over a value": (RunnableLambda(letters), ["a", " ", "b"]),
    "over a value, bound": (RunnableLambda(letters).with_config(tags=["t"]), ["a", " ", "b"]),
    "in a branch": (RunnableParallel(x=shout), [{"x": "A B"}]),
    "made by a function": (RunnableLambda(lambda _: RunnableGenerator(shout)), ["A B"]),
    "made by a coroutine": (RunnableLambda(make_later), ["A B"]),
    "made by what was made": (make_both, ["A B"]),
    "made by a method": (RunnableLambda(Shouter().make), ["a", " ", "b"]),
}


ASYNCHRONOUS = ("behind another", "before another", "two", "made by a coroutine")


@pytest.mark.parametrize("name", CHAINS)
async def test_it_gives_its_chunks_as_it_does_in_process(name: str) -> None:
    chain, chunks = CHAINS[name]
    served = with_threaded_generators(chain)
    if name not in ASYNCHRONOUS:
        assert list(chain.stream("a b")) == chunks
    assert [chunk async for chunk in served.astream("a b")] == chunks
    assert await served.ainvoke("a b") == (chunks[0] if len(chunks) == 1 else "".join(chunks))
    await no_threads()


# Of each route, a chunk or the whole of what is said.
SAID = {"shout": {"A", "AB"}, "letters": {"b", "a b"}, "made": {"A B"}}


@pytest.mark.parametrize("endpoint", ["invoke", "batch", "stream", "stream_log", "stream_events"])
async def test_every_endpoint_serves_it(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    app = FastAPI()
    add_routes(app, RunnableGenerator(words) | shout, path="/shout")
    add_routes(app, RunnableLambda(letters), path="/letters")
    add_routes(app, make_both, path="/made")
    url = await serve(app)
    body = {"inputs": ["a b"]} if endpoint == "batch" else {"input": "a b"}
    for path in ("shout", "letters", "made"):
        async with client.post(f"{url}/{path}/{endpoint}", json=body) as response:
            text = await response.text()
        assert response.status == 200
        assert "event: error" not in text
        assert SAID[path].intersection(text.split('"'))


async def test_it_is_given_its_config_and_its_run() -> None:
    seen: dict[str, Any] = {}

    def look(
        chunks: Iterator[int], config: RunnableConfig, run_manager: CallbackManagerForChainRun
    ) -> Iterator[int]:
        inner: Runnable[int, int] = RunnableLambda(lambda value: value + 1, name="inner")
        seen["tags"], seen["run"] = config["tags"], run_manager
        for chunk in chunks:
            yield inner.invoke(chunk)

    served = with_threaded_generators(RunnableGenerator(cast("Any", look), name="look"))
    with collect_runs() as runs:
        assert await served.ainvoke(1, {"tags": ["t"]}) == 2
    assert seen["tags"] == ["t"]
    assert isinstance(seen["run"], CallbackManagerForChainRun)
    (run,) = runs.traced_runs
    assert (run.name, [child.name for child in run.child_runs]) == ("look", ["inner"])


async def test_an_error_of_its_own_and_one_of_the_step_before_are_raised() -> None:
    def fail(chunks: Iterator[int]) -> Iterator[int]:
        yield next(chunks)
        raise LookupError("own")

    async def broken(chunks: AsyncIterator[int]) -> AsyncIterator[int]:
        yield await anext(chunks)
        raise ConnectionError

    def forgive(chunks: Iterator[int]) -> Iterator[int]:
        try:
            yield from chunks
        except ConnectionError:
            yield 7

    with pytest.raises(LookupError, match="own"):
        await with_threaded_generators(RunnableGenerator(fail)).ainvoke(1)
    with pytest.raises(ConnectionError):
        await with_threaded_generators(
            RunnableGenerator(broken) | RunnableGenerator(cast("Any", shout))
        ).ainvoke(1)
    forgiving = with_threaded_generators(RunnableGenerator(broken) | forgive)
    assert [chunk async for chunk in forgiving.astream(1)] == [1, 7]
    await no_threads()


async def test_more_of_them_wait_than_there_are_threads_for_other_steps() -> None:
    def slow(value: int) -> str:
        return str(value)

    served = with_threaded_generators(RunnableLambda(slow) | shout)
    with anyio.fail_after(20):
        outputs = await asyncio.gather(*(served.ainvoke(n) for n in range(60)))
    assert outputs == [str(n) for n in range(60)]
    await no_threads()


async def test_it_is_no_further_than_its_reader() -> None:
    n_made = 0

    def count(_: int) -> Iterator[int]:
        nonlocal n_made
        while True:
            n_made += 1
            yield n_made

    chunks = with_threaded_generators(RunnableLambda(count)).astream(0)
    async with aclosing(cast("Any", chunks)):
        assert [await anext(chunks) for _ in range(3)] == [1, 2, 3]
        assert n_made == 3
    await no_threads()


class Waiting:
    """Two steps: one that never gives its second chunk, and a generator that waits for it."""

    def __init__(self) -> None:
        self.is_cancelled = asyncio.Event()
        self.is_closed = threading.Event()

    async def source(self, chunks: AsyncIterator[str]) -> AsyncIterator[str]:
        async for chunk in chunks:
            yield chunk
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cancelled.set()
            raise

    def reader(self, chunks: Iterator[str]) -> Iterator[str]:
        try:
            yield from chunks
        finally:
            self.is_closed.set()

    def app(self) -> FastAPI:
        app = FastAPI()
        add_routes(app, RunnableGenerator(self.source) | RunnableGenerator(self.reader), path="/r")
        return app


async def test_a_caller_that_leaves_ends_it_and_the_step_before(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    waiting = Waiting()
    url = await serve(waiting.app())
    with anyio.fail_after(20):
        async with client.post(f"{url}/r/stream", json={"input": "x"}) as response:
            await response.content.readuntil(b'data: "x"')
            assert threads()
            response.close()
        await waiting.is_cancelled.wait()
        await no_threads()
    assert waiting.is_closed.is_set()


@pytest.mark.parametrize("endpoint", ["invoke", "stream"])
async def test_a_deadline_ends_it(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    waiting = Waiting()
    url = await serve(waiting.app())
    headers = {"X-Request-Timeout-Seconds": "0.2"}
    with anyio.fail_after(20):
        async with client.post(
            f"{url}/r/{endpoint}", json={"input": "x"}, headers=headers
        ) as response:
            text = await response.text()
        assert "deadline_exceeded" in text
        assert response.status == (504 if endpoint == "invoke" else 200)
        await waiting.is_cancelled.wait()
        await no_threads()
    assert waiting.is_closed.is_set() == (endpoint == "stream")  # else it has not begun


async def test_one_that_is_at_work_ends_at_its_next_chunk(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    has_begun, may_go_on, is_closed = threading.Event(), threading.Event(), threading.Event()

    def work(value: int) -> Iterator[int]:
        try:
            has_begun.set()
            may_go_on.wait(20)
            yield value
            raise AssertionError("Nobody reads on.")
        finally:
            is_closed.set()

    app = FastAPI()
    add_routes(app, RunnableLambda(work), path="/r")
    url = await serve(app)
    call = asyncio.ensure_future(client.post(f"{url}/r/stream", json={"input": 1}))
    await asyncio.to_thread(has_begun.wait, 20)
    call.cancel()
    await asyncio.wait([call])
    may_go_on.set()
    await no_threads()
    assert is_closed.is_set()


def test_the_user_s_own_objects_are_left_as_they_are() -> None:
    generator = RunnableGenerator(shout)
    served = with_threaded_generators(generator)
    assert served is not generator
    assert served == generator
    assert repr(served) == repr(generator)
    assert not hasattr(generator, "_atransform")


def test_one_that_has_its_own_asynchronous_form_keeps_it() -> None:
    both = RunnableGenerator(shout, words)
    assert with_threaded_generators(both) is both


async def test_a_function_that_returns_no_runnable_gives_what_it_gives() -> None:
    class Counter:
        def __call__(self, value: str) -> int:
            return len(value)

    async def later(value: str, config: RunnableConfig) -> Any:
        return [value, config["tags"]]

    async def two(value: str) -> AsyncIterator[str]:
        yield value
        yield value

    steps: list[Any] = [len, str, Counter(), Counter().__call__, later, two]
    given = [
        await with_threaded_generators(RunnableLambda(step)).ainvoke("ab", {"tags": ["t"]})
        for step in steps
    ]
    assert given == [2, "ab", 2, 2, ["ab", ["t"]], "abab"]
