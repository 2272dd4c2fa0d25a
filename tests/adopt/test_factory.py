"""A factory's models answer in processes of their own, as one model that is safe for many."""

import asyncio
import copy
import gc
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import tool

from adopt.factories import sample
from locktender.adopt.factory import (
    ReplicatedChat,
    ReplicatedEmbeddings,
    ReplicatedLLM,
    replicated,
)
from locktender.adopt.factory_stepper import FactoryStepper, ModelFault
from locktender.core.errors import (
    ConfigError,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    NoReplicaReady,
    QueueFull,
    RequestTooLarge,
)
from locktender.core.request import Delta, FinishReason, GenerationRequest, TextInput
from locktender.core.scope import OuterRequest, outer_request
from locktender.model.engine import EngineSpec, Output

LIMIT_S = 60


class Host:
    """The test as a model in a process sees it: whoever calls stays until let go."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(LIMIT_S)
        self._guests: list[socket.socket] = []
        self.port = self._socket.getsockname()[1]

    def meet(self) -> tuple[int, socket.socket]:
        """Return the process that calls next, and the connection to it."""
        guest, _ = self._socket.accept()
        guest.settimeout(LIMIT_S)
        self._guests.append(guest)
        return int(line(guest)), guest

    def close(self) -> None:
        for guest in self._guests:
            guest.close()
        self._socket.close()


def line(guest: socket.socket) -> str:
    text = b""
    while not text.endswith(b"\n"):
        text += guest.recv(1)
    return text.decode().strip()


def dripping(guest: socket.socket) -> str:
    """Let pieces come until the model says that it has ended; return what it says."""
    for _ in range(LIMIT_S * 10):
        ended, _, _ = select.select([guest], [], [], 0.1)
        if ended:
            return line(guest)
        guest.sendall(b"!")
    raise AssertionError


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="module")
def pair() -> ReplicatedLLM:
    return cast("ReplicatedLLM", replicated(sample.make_llm, replicas=2))


@pytest.fixture(scope="module")
def chat() -> ReplicatedChat:
    return cast("ReplicatedChat", replicated(sample.make_chat, replicas=1))


@pytest.fixture(scope="module")
def plain_chat() -> ReplicatedChat:
    return cast("ReplicatedChat", replicated(sample.make_plain_chat, replicas=1))


@pytest.fixture(scope="module")
def embeddings() -> ReplicatedEmbeddings:
    return cast("ReplicatedEmbeddings", replicated(sample.make_embeddings, replicas=1))


async def meet(host: Host) -> tuple[int, socket.socket]:
    with anyio.fail_after(LIMIT_S):
        return await asyncio.to_thread(host.meet)


async def until(is_so: Any) -> None:
    with anyio.fail_after(LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - there is no event for whatever a test waits for
            await asyncio.sleep(0)


def n_waiting(model: ReplicatedLLM) -> int:
    gate = model.crew._gate  # noqa: SLF001 - what a test of the gate looks at
    return gate.dispatcher.n_waiting if gate else 0


def n_inside(model: ReplicatedLLM) -> int:
    gate = model.crew._gate  # noqa: SLF001 - as above
    return gate.dispatcher.n_waiting + gate.dispatcher.n_running if gate else 0


async def test_two_calls_stand_in_two_processes_at_once(pair: ReplicatedLLM, host: Host) -> None:
    calls = [asyncio.create_task(pair.ainvoke(f"visit {host.port}")) for _ in range(2)]
    guests = [await meet(host) for _ in calls]
    for _, guest in guests:
        guest.sendall(b"!")
    pids = await asyncio.gather(*calls)
    assert sorted(map(int, pids)) == sorted(pid for pid, _ in guests)
    assert len({*pids, str(os.getpid())}) == 3


def test_no_process_is_in_two_calls_at_once(pair: ReplicatedLLM) -> None:
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(pair.invoke, ["crowd"] * 48))
    assert {answer.split()[1] for answer in answers} == {"1"}
    assert len({answer.split()[0] for answer in answers}) == 2


def test_stop_and_arguments_reach_the_model(pair: ReplicatedLLM) -> None:
    answer = pair.invoke("say", stop=["."], bias={"a": [1, 2.5, None]}, deep=(True,))
    assert answer == "say ['.'] {'bias': {'a': [1, 2.5, None]}, 'deep': [True]}"


def test_text_of_any_kind_comes_back_as_it_is(pair: ReplicatedLLM) -> None:
    text = 'a\nb\r\u2028 "c" \\n \U0001f600 \ud800'
    assert pair.invoke(text) == f"{text} None {{}}"


def test_a_batch_is_answered_in_its_order_by_one_call(pair: ReplicatedLLM) -> None:
    assert pair.batch(["a", "b", "c"]) == ["a None {}", "b None {}", "c None {}"]


def test_a_stream_gives_the_chunks_of_the_model(pair: ReplicatedLLM) -> None:
    assert list(pair.stream("one two three")) == ["one", "two", "three"]


async def test_a_stream_of_a_coroutine_does_too(pair: ReplicatedLLM) -> None:
    assert [piece async for piece in pair.astream("one two three")] == ["one", "two", "three"]


async def test_events_tell_of_each_chunk(pair: ReplicatedLLM) -> None:
    events = [event async for event in pair.astream_events("one two", version="v2")]
    chunks = [one["data"]["chunk"] for one in events if one["event"] == "on_llm_stream"]
    assert [getattr(chunk, "text", chunk) for chunk in chunks] == ["one", "two"]


async def test_a_coroutine_may_block_its_loop(pair: ReplicatedLLM) -> None:
    assert pair.invoke("a") == "a None {}"


def test_an_unread_stream_holds_up_nobody() -> None:
    model = cast("ReplicatedLLM", replicated(sample.make_llm, replicas=1))
    unread = model.stream("one two three")
    assert next(unread) == "one"
    assert model.invoke("a") == "a None {}"
    assert list(unread) == ["two", "three"]


async def test_more_than_may_wait_are_refused_and_nobody_else_is_harmed(host: Host) -> None:
    model = cast("ReplicatedLLM", replicated(sample.make_llm, replicas=1, max_waiting=1))
    first = asyncio.create_task(model.ainvoke(f"visit {host.port}"))
    _, guest = await meet(host)
    second = asyncio.create_task(model.ainvoke("second"))
    await until(lambda: n_waiting(model) == 1)
    with pytest.raises(QueueFull):
        await model.ainvoke("third")
    with pytest.raises(QueueFull):
        model.invoke("third")
    guest.sendall(b"!")
    assert await first
    assert await second == "second None {}"


async def test_a_batch_beyond_the_room_waits(chat: ReplicatedChat) -> None:
    answers = await chat.abatch([str(n) for n in range(90)])
    assert [answer.content for answer in answers] == [str(n) for n in range(90)]


async def test_a_call_whose_process_dies_is_answered_by_another(
    pair: ReplicatedLLM, host: Host
) -> None:
    call = asyncio.create_task(pair.ainvoke(f"visit {host.port}"))
    pid, _ = await meet(host)
    os.kill(pid, signal.SIGKILL)
    other, guest = await meet(host)
    guest.sendall(b"!")
    assert await call == str(other)
    assert other != pid


async def test_a_call_that_is_left_ends_at_its_next_chunk(pair: ReplicatedLLM, host: Host) -> None:
    stream = cast("AsyncGenerator[str, None]", pair.astream(f"drip {host.port}"))
    first = asyncio.create_task(anext(stream))
    _, guest = await meet(host)
    guest.sendall(b"!")
    assert await first == "drop"
    await stream.aclose()
    await until(lambda: n_inside(pair) == 0)
    assert await asyncio.to_thread(dripping, guest) == "closed"


def test_a_dropped_stream_ends_at_its_next_chunk_too(pair: ReplicatedLLM, host: Host) -> None:
    with ThreadPoolExecutor(1) as pool:
        stream = cast("Generator[str, None, None]", pair.stream(f"drip {host.port}"))
        first = pool.submit(next, stream)
        _, guest = host.meet()
        guest.sendall(b"!")
        assert first.result(LIMIT_S) == "drop"
        stream.close()
        assert dripping(guest) == "closed"


@pytest.mark.parametrize("state", ["waiting", "running"])
async def test_a_cancelled_task_gives_its_place_back(host: Host, state: str) -> None:
    model = cast("ReplicatedLLM", replicated(sample.make_llm, replicas=1))
    first = asyncio.create_task(model.ainvoke(f"visit {host.port}"))
    _, guest = await meet(host)
    second = asyncio.create_task(model.ainvoke("second"))
    await until(lambda: n_waiting(model) == 1)
    (second if state == "waiting" else first).cancel()
    await until(lambda: n_inside(model) == 1)
    guest.sendall(b"!")
    assert await (first if state == "waiting" else second)


async def test_a_thread_that_waits_is_let_go_when_the_caller_of_its_request_leaves(
    pair: ReplicatedLLM, host: Host
) -> None:
    outer = OuterRequest("o")

    def call() -> str:
        outer_request.set(outer)
        try:
            pair.invoke(f"visit {host.port}")
        except asyncio.CancelledError:
            return "cancelled"
        return "answered"

    waiting = asyncio.create_task(asyncio.to_thread(call))
    _, guest = await meet(host)
    outer.cancel.set()
    with anyio.fail_after(LIMIT_S):
        assert await waiting == "cancelled"
    await until(lambda: n_inside(pair) == 0)
    guest.sendall(b"!")


async def test_the_deadline_of_the_outer_request_ends_the_call(
    pair: ReplicatedLLM, host: Host
) -> None:
    now = asyncio.get_running_loop().time()
    token = outer_request.set(OuterRequest("o", deadline_at=now + 0.2))
    with anyio.fail_after(LIMIT_S), pytest.raises(DeadlineExceeded):
        await pair.ainvoke(f"visit {host.port}")
    outer_request.reset(token)


def test_what_the_model_raises_is_the_cause_of_a_typed_error(pair: ReplicatedLLM) -> None:
    with pytest.raises(EngineFailed, match="The model failed at this call") as raised:
        pair.invoke("fail for a reason")
    assert isinstance(raised.value.__cause__, ModelFault)
    assert str(raised.value.__cause__) == "ValueError: for a reason"
    with pytest.raises(EngineFailed):
        pair.invoke("exit 3")
    assert pair.invoke("a") == "a None {}"


def test_a_stream_that_fails_gives_what_came_before(pair: ReplicatedLLM) -> None:
    stream = pair.stream("fail late")
    assert [next(stream), next(stream)] == ["fail", "late"]
    with pytest.raises(EngineFailed):
        next(stream)


def test_a_typed_error_of_the_model_keeps_its_type(pair: ReplicatedLLM) -> None:
    with pytest.raises(QueueFull) as raised:
        pair.invoke("refuse for now")
    assert (raised.value.message, raised.value.retry_after_s) == ("for now", 7.0)


@pytest.mark.parametrize("value", [object(), {1: 2}, [{"a": {2}}], b"a"])
def test_an_argument_that_is_no_json_is_refused(pair: ReplicatedLLM, value: Any) -> None:
    with pytest.raises(InvalidRequest, match="`bias`") as raised:
        pair.invoke("a", bias=value)
    assert raised.value.param == "bias"


def test_a_message_that_is_no_json_is_refused(chat: ReplicatedChat) -> None:
    with pytest.raises(InvalidRequest, match="messages"):
        chat.invoke([HumanMessage("a", additional_kwargs={"b": object()})])


def test_a_call_that_is_too_long_is_refused(pair: ReplicatedLLM) -> None:
    with pytest.raises(RequestTooLarge):
        pair.invoke("a" * (32 * 1024 * 1024))


def test_a_chat_model_gets_and_gives_messages(chat: ReplicatedChat) -> None:
    answer = chat.invoke([SystemMessage("be brief"), HumanMessage("hello you")], stop=["x"])
    assert answer.content == "hello you"
    assert answer.response_metadata["types"] == ["system", "human"]
    assert answer.usage_metadata == {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    result = chat.generate([[HumanMessage("a")]], stop=["x"])
    assert result.generations[0][0].generation_info == {"stop": ["x"]}


async def test_a_chat_model_streams_what_it_streams(chat: ReplicatedChat) -> None:
    chunks = [chunk async for chunk in chat.astream("one two")]
    assert [chunk.content for chunk in chunks if chunk.content] == ["one", "two"]
    assert [chunk.content for chunk in chat.stream("one two") if chunk.content] == ["one", "two"]


async def test_a_chat_model_that_does_not_stream_gives_one_chunk(
    plain_chat: ReplicatedChat,
) -> None:
    chunks = [chunk async for chunk in plain_chat.astream("one two")]
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert [chunk.content for chunk in chunks if chunk.content] == ["one two"]


@tool
def weather(place: str) -> str:
    """Tell the weather."""
    return place


def test_tools_go_through_the_bind_tools_of_the_model(
    chat: ReplicatedChat, plain_chat: ReplicatedChat
) -> None:
    (call,) = chat.bind_tools([weather], tool_choice="any").invoke("rain?").tool_calls
    assert (call["name"], call["args"]) == ("weather", {"choice": "any"})
    with pytest.raises(InvalidRequest, match="takes no tools"):
        plain_chat.bind_tools([weather]).invoke("rain?")


async def test_texts_are_embedded_exactly_and_in_calls_of_bounded_size(
    embeddings: ReplicatedEmbeddings,
) -> None:
    texts = ["a" * (n % 7) for n in range(600)]
    expected = [[len(text) / 3, 512.0 if n < 512 else 88.0] for n, text in enumerate(texts)]
    assert embeddings.embed_documents(texts) == expected
    assert await embeddings.aembed_documents(texts) == expected
    assert embeddings.embed_query("aa") == await embeddings.aembed_query("aa") == [2 / 3, -1.0]
    assert embeddings.embed_documents([]) == []


def test_copies_share_the_processes(pair: ReplicatedLLM) -> None:
    assert copy.deepcopy(pair).crew is pair.crew
    assert pair.model_copy().crew is pair.crew


def test_no_process_is_left_when_the_model_is_collected(host: Host) -> None:
    model = cast("ReplicatedLLM", replicated(sample.make_llm, replicas=1))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(model.invoke, f"visit {host.port}")
        pid, guest = host.meet()
        guest.sendall(b"!")
        assert call.result(LIMIT_S) == str(pid)
    process = os.pidfd_open(pid)
    del model, call
    gc.collect()
    ended, _, _ = select.select([process], [], [], LIMIT_S)
    os.close(process)
    assert ended


def test_start_waits_for_every_process_and_makes_no_call_wait() -> None:
    model = cast("ReplicatedLLM", replicated(sample.make_llm, replicas=2, max_wait_s=0.001))
    model.start()
    assert model.invoke("a") == "a None {}"


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        (sample.make_nothing, "failed: FileNotFoundError: no weights here"),
        (sample.make_wrongly, "made a SampleChat, no BaseLLM"),
    ],
)
def test_a_factory_that_gives_no_model_is_told_of(factory: Any, sentence: str) -> None:
    model = cast("ReplicatedLLM", replicated(factory, replicas=1))
    with pytest.raises(NoReplicaReady) as raised:
        model.invoke("a")
    assert isinstance(raised.value.__cause__, ConfigError)
    with pytest.raises(ConfigError, match=sentence):
        model.start()


def test_a_factory_that_no_other_process_can_find_is_refused() -> None:
    def inner() -> sample.SampleLLM:
        return sample.SampleLLM()

    for factory in (inner, lambda: None, partial(sample.make_llm)):
        with pytest.raises(ConfigError, match="cannot be found by another process"):
            replicated(factory, replicas=1, kind="llm")


def test_the_kind_is_read_from_the_annotation_or_given() -> None:
    with pytest.raises(ConfigError, match="does not say what it returns"):
        replicated(sample.make_without_a_word, replicas=1)
    assert isinstance(replicated(sample.make_without_a_word, replicas=1, kind="llm"), ReplicatedLLM)
    assert isinstance(replicated(sample.make_embeddings, replicas=1), ReplicatedEmbeddings)
    assert isinstance(replicated(sample.SampleChat, replicas=1), ReplicatedChat)


def test_bounds_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError):
        replicated(sample.make_llm, replicas=0)
    with pytest.raises(ConfigError):
        replicated(sample.make_llm, replicas=1, max_waiting=-1)


SCRIPT = """
import os
from langchain_core.language_models import LLM
from locktender.adopt.factory import replicated

