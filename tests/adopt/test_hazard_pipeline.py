"""What goes wrong on a bare `HuggingFacePipeline`, and does not on a guarded one.

Each test runs twice and asserts both, so that it is known to find what it looks for.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import anyio
import pytest
from langchain_core.runnables import ConfigurableField
from langchain_huggingface import HuggingFacePipeline

from harness.pipe import (
    IN_VAIN_S,
    LIMIT_S,
    Forwards,
    Guarding,
    MakePipe,
    Meeting,
    guarding,
    make_pipe,
    make_tiny_pipe,
    one_torch_thread,
)

__all__ = ["guarding", "make_pipe", "make_tiny_pipe", "one_torch_thread"]

PROMPT = "The lock keeper opened the gate and"
LONG = "In the old town by the canal there lived a keeper of locks who had never once been late"
SHORTER = {"truncation": True, "max_length": 5, "max_new_tokens": 2}
LONGER = {"truncation": True, "max_length": 11, "max_new_tokens": 2}


def in_threads(call: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(call, inputs, timeout=LIMIT_S))


def meet_at_tokenizer(
    tokenizer: Any, guarding: Guarding, monkeypatch: pytest.MonkeyPatch
) -> Meeting:
    """Have two callers meet between the setting of the truncation and the encoding."""
    meeting = Meeting(2, patience_s=guarding.patience_s)
    set_plainly = tokenizer.set_truncation_and_padding

    def set_and_meet(*arguments: Any, **options: Any) -> None:
        set_plainly(*arguments, **options)
        meeting()

    monkeypatch.setattr(tokenizer, "set_truncation_and_padding", set_and_meet)
    return meeting


@pytest.mark.parametrize("options", [[SHORTER, LONGER], [LONGER, SHORTER]])
def test_the_truncation_of_one_caller_cuts_the_prompt_of_another(
    guarding: Guarding,
    make_pipe: MakePipe,
    monkeypatch: pytest.MonkeyPatch,
    options: list[dict[str, Any]],
) -> None:
    pipe = make_pipe()
    alone = [pipe(LONG, **one)[0]["generated_text"] for one in options]
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    forwards = Forwards(pipe.model)
    meeting = meet_at_tokenizer(pipe.tokenizer, guarding, monkeypatch)
    answers = in_threads(lambda one: llm.invoke(LONG, pipeline_kwargs=one), options)
    assert meeting.has_met is not guarding.is_on
    assert (sorted(forwards.n_tokens) == [5, 11]) is guarding.is_on
    assert (answers == alone) is guarding.is_on


# Fails guarded with a tokenizer alone in common: each model has an owner, the tokenizer has none.
@pytest.mark.parametrize("shared", ["model", "tokenizer"])
def test_the_truncation_of_one_pipeline_cuts_the_prompt_of_another(
    guarding: Guarding, make_tiny_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    pipes = [
        make_tiny_pipe(
            max_new_tokens=2,
            tokenizer_encode_kwargs={"truncation": True, "max_length": max_length},
        )
        for max_length in (5, 11)
    ]
    assert pipes[1].tokenizer is pipes[0].tokenizer
    if shared == "model":
        pipes[1].model = pipes[0].model
    alone = [pipe(LONG)[0]["generated_text"] for pipe in pipes]
    llms = [guarding(HuggingFacePipeline(pipeline=pipe)) for pipe in pipes]
    meet_at_tokenizer(pipes[0].tokenizer, guarding, monkeypatch)
    assert (in_threads(lambda llm: llm.invoke(LONG), llms) == alone) is guarding.is_on


# Fails guarded: the keys of both jobs are equal, and the second is run by the first's pipeline.
async def test_pipelines_over_one_model_keep_their_own_settings(
    guarding: Guarding, make_tiny_pipe: MakePipe
) -> None:
    pipes = [make_tiny_pipe(max_new_tokens=n_tokens) for n_tokens in (2, 6)]
    pipes[1].model = pipes[0].model
    alone = [pipe(PROMPT)[0]["generated_text"] for pipe in pipes]
    first, *llms = [guarding(HuggingFacePipeline(pipeline=pipe)) for pipe in (pipes[0], *pipes)]
    is_free = threading.Event()
    Forwards(pipes[0].model, lambda n: n != 1 or is_free.wait(LIMIT_S))
    with anyio.fail_after(LIMIT_S):
        held = asyncio.create_task(first.ainvoke(LONG, max_new_tokens=3))
        tasks = [asyncio.create_task(llm.ainvoke(PROMPT)) for llm in llms]
        # Guarded, both wait behind the first now, where they might be taken for a batch.
        await asyncio.wait(tasks, timeout=IN_VAIN_S)
        is_free.set()
        assert await asyncio.gather(*tasks) == alone
        await held


def test_the_truncation_of_one_stream_cuts_the_prompt_of_another(
    guarding: Guarding, make_tiny_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make_tiny_pipe()
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    forwards = Forwards(pipe.model)
    meet_at_tokenizer(pipe.tokenizer, guarding, monkeypatch)
    in_threads(lambda one: list(llm.stream(LONG, pipeline_kwargs=one)), [SHORTER, LONGER])
    assert (sorted(forwards.n_tokens) == [5, 11]) is guarding.is_on


def test_the_truncation_of_a_direct_call_cuts_the_prompt_of_the_chain(
    guarding: Guarding, make_tiny_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make_tiny_pipe()
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    forwards = Forwards(pipe.model)
    meet_at_tokenizer(pipe.tokenizer, guarding, monkeypatch)
    calls = [lambda: llm.invoke(LONG, pipeline_kwargs=SHORTER), lambda: pipe(LONG, **LONGER)]
    in_threads(lambda call: call(), calls)
    assert (sorted(forwards.n_tokens) == [5, 11]) is guarding.is_on


def test_callers_that_come_at_once_share_forward_passes(
    guarding: Guarding, make_tiny_pipe: MakePipe
) -> None:
    pipe, together = make_tiny_pipe(max_new_tokens=16), threading.Barrier(8)
    alone = pipe(PROMPT)[0]["generated_text"]
    forwards = Forwards(pipe.model)
    llm = guarding(HuggingFacePipeline(pipeline=pipe))

    def call(_: int) -> str:
        together.wait(LIMIT_S)
        return llm.invoke(PROMPT)

    assert in_threads(call, range(8)) == [alone] * 8
    assert (forwards.n == 8 * 16) is not guarding.is_on
    assert (forwards.n_at_once == 1) is guarding.is_on


def test_a_stream_that_is_left_generates_on(guarding: Guarding, make_tiny_pipe: MakePipe) -> None:
    pipe = make_tiny_pipe(max_new_tokens=60)
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    llm.invoke(PROMPT, pipeline_kwargs={"max_new_tokens": 1})
    threads = set(threading.enumerate())
    is_left = threading.Event()
    forwards = Forwards(pipe.model, lambda n: n != 20 or is_left.wait(LIMIT_S))
    stream = cast("Generator[str, None, None]", llm.stream(PROMPT))
    next(stream)
    stream.close()
    leftover = set(threading.enumerate()) - threads
    n_then = forwards.n
    is_left.set()
    for thread in leftover:
        thread.join(LIMIT_S)
    llm.invoke(PROMPT, pipeline_kwargs={"max_new_tokens": 1})
    assert len(leftover) == (0 if guarding.is_on else 1)
    assert (forwards.n - n_then - 1 <= 1) is guarding.is_on


async def test_an_asynchronous_stream_that_is_left_generates_on(
    guarding: Guarding, make_tiny_pipe: MakePipe
) -> None:
    pipe = make_tiny_pipe(max_new_tokens=60)
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    await llm.ainvoke(PROMPT, pipeline_kwargs={"max_new_tokens": 1})
    is_left = threading.Event()
    forwards = Forwards(pipe.model, lambda n: n != 20 or is_left.wait(LIMIT_S))
    threads = set(threading.enumerate())
    with anyio.fail_after(LIMIT_S):
        stream = cast("AsyncGenerator[str, None]", llm.astream(PROMPT))
        await anext(stream)
        await stream.aclose()
        n_then = forwards.n
        is_left.set()
        for thread in set(threading.enumerate()) - threads:
            if "Thread-" in thread.name:  # the executor's have other names, and live on
                thread.join(LIMIT_S)
        await llm.ainvoke(PROMPT, pipeline_kwargs={"max_new_tokens": 1})
    assert (forwards.n - n_then - 1 <= 1) is guarding.is_on


def test_each_stream_takes_a_thread(guarding: Guarding, make_tiny_pipe: MakePipe) -> None:
    pipe, n_streams = make_tiny_pipe(max_new_tokens=4), 16
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    llm.invoke(PROMPT)
    known, callers, most = set(threading.enumerate()), set[threading.Thread](), set[Any]()
    meeting = Meeting(n_streams, patience_s=guarding.patience_s)

    def count(_: int) -> None:
        meeting()
        most.update(set(threading.enumerate()) - known - callers)

    def call(_: int) -> str:
        callers.add(threading.current_thread())
        return "".join(llm.stream(PROMPT))

    Forwards(pipe.model, count)
    assert len(set(in_threads(call, range(n_streams)))) == 1
    assert len(most) == (0 if guarding.is_on else n_streams)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have streams give up after 0.3 s instead of 60 s, if it is their own streamer that waits."""
    import transformers  # noqa: PLC0415 - it takes seconds

    class Impatient(transformers.TextIteratorStreamer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"timeout": 0.3})

    monkeypatch.setattr(transformers, "TextIteratorStreamer", Impatient)


