"""The chat model over real sockets: answers, batches, refusals, limits, and callers that leave."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import anyio
import pytest
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from harness.service import Service, Starter
from harness.shared_service import Shared, sharing
from locktender.app.chat_model import ChatLocktender
from locktender.core.errors import (
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    LocktenderError,
    NoReplicaReady,
    PoisonedRequest,
    QueueFull,
    ReplicaLost,
    UnknownModel,
    WaitTooLong,
)
from locktender.core.scope import OuterRequest, outer_request

PARIS = "What is the capital of France?"
NARROW = {"max_running": 8, "max_waiting": 16, "options": {"tokens_per_s": 8000}}
SLOW = {"max_running": 1, "options": {"tokens_per_s": 50}}
FIVE = {"input_tokens": 4, "output_tokens": 5, "total_tokens": 9}


def _model(service: Service, **settings: Any) -> ChatLocktender:
    return ChatLocktender(model=service.model, base_url=service.url, **settings)


@contextmanager
def _within(outer: OuterRequest) -> Iterator[None]:
    token = outer_request.set(outer)
    try:
        yield
    finally:
        outer_request.reset(token)


@pytest.fixture(scope="module")
def shared_narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with sharing(tmp_path_factory.mktemp("narrow"), NARROW) as shared:
        yield shared


@pytest.fixture(scope="module")
def shared_slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with sharing(tmp_path_factory.mktemp("slow"), SLOW) as shared:
        yield shared


@pytest.fixture
async def service(shared_narrow: Shared, client: aiohttp.ClientSession) -> Service:
    """One with little room; it is not to be ended."""
    return await shared_narrow.lend(client)


@pytest.fixture
async def slow(shared_slow: Shared, client: aiohttp.ClientSession) -> Service:
    """One that answers one caller at a time, for longer than any test; it is not to be ended."""
    return await shared_slow.lend(client)


@pytest.fixture
async def own_slow(start_service: Starter) -> Service:
    """Such a one for a test that ends it, or its engine."""
    started = start_service(SLOW, drain_notice_s=0)
    await started.until(lambda status: status["ready"])
    return started


async def test_every_way_to_ask_gives_the_same_answer_with_its_facts(service: Service) -> None:
    model = _model(service)
    question = "repeat 5: hello you"
    whole = [await model.ainvoke(question), await asyncio.to_thread(model.invoke, question)]
    pieces = [
        [piece async for piece in model.astream(question)],
        await asyncio.to_thread(lambda: list(model.stream(question))),
    ]
    sums = [_sum(some) for some in pieces]
    for message in [*whole, *sums]:
        assert message.text == "hello you hello you hello"
        assert message.usage_metadata == FIVE
        assert message.response_metadata["finish_reason"] == "stop"
        assert message.response_metadata["model_name"] == "echo"
        assert message.response_metadata["id"].startswith("chatcmpl-")
        assert message.id
    for some in pieces:
        assert [piece.chunk_position for piece in some] == [None] * (len(some) - 1) + ["last"]


async def test_stop_strings_and_lengths_are_obeyed_from_the_model_and_from_the_call(
    service: Service,
) -> None:
    model = _model(service, stop=[" three"], max_tokens=4)
    text = "one two three four five"
    by_model = await model.ainvoke(text)
    by_call = await model.ainvoke(text, stop=[" two"])
    bound = await model.bind(stop=["nowhere"], max_tokens=2).ainvoke(text)
    pieces = [piece async for piece in model.astream(text, stop=["none"], stream_usage=True)]

    assert (by_model.text, by_call.text, bound.text) == ("one two", "one", "one two")
    assert bound.response_metadata["finish_reason"] == "length"
    assert _sum(pieces).text == "one two three four"


@pytest.mark.parametrize("way", ["batch", "abatch", "batch_as_completed", "abatch_as_completed"])
async def test_a_batch_far_beyond_the_room_is_answered_in_full(service: Service, way: str) -> None:
    model = _model(service)
    asked: list[LanguageModelInput] = [f"repeat 8: caller {n}" for n in range(200)]
    with anyio.fail_after(60):
        match way:
            case "batch":
                answers = await asyncio.to_thread(model.batch, asked)
            case "abatch":
                answers = await model.abatch(asked)
            case "batch_as_completed":
                pairs = await asyncio.to_thread(lambda: list(model.batch_as_completed(asked)))
                answers = [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]
            case _:
                pairs = [pair async for pair in model.abatch_as_completed(asked)]
                answers = [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]
    texts = [answer.text for answer in answers]
    assert texts == [" ".join([f"caller {n}"] * 4) for n in range(200)]
    assert await service.outcomes(200) == {"completed": 200}


async def test_a_batch_never_has_more_calls_at_the_service_than_it_may(service: Service) -> None:
    most = 0
    with anyio.fail_after(30):
        work = asyncio.create_task(
            _model(service, max_concurrency=3).abatch(["repeat 40: on and on"] * 40)
        )
        while not work.done():
            status = await service.status()
            most = max(most, status["running"] + status["waiting"])
        await work
    assert 0 < most <= 3


async def test_calls_of_a_request_that_was_let_in_are_not_refused(service: Service) -> None:
    model = _model(service)
    outer = OuterRequest("agent-7")
    with _within(outer), anyio.fail_after(60):
        await model.ainvoke("first")
        answers = await asyncio.gather(*(model.ainvoke("repeat 8: later") for _ in range(100)))
    assert {answer.text for answer in answers} == {" ".join(["later"] * 8)}


async def test_when_an_input_of_a_batch_fails_the_others_end_too(start_service: Starter) -> None:
    service = start_service({"max_running": 2, "options": {"tokens_per_s": 50}})
    await service.until(lambda status: status["ready"])
    with anyio.fail_after(20):
        with pytest.raises(ContextTooLong):
            await _model(service).abatch(["repeat 4000: on", "word " * 9000])
        assert await service.outcomes(2) == {"cancelled": 1, "invalid": 1}


async def test_a_sync_call_in_a_coroutine_does_not_lock_up(service: Service) -> None:
    model = _model(service)
    assert model.invoke("here").text == "here"
    assert "".join(piece.text for piece in model.stream("and there")) == "and there"
    assert [answer.text for answer in model.batch(["a", "b"])] == ["a", "b"]


async def test_a_chain_that_is_left_frees_its_slot(slow: Service) -> None:
    prompt = ChatPromptTemplate.from_messages([("human", "repeat 4000: {word}")])
    chain = prompt | _model(slow) | StrOutputParser()
    with anyio.fail_after(30):
        async for text in chain.astream({"word": "on"}):
            assert text.startswith("on")
            break
        await slow.until_quiet(within_s=5)
        # Without the parser: LangChain reads its input on to the end, for its trace.
        pieces = (prompt | _model(slow)).stream({"word": "on"})
        await asyncio.to_thread(next, pieces)
        del pieces
        await slow.until_quiet(within_s=5)
    assert await slow.outcomes(2) == {"cancelled": 2}


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_task_that_is_cancelled_frees_its_slot(slow: Service, *, is_streamed: bool) -> None:
    async def ask() -> None:
        if is_streamed:
            [piece async for piece in _model(slow).astream("repeat 4000: on")]
        else:
            await _model(slow).ainvoke("repeat 4000: on")

    with anyio.fail_after(20):
        asking = asyncio.create_task(ask())
        await slow.until(lambda status: status["running"] == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await slow.until_quiet(within_s=5)


@pytest.mark.parametrize("way", ["invoke", "stream", "batch", "ainvoke", "astream"])
async def test_a_call_ends_at_once_when_the_caller_of_its_outer_request_goes(
    slow: Service, way: str
) -> None:
    model = _model(slow)
    asked = "repeat 4000: on"
    ways: dict[str, Callable[[], Any]] = {
        "invoke": lambda: model.invoke(asked),
        "stream": lambda: list(model.stream(asked)),
        "batch": lambda: model.batch([asked, asked], return_exceptions=True),
        "ainvoke": lambda: asyncio.run(_spent(model.ainvoke(asked))),
        "astream": lambda: asyncio.run(_spent(_drained(model.astream(asked)))),
    }
    outer = OuterRequest("gone")
    ended: list[type[BaseException]] = []

    def ask() -> None:
        outer_request.set(outer)
        try:
            ways[way]()
        except BaseException as error:  # noqa: BLE001 - which one it is, is what is asked
            ended.append(type(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    with anyio.fail_after(20):
        await slow.until(lambda status: status["running"] == 1)
        outer.cancel.set()
        await asyncio.to_thread(thread.join)
        await slow.until_quiet(within_s=5)
    assert ended == [asyncio.CancelledError]


async def test_a_call_for_a_caller_who_has_gone_already_is_not_made(service: Service) -> None:
    outer = OuterRequest("gone")
    outer.cancel.set()
    with _within(outer), pytest.raises(asyncio.CancelledError):
        await _model(service).ainvoke("too late")
    await _model(service).ainvoke("another")
    assert await service.outcomes(1) == {"completed": 1}


async def test_a_time_limit_ends_a_call_from_whichever_side_it_comes(slow: Service) -> None:
    late = OuterRequest("late", deadline_at=time.monotonic() + 0.3)
    past = OuterRequest("past", deadline_at=time.monotonic() - 1)
    with anyio.fail_after(20):
        with pytest.raises(DeadlineExceeded, match="while the request ran"):
            await _model(slow, timeout_s=0.2).ainvoke("repeat 4000: on")
        with _within(late), pytest.raises(DeadlineExceeded, match="while the request ran"):
            [piece async for piece in _model(slow, timeout_s=100).astream("repeat 4000: on")]
        with _within(past), pytest.raises(DeadlineExceeded, match="before the model was called"):
            await _model(slow).ainvoke("on")
    assert await slow.outcomes(2) == {"expired": 2}


async def test_inputs_that_wait_for_their_turn_here_keep_the_time_limit(slow: Service) -> None:
    outer = OuterRequest("late", deadline_at=time.monotonic() + 0.5)
    model = _model(slow, max_concurrency=1)
    with _within(outer), anyio.fail_after(20):
        answers: list[Any] = await model.abatch(["repeat 4000: on"] * 3, return_exceptions=True)
    assert {type(answer) for answer in answers} == {DeadlineExceeded}
    assert await slow.outcomes(1) == {"expired": 1}


async def test_the_service_is_told_whom_a_call_is_made_for(service: Service) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    outer = OuterRequest("o1", tenant="ann", caller_id="c1", traceparent=trace)
    with _within(outer):
        await _model(service, tenant="of the model".replace(" ", "-")).ainvoke("hi")
    with _within(OuterRequest("o2")):
        await _model(service, tenant="bob").ainvoke("hi")
    await service.outcomes(2)
    received = service.events("RequestReceived")
    assert [(event["tenant"], event["caller_id"]) for event in received] == [
        ("ann", "c1"),
        ("bob", "o2"),
    ]


async def test_a_full_gate_an_unknown_model_and_a_long_prompt_are_told_as_such(
    start_service: Starter,
) -> None:
    service = start_service({"max_running": 1, "max_waiting": 0, "options": {"tokens_per_s": 50}})
    await service.until(lambda status: status["ready"])
    model = _model(service)
    stream = model.astream("repeat 4000: on")
    with anyio.fail_after(20):
        await anext(stream)
        with pytest.raises(QueueFull) as full:
            await model.ainvoke("hi")
        with pytest.raises(QueueFull):
            await asyncio.to_thread(model.batch, ["a", "b"])
        del stream
        await service.until_quiet()
        with pytest.raises(ContextTooLong):
            await model.ainvoke("word " * 9000)
        with pytest.raises(UnknownModel, match="There is no model `other` here"):
            [piece async for piece in model.astream("hi", model="other")]
        with pytest.raises(InvalidRequest, match="temperature"):
            await model.ainvoke("hi", temperature=9)
        assert full.value.retry_after_s


async def test_a_long_wait_is_told_as_such(start_service: Starter) -> None:
    service = start_service({"max_running": 1, "max_wait_s": 0.2, "options": {"tokens_per_s": 50}})
    await service.until(lambda status: status["ready"])
    with anyio.fail_after(20):
        async for _ in _model(service).astream("repeat 4000: on"):
            with pytest.raises(WaitTooLong):
                await _model(service).ainvoke("hi")
            break


async def test_a_lost_engine_is_told_after_the_text_that_it_gave(own_slow: Service) -> None:
    (engine,) = own_slow.engine_pids()
    texts: list[str] = []
    with anyio.fail_after(20):
        stream = _model(own_slow).astream("repeat 4000: on")
        texts.append((await anext(stream)).text)
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(ReplicaLost):
            texts.extend([piece.text async for piece in stream])
        assert "".join(texts).startswith("on")
        assert (await _model(own_slow).ainvoke("again")).text == "again"


async def test_poison_and_a_broken_model_are_told_as_such(start_service: Starter) -> None:
    quick = {"backoff_s": 0.01, "max_failures": 3}
    poison = start_service({"engine": "poison:PoisonStepper", **quick, "max_failures": 20})
    broken = start_service({"engine": "broken:build", **quick})
    with anyio.fail_after(30):
        await poison.until(lambda status: status["ready"])
        with pytest.raises(PoisonedRequest):
            await _model(poison).ainvoke("POISON")
        with pytest.raises(NoReplicaReady, match="cannot be started") as none:
            await _model(broken).ainvoke("hi")
        assert none.value.retry_after_s


async def test_a_drain_is_told_as_such(own_slow: Service) -> None:
    refused: LocktenderError | None = None
    with anyio.fail_after(20):
        async for _ in _model(own_slow).astream("repeat 50: on"):
            own_slow.process.send_signal(signal.SIGTERM)
            while refused is None:  # The signal may still be on its way.
                try:
                    await _model(own_slow, timeout_s=0.1).ainvoke("hi")
                except Draining as error:
                    refused = error
                except DeadlineExceeded:
                    continue
            break
    assert isinstance(refused, Draining)


async def test_what_piles_up_is_given_as_one_chunk(service: Service) -> None:
    # The reader takes nothing until the whole answer has been sent.
    question = "repeat 300: one two three"
    with anyio.fail_after(20):
        stream = _model(service).astream(question)
        pieces = [await anext(stream)]
        await service.until_quiet()
        pieces += [piece async for piece in stream]
        assert _sum(pieces).text == " ".join(["one two three"] * 100)
        assert len(pieces) <= 3

        sync_stream = _model(service).stream(question)
        pieces = [await asyncio.to_thread(next, sync_stream)]
        await service.until_quiet()
        pieces += await asyncio.to_thread(lambda: list(sync_stream))
        assert _sum(pieces).text == " ".join(["one two three"] * 100)
        assert len(pieces) <= 3


async def test_an_unread_stream_holds_up_nobody(start_service: Starter) -> None:
    service = start_service({"max_running": 1, "max_waiting": 1})
    await service.until(lambda status: status["ready"])
    model = _model(service)
    unread = model.stream("repeat 300: on")
    assert next(unread).text.startswith("on")
    assert model.invoke("next").text == "next"
    assert "".join(piece.text for piece in unread).endswith("on on")


async def test_sixty_streams_at_once_keep_their_own_text(service: Service) -> None:
    model = _model(service)

    async def ask(n: int) -> str:
        pieces = [piece.text async for piece in model.astream(f"repeat 12: caller {n}")]
        return "".join(pieces)

    with _within(OuterRequest("many")), anyio.fail_after(60):
        texts = await asyncio.gather(*(ask(n) for n in range(60)))
    assert texts == [" ".join([f"caller {n}"] * 6) for n in range(60)]


async def test_the_real_model_answers_invoked_streamed_and_in_a_batch(
    smollm2_service: Service,
) -> None:
    model = _model(smollm2_service, temperature=0, max_tokens=32)
    chain = ChatPromptTemplate.from_messages([("human", "{question}")]) | model | StrOutputParser()
    with anyio.fail_after(60):
        answers = await chain.abatch([{"question": PARIS}] * 20)
        streamed = [text async for text in chain.astream({"question": PARIS})]
        invoked = await asyncio.to_thread(chain.invoke, {"question": PARIS})
    assert set(answers) == {"The capital of France is Paris."}
    assert "".join(streamed) == invoked == "The capital of France is Paris."


def _sum(pieces: list[AIMessageChunk]) -> AIMessageChunk:
    total, *rest = pieces
    for piece in rest:
        total = total + piece
    return total


async def _spent(work: Any) -> None:
    await work


async def _drained(pieces: AsyncIterator[AIMessageChunk]) -> None:
    async for _ in pieces:
        pass