class Mine(LLM):
    @property
    def _llm_type(self) -> str:
        return "mine"

    def _call(self, prompt, stop=None, run_manager=None, **kwargs):
        return f"{{os.getpid()}} {{os.getppid()}}"

def make() -> Mine:
    return Mine()

model = replicated(make, replicas=1)
{guard}print(*model.invoke("a").split(), os.getpid())
"""


def test_a_factory_may_stand_in_the_script_that_runs(tmp_path: Path) -> None:
    ended = run(tmp_path, SCRIPT.format(guard='if __name__ == "__main__": '))
    assert (ended.returncode, ended.stderr) == (0, "")
    child, parent, main = ended.stdout.split()
    assert parent == main
    with pytest.raises(ProcessLookupError):
        os.kill(int(child), 0)


def test_a_script_that_would_start_processes_without_end_is_told_of(tmp_path: Path) -> None:
    ended = run(tmp_path, SCRIPT.format(guard=""))
    assert ended.returncode == 1
    assert "put what is to run once under `if __name__ == '__main__':`" in ended.stderr


def run(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    path = folder / "queue.py"  # A name that the standard library has, too.
    path.write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-P", path], capture_output=True, check=False, text=True, timeout=LIMIT_S
    )


def stepped(stepper: FactoryStepper, until: Any) -> list[tuple[int, Output]]:
    outputs: list[tuple[int, Output]] = []
    for _ in range(2000):  # of which each waits a little
        if until(outputs):
            return outputs
        outputs += stepper.step()
    raise AssertionError


def asking(prompt: str) -> GenerationRequest:
    text = f'{{"call": "generate", "prompts": ["{prompt}"], "stop": null, "kwargs": {{}}}}'
    return GenerationRequest("1", "m", TextInput(text), 1)


def spec_of(name: str, linger_s: float = 30.0) -> EngineSpec:
    options = (("kind", "llm"), ("linger_s", linger_s))
    return EngineSpec("factory", 1, f"{sample.__name__}:{name}", options)


def test_a_step_returns_while_the_model_is_in_a_call(host: Host) -> None:
    stepper = FactoryStepper(spec_of("make_llm"))
    stepper.add(1, asking(f"visit {host.port}"))
    _, guest = host.meet()
    assert stepped(stepper, bool) == [(1, Delta(prompt_tokens=0))]
    assert stepper.step() == []
    assert stepper.has_work()
    guest.sendall(b"!")
    outputs = stepped(stepper, lambda _: not stepper.has_work())
    assert outputs[-1] == (1, Delta(finish_reason=FinishReason.STOP))
    stepper.close()
    stepper.close()


def test_the_next_call_waits_for_a_cancelled_one_which_says_nothing_more(host: Host) -> None:
    stepper = FactoryStepper(spec_of("make_llm"))
    stepper.add(1, asking(f"visit {host.port}"))
    _, guest = host.meet()
    stepper.cancel(1)
    stepper.cancel(7)
    stepper.add(2, asking("crowd"))
    assert stepper.step() == []
    guest.sendall(b"!")
    outputs = stepped(stepper, lambda _: not stepper.has_work())
    assert {key for key, _ in outputs} == {2}
    assert any(isinstance(one, Delta) and f"{os.getpid()} 1" in one.text for _, one in outputs)
    stepper.close()


def test_a_process_whose_cancelled_call_does_not_end_gives_itself_up(host: Host) -> None:
    stepper = FactoryStepper(spec_of("make_llm", linger_s=0.0))
    stepper.add(1, asking(f"visit {host.port}"))
    _, guest = host.meet()
    stepper.cancel(1)
    with pytest.raises(EngineFailed, match="did not end"):
        stepped(stepper, lambda _: False)
    guest.sendall(b"!")
    stepper.close()