@pytest.mark.usefixtures("short_patience")
def test_a_models_error_in_a_stream_is_lost(
    guarding: Guarding, make_tiny_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(n: int) -> None:
        if n == 3:
            raise ZeroDivisionError("the model's own")

    lost: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", lost.append)
    pipe = make_tiny_pipe()
    Forwards(pipe.model, fail)
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    with pytest.raises(ZeroDivisionError if guarding.is_on else queue.Empty):
        list(llm.stream(PROMPT))
    assert [one.exc_type for one in lost] == ([] if guarding.is_on else [ZeroDivisionError])
    assert llm.invoke(PROMPT)


@pytest.mark.usefixtures("short_patience")
async def test_a_models_error_in_an_asynchronous_stream_is_lost(
    guarding: Guarding, make_tiny_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(n: int) -> None:
        if n == 3:
            raise ZeroDivisionError("the model's own")

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    pipe = make_tiny_pipe()
    Forwards(pipe.model, fail)
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    with pytest.raises(ZeroDivisionError if guarding.is_on else queue.Empty):
        async for _ in llm.astream(PROMPT):
            pass


@pytest.mark.usefixtures("short_patience")
def test_a_first_token_that_takes_its_time_ends_the_stream(
    guarding: Guarding, make_tiny_pipe: MakePipe
) -> None:
    pipe, has_given_up = make_tiny_pipe(), threading.Event()
    Forwards(pipe.model, lambda n: n != 1 or has_given_up.wait(0.6))
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    if guarding.is_on:
        assert "".join(llm.stream(PROMPT))
        return
    with pytest.raises(queue.Empty):
        list(llm.stream(PROMPT))
    has_given_up.set()


async def test_a_cancelled_call_computes_on(guarding: Guarding, make_tiny_pipe: MakePipe) -> None:
    pipe, loop, is_running = make_tiny_pipe(), asyncio.get_running_loop(), asyncio.Event()
    is_left = threading.Event()

    def begin(n: int) -> None:
        if n == 3:
            loop.call_soon_threadsafe(is_running.set)
            is_left.wait(LIMIT_S)

    forwards = Forwards(pipe.model, begin)
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    pool = ThreadPoolExecutor(2)
    loop.set_default_executor(pool)
    with anyio.fail_after(LIMIT_S):
        task = asyncio.create_task(llm.ainvoke(PROMPT, pipeline_kwargs={"max_new_tokens": 50}))
        await is_running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        n_then = forwards.n
        is_left.set()
        pool.shutdown(wait=True)
    llm.invoke(PROMPT, pipeline_kwargs={"max_new_tokens": 1})
    assert (forwards.n - n_then - 1 <= 1) is guarding.is_on


class CountedPool(ThreadPoolExecutor):
    """An executor that counts what it is given."""

    n_given = 0

    def submit(self, /, *arguments: Any, **options: Any) -> Any:
        self.n_given += 1
        return super().submit(*arguments, **options)


@pytest.mark.parametrize("way", ["invoke", "batch", "stream"])
async def test_a_call_takes_the_threads_of_the_event_loop(
    guarding: Guarding, make_tiny_pipe: MakePipe, way: str
) -> None:
    llm = guarding(HuggingFacePipeline(pipeline=make_tiny_pipe()))
    loop, pool, is_over = asyncio.get_running_loop(), CountedPool(1), threading.Event()
    loop.set_default_executor(pool)
    blocked = loop.run_in_executor(None, is_over.wait, LIMIT_S)

    async def call() -> None:
        if way == "stream":
            assert [one async for one in llm.astream(PROMPT)]
        else:
            assert await (llm.ainvoke(PROMPT) if way == "invoke" else llm.abatch([PROMPT] * 2))

    task = asyncio.create_task(call())
    done, _ = await asyncio.wait({task}, timeout=LIMIT_S if guarding.is_on else 0.2)
    assert bool(done) is guarding.is_on
    assert (pool.n_given == 1) is guarding.is_on
    is_over.set()
    with anyio.fail_after(LIMIT_S):
        await asyncio.gather(blocked, task)


def test_a_seed_means_nothing_beside_others(guarding: Guarding, make_tiny_pipe: MakePipe) -> None:
    import torch  # noqa: PLC0415 - it takes seconds

    options = {"do_sample": True, "max_new_tokens": 4, "temperature": 1.5}
    llm = guarding(HuggingFacePipeline(pipeline=make_tiny_pipe()))

    def call(seed: int, meet: Callable[[], object] = lambda: None) -> str:
        if guarding.is_on:
            return llm.invoke(PROMPT, pipeline_kwargs=options, seed=seed)
        torch.manual_seed(seed)
        meet()
        return llm.invoke(PROMPT, pipeline_kwargs=options)

    alone = [call(seed) for seed in range(8)]
    assert len(set(alone)) == 8
    meeting = Meeting(8, patience_s=LIMIT_S)
    answers = in_threads(lambda seed: call(seed, meeting), range(8))
    assert (answers == alone) is guarding.is_on


def test_the_end_strings_of_a_call_are_ignored(guarding: Guarding, make_pipe: MakePipe) -> None:
    pipe = make_pipe()
    whole = pipe(PROMPT, return_full_text=False)[0]["generated_text"]
    stop = whole[4:12]  # of several tokens, and no whole words
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    expected = whole.partition(stop)[0] if guarding.is_on else whole
    assert llm.invoke(PROMPT, stop=[stop]) == PROMPT + expected
    assert "".join(llm.stream(PROMPT, stop=[stop])) == expected


@pytest.mark.parametrize("way", ["direct", "made with", "configured"])
def test_the_length_that_is_asked_for_is_ignored(
    guarding: Guarding, make_tiny_pipe: MakePipe, way: str
) -> None:
    pipe, length = make_tiny_pipe(max_new_tokens=6), {"max_new_tokens": 2}
    forwards = Forwards(pipe.model)
    llm = HuggingFacePipeline(pipeline=pipe, pipeline_kwargs=length if way == "made with" else None)
    guarding(llm)
    if way == "configured":
        chain = llm.configurable_fields(pipeline_kwargs=ConfigurableField(id="options"))
        chain.invoke(PROMPT, {"configurable": {"options": length}})
    else:
        llm.bind(**length if way == "direct" else {}).invoke(PROMPT)
    assert forwards.n == (2 if guarding.is_on else 6)


def test_every_option_that_the_bare_object_takes_is_taken(
    guarding: Guarding, make_tiny_pipe: MakePipe
) -> None:
    pipe = make_tiny_pipe()
    forwards = Forwards(pipe.model)
    llm = guarding(HuggingFacePipeline(pipeline=pipe))
    encoding = {"truncation": True, "max_length": 5}
    llm.invoke(LONG, pipeline_kwargs={"tokenizer_encode_kwargs": encoding})
    assert forwards.n_tokens == [5]


async def test_nothing_tells_how_an_answer_came_about(
    guarding: Guarding, make_pipe: MakePipe
) -> None:
    llm = guarding(HuggingFacePipeline(pipeline=make_pipe(max_new_tokens=3)))
    result = await llm.agenerate([PROMPT])
    (generation,) = result.generations[0]
    told = generation.generation_info or {}
    assert (told.get("finish_reason") == "length") is guarding.is_on
    assert (told.get("usage", {}).get("completion_tokens") == 3) is guarding.is_on


async def test_the_texts_of_a_guarded_model_are_those_of_the_bare_one(make_pipe: MakePipe) -> None:
    from locktender import guard  # noqa: PLC0415 - beside what it is compared with

    bare = HuggingFacePipeline(pipeline=make_pipe(max_new_tokens=4))
    llm = guard(HuggingFacePipeline(pipeline=make_pipe(max_new_tokens=4)))
    whole, streamed = bare.invoke(PROMPT), list(bare.stream(PROMPT))
    assert whole == PROMPT + "".join(streamed)
    assert llm.invoke(PROMPT) == await llm.ainvoke(PROMPT) == whole
    assert [one for one in llm.stream(PROMPT) if one] == [one for one in streamed if one]
    assert "".join([one async for one in llm.astream(PROMPT)]) == "".join(streamed)
    assert await llm.abatch([PROMPT, LONG]) == bare.batch([PROMPT, LONG])
