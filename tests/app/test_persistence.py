"""What a chat model makes of a refusal: an answer, or a reason to come again; and its share."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

from harness.gate import until
from locktender.app.chat_model import ChatLocktender
from locktender.app.own_request import within
from locktender.core.errors import DeadlineExceeded, QueueFull, UnknownModel, WaitTooLong
from locktender.core.scope import OuterRequest

ANSWER = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}
STREAM = """data: {"choices": [{"delta": {"content": "yes"}, "finish_reason": null}]}

data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}

data: [DONE]

"""


@dataclass
class Gate:
    """A model service that says what the test has it say."""

    # Given how many calls have come, whether this one is refused, and with what code.
    refuses: Callable[[int], str | None] = lambda _: None
    share: int | None = None
    retry_after: str = "0"
    url: str = ""
    seen: list[Mapping[str, str]] = field(default_factory=list)  # headers, by small names
    n_at_once: int = 0
    most_at_once: int = 0
    is_open: asyncio.Event = field(default_factory=asyncio.Event)  # answers are given

    def __post_init__(self) -> None:
        self.is_open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:-1]
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head)
        }
        asked = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.seen.append(headers)
        code = self.refuses(len(self.seen))
        self.n_at_once += 1
        self.most_at_once = max(self.most_at_once, self.n_at_once)
        if code is None:
            await self.is_open.wait()
        self.n_at_once -= 1
        body = STREAM if asked.get("stream") else json.dumps(ANSWER)
        if code is not None:
            body = json.dumps({"error": {"message": "No.", "code": code}})
        named: dict[str, object] = {"Content-Length": len(body), "Connection": "close"}
        if self.share is not None:
            named["X-Locktender-Share"] = self.share
        if code is not None:
            named["Retry-After"] = self.retry_after
        lines = [f"HTTP/1.1 {503 if code else 200} Told", *(f"{k}: {v}" for k, v in named.items())]
        writer.write("\r\n".join([*lines, "", body]).encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(gate: Gate) -> AsyncIterator[Gate]:
    async with await asyncio.start_server(gate.serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        gate.url = f"http://{host}:{port}/v1"
        with anyio.fail_after(20):
            yield gate


@pytest.mark.parametrize("code", ["queue_full", "wait_too_long"])
async def test_the_first_call_of_a_request_is_refused_as_the_gate_says(code: str) -> None:
    async with serving(Gate(lambda _: code)) as gate:
        model = ChatLocktender(base_url=gate.url)
        with pytest.raises((QueueFull, WaitTooLong)):
            await model.ainvoke("hi")
        with within(OuterRequest("agent")), pytest.raises((QueueFull, WaitTooLong)):
            await model.ainvoke("hi")
        assert len(gate.seen) == 2
        with pytest.raises((QueueFull, WaitTooLong)):
            await model.abatch(["hi"] * 5)
        # One may come again while another of the batch asks: LangChain says how long that is.
        assert len(gate.seen) >= 7


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("code", ["queue_full", "wait_too_long"])
async def test_a_later_call_of_a_request_that_was_let_in_comes_again(
    code: str, is_streamed: bool
) -> None:
    async with serving(Gate(lambda n: code if 2 <= n <= 4 else None)) as gate:
        model = ChatLocktender(base_url=gate.url)
        with within(OuterRequest("agent")):
            await model.ainvoke("first")
            if is_streamed:
                pieces = [piece.text async for piece in model.astream("second")]
                assert "".join(pieces) == "yes"
            else:
                assert (await model.ainvoke("second")).text == "yes"
        assert len(gate.seen) == 5


async def test_what_is_no_want_of_room_does_not_come_again() -> None:
    async with serving(Gate(lambda n: "model_not_found" if n == 2 else None)) as gate:
        model = ChatLocktender(base_url=gate.url)
        with within(OuterRequest("agent")):
            await model.ainvoke("first")
            with pytest.raises(UnknownModel):
                await model.ainvoke("second")
        assert len(gate.seen) == 2


async def test_a_batch_of_which_one_was_let_in_is_answered_in_full() -> None:
    async with serving(Gate(lambda n: None if n == 1 or n > 30 else "queue_full")) as gate:
        gate.is_open.clear()
        batch = asyncio.create_task(ChatLocktender(base_url=gate.url).abatch(["hi"] * 20))
        await until(lambda: len(gate.seen) > 30)
        gate.is_open.set()
        assert [answer.text for answer in await batch] == ["yes"] * 20


async def test_it_does_not_wait_for_room_beyond_the_time_limit() -> None:
    async with serving(Gate(lambda n: None if n == 1 else "queue_full", retry_after="20")) as gate:
        model = ChatLocktender(base_url=gate.url)
        outer = OuterRequest("agent", deadline_at=asyncio.get_running_loop().time() + 15)
        with within(outer):
            await model.ainvoke("first")
            with pytest.raises(DeadlineExceeded, match="before there is room"):
                await model.ainvoke("second")
        another = OuterRequest("another", entered={(gate.url, "smollm2")})
        with within(another), pytest.raises(DeadlineExceeded, match="before there is room"):
            await model.bind(timeout_s=15).ainvoke("second")


async def test_no_more_calls_of_a_request_are_under_way_than_the_share_that_the_gate_names() -> (
    None
):
    async with serving(Gate(share=3)) as gate:
        model = ChatLocktender(base_url=gate.url)
        await model.ainvoke("hi")
        gate.is_open.clear()
        batch = asyncio.create_task(model.abatch(["hi"] * 20))
        await until(lambda: gate.n_at_once == 3)
        gate.is_open.set()
        assert len(await batch) == 20
        assert gate.most_at_once == 3


@pytest.mark.parametrize("share", [0, -1, 10**30])
async def test_a_share_that_is_none_bounds_nothing_or_everything(share: int) -> None:
    async with serving(Gate(share=share)) as gate:
        answers = await ChatLocktender(base_url=gate.url).abatch(["hi"] * 20)
        assert len(answers) == 20


async def test_calls_of_a_request_are_signed_and_those_of_nobody_are_not() -> None:
    async with serving(Gate()) as gate:
        model = ChatLocktender(base_url=gate.url)
        await model.ainvoke("hi")
        with within(OuterRequest("agent", tenant="ann")):
            await model.ainvoke("hi")
        signatures = [seen.get("x-locktender-signature") for seen in gate.seen]
        assert signatures[0] is None
        assert signatures[1]
        assert signatures[1].startswith("v1 ")
