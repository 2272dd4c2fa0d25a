"""Runs behind a route, over a real socket: what ends them, and what their callers are told."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import anyio
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from harness.app_server import Serve
from locktender import add_routes
from locktender.app.serialization import Serializer
from locktender.core.errors import ContextTooLong, LocktenderError, QueueFull, UnknownModel
from locktender.core.scope import OuterRequest, outer_request

ENDPOINTS = ("invoke", "batch", "stream")
FAILED = {"detail": "Internal Server Error", "message": "Internal Server Error"}


def app_of(runnable: Runnable[Any, Any], **parameters: Any) -> FastAPI:
    app = FastAPI()
    add_routes(app, runnable, path="/run", **parameters)
    return app


def body_of(endpoint: str, *values: Any) -> dict[str, Any]:
    return {"inputs": list(values)} if endpoint == "batch" else {"input": values[0]}


class Patient:
    """A runnable that waits to be cancelled, and says what it was told."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.is_cancelled = asyncio.Event()
        self.outer: OuterRequest | None = None

    async def __call__(self, value: int) -> int:
        self.outer = outer_request.get()
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cancelled.set()
            raise
        return value


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_run_is_cancelled_when_its_caller_leaves(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    patient = Patient()
    url = await serve(app_of(RunnableLambda(patient)))
    with anyio.fail_after(20):
        call = asyncio.ensure_future(
            client.post(f"{url}/run/{endpoint}", json=body_of(endpoint, 1, 2))
        )
        await patient.has_begun.wait()
        call.cancel()
        await patient.is_cancelled.wait()
    assert patient.outer
    assert patient.outer.cancel.is_set


async def test_a_stream_that_is_being_read_is_cancelled_when_its_caller_leaves(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    is_closed = asyncio.Event()

    async def count(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for _ in inputs:
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                is_closed.set()

    url = await serve(app_of(RunnableGenerator(count)))
    with anyio.fail_after(20):
        async with client.post(f"{url}/run/stream", json={"input": 1}) as response:
            assert await response.content.readline() == b"event: metadata\r\n"
        await is_closed.wait()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_deadline_that_passes_cancels_the_run_and_is_a_504(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    patient = Patient()
    url = await serve(app_of(RunnableLambda(patient)))
    headers = {"X-Request-Timeout-Seconds": "0.05"}
    async with client.post(
        f"{url}/run/{endpoint}", json=body_of(endpoint, 1), headers=headers
    ) as response:
        assert response.status == 504
        body = await response.json()
    assert body["code"] == "deadline_exceeded"
    assert body["detail"] == body["message"]
    assert patient.is_cancelled.is_set()


async def test_a_bad_time_limit_is_a_422(serve: Serve, client: aiohttp.ClientSession) -> None:
    url = await serve(app_of(RunnableLambda(Patient())))
    headers = {"X-Request-Timeout-Seconds": "soon"}
    async with client.post(f"{url}/run/invoke", json={"input": 1}, headers=headers) as response:
        assert response.status == 422
        assert (await response.json())["code"] == "invalid_request"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_chain_sees_whom_it_runs_for(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    seen: list[OuterRequest | None] = []

    def look(value: int) -> int:  # in a thread
        seen.append(outer_request.get())
        return value

    url = await serve(app_of(RunnableLambda(look)))
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {
        "X-Locktender-Tenant": "ann",
        "X-Request-Id": "r1",
        "traceparent": trace,
        "X-Request-Timeout-Seconds": "60",
    }
    async with client.post(
        f"{url}/run/{endpoint}", json=body_of(endpoint, 1, 2), headers=headers
    ) as response:
        await response.read()
    first = seen[0]
    assert first
    assert (first.tenant, first.caller_id, first.traceparent) == ("ann", "r1", trace)
    assert first.deadline_at is not None
    assert not first.cancel.is_set
    assert {outer.id for outer in seen if outer} == {first.id}
    assert len(seen) == (2 if endpoint == "batch" else 1)


async def test_each_request_has_an_id_of_its_own_and_leaves_nothing_behind(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    seen: list[str] = []

    async def look(value: int) -> int:
        outer = outer_request.get()
        seen.append(outer.id if outer else "")
        return value

    url = await serve(app_of(RunnableLambda(look)))
    for _ in range(2):  # on one connection
        async with client.post(f"{url}/run/invoke", json={"input": 1}) as response:
            await response.read()
    assert len(set(seen)) == 2
    assert all(seen)
    assert outer_request.get() is None


async def test_when_one_run_of_a_batch_fails_nothing_runs_on_after_the_answer(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    ended: list[int] = []

    async def fail_at_two(value: int) -> int:
        if value == 2:
            message = "secret detail"
            raise ValueError(message)
        for _ in range(100):
            await asyncio.sleep(0)
        ended.append(value)
        return value

    url = await serve(app_of(RunnableLambda(fail_at_two)))
    async with client.post(f"{url}/run/batch", json={"inputs": [1, 2]}) as response:
        assert (response.status, await response.json()) == (500, FAILED)
    assert ended == [1]


async def test_a_body_or_a_batch_beyond_its_bound_is_refused(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(RunnableLambda(lambda value: value)))
    async with client.post(f"{url}/run/batch", json={"inputs": [1] * 1001}) as response:
        told = {"detail": "A batch may have 1000 inputs, not 1001."}
        assert (response.status, await response.json()) == (422, told)
    async with client.post(f"{url}/run/invoke", data=io.BytesIO(b"1" * 32_000_001)) as response:
        assert response.status == 413


def refuse_directly(_: int) -> int:
    raise QueueFull("The gate is full.", 2.4)


def refuse_behind_a_cause(value: int) -> int:
    try:
        return refuse_directly(value)
    except QueueFull as error:
        message = "The chain failed."
        raise RuntimeError(message) from error


def refuse_within_a_group(value: int) -> int:
    try:
        return refuse_directly(value)
    except QueueFull as error:
        message = "Some of them failed."
        raise ExceptionGroup(message, [ValueError("x"), error]) from None


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("refuse", [refuse_directly, refuse_behind_a_cause, refuse_within_a_group])
async def test_a_refusal_of_the_model_layer_leaves_the_route_as_the_same_refusal(
    endpoint: str, refuse: Callable[[int], int], serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(RunnableLambda(refuse)))
    async with client.post(f"{url}/run/{endpoint}", json=body_of(endpoint, 1)) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "3"
        assert await response.json() == {
            "detail": "The gate is full.",
            "message": "The gate is full.",
            "code": "queue_full",
        }


@pytest.mark.parametrize(
    ("error", "status"), [(ContextTooLong("Too long."), 422), (UnknownModel("No such."), 404)]
)
async def test_a_refused_request_keeps_its_status(
    error: LocktenderError, status: int, serve: Serve, client: aiohttp.ClientSession
) -> None:
    def refuse(_: int) -> int:
        raise error

    url = await serve(app_of(RunnableLambda(refuse)))
    async with client.post(f"{url}/run/invoke", json={"input": 1}) as response:
        assert response.status == status
        assert (await response.json())["code"] == error.code


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, "stream_log"])
async def test_a_run_that_gives_up_as_if_it_was_cancelled_has_failed(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    async def give_up(_: int) -> int:
        raise asyncio.CancelledError

    url = await serve(app_of(RunnableLambda(give_up)))
    async with client.post(f"{url}/run/{endpoint}", json=body_of(endpoint, 1)) as response:
        body = await response.text()
    assert '"message":"Internal Server Error"' in body.replace(": ", ":")


async def test_a_refusal_after_the_first_chunk_is_an_event_with_its_code(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    async def begin(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for value in inputs:
            yield value
            raise QueueFull("The gate is full.")

    url = await serve(app_of(RunnableGenerator(begin)))
    async with client.post(f"{url}/run/stream", json={"input": 1}) as response:
        body = await response.text()
    assert response.status == 200
    last = '{"status_code": 503, "message": "The gate is full.", "code": "queue_full"}'
    assert body.endswith(f"event: data\r\ndata: 1\r\n\r\nevent: error\r\ndata: {last}\r\n\r\n")


async def test_a_handler_of_the_user_s_app_answers_the_exceptions_that_it_is_for(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    def fail(_: int) -> int:
        raise LookupError

    async def answer(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"kind": type(error).__name__}, 410)

    app = app_of(RunnableLambda(fail))
    app.add_exception_handler(LookupError, answer)
    url = await serve(app)
    async with client.post(f"{url}/run/invoke", json={"input": 1}) as response:
        assert (response.status, await response.json()) == (410, {"kind": "LookupError"})


async def test_a_sync_run_learns_in_its_thread_that_its_caller_has_left(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    has_begun, is_told = threading.Event(), threading.Event()

    def wait(value: int) -> int:
        outer = outer_request.get()
        assert outer
        outer.cancel.on_set(is_told.set)
        has_begun.set()
        assert is_told.wait(20)
        return value

    url = await serve(app_of(RunnableLambda(wait)))
    with anyio.fail_after(30):
        call = asyncio.ensure_future(client.post(f"{url}/run/invoke", json={"input": 1}))
        assert await asyncio.to_thread(has_begun.wait, 20)
        call.cancel()
        assert await asyncio.to_thread(is_told.wait, 20)


async def test_a_silent_stream_sends_comments_until_its_first_chunk(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    may_answer = asyncio.Event()

    async def wait(value: int) -> int:
        await may_answer.wait()
        return value

    url = await serve(app_of(RunnableLambda(wait), ping_s=0.01))
    with anyio.fail_after(20):
        async with client.post(f"{url}/run/stream", json={"input": 1}) as response:
            assert (await response.content.readline()).startswith(b": ping - ")
            assert await response.content.readline() == b"\r\n"
            may_answer.set()
            rest = await response.text()
    assert rest.partition("event: data\r\n")[2] == "data: 1\r\n\r\nevent: end\r\n\r\n"


async def test_a_stream_that_pinged_can_only_tell_a_refusal_as_an_event(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    may_refuse = asyncio.Event()

    async def wait(_: int) -> int:
        await may_refuse.wait()
        raise QueueFull("The gate is full.")

    url = await serve(app_of(RunnableLambda(wait), ping_s=0.01))
    with anyio.fail_after(20):
        async with client.post(f"{url}/run/stream", json={"input": 1}) as response:
            await response.content.readline()
            may_refuse.set()
            rest = await response.text()
    assert response.status == 200
    assert '"code": "queue_full"' in rest


async def test_a_run_behind_middleware_is_cancelled_too(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    patient = Patient()
    app = app_of(RunnableLambda(patient))

    @app.middleware("http")
    async def pass_on(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    url = await serve(app)
    with anyio.fail_after(20):
        call = asyncio.ensure_future(client.post(f"{url}/run/invoke", json={"input": 1}))
        await patient.has_begun.wait()
        call.cancel()
        await patient.is_cancelled.wait()


async def test_a_user_s_serializer_writes_outputs_and_chunks(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    class Counting(Serializer):
        def dumps(self, obj: Any) -> bytes:
            return b'{\n"n": %d}' % len(obj)

        def loadd(self, obj: Any) -> Any:
            return obj

    runnable: RunnableLambda[Any, Any] = RunnableLambda(lambda value: {value})
    url = await serve(app_of(runnable, serializer=Counting()))
    async with client.post(f"{url}/run/invoke", json={"input": 1}) as response:
        assert (await response.json())["output"] == {"n": 1}
    async with client.post(f"{url}/run/stream", json={"input": 1}) as response:
        assert 'event: data\r\ndata: {\r\ndata: "n": 1}\r\n\r\n' in await response.text()


def teapot(_: int) -> int:
    raise HTTPException(418, {"kind": "teapot"}, {"x-brew": "tea"})


async def pours_first(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
    async for value in inputs:
        yield value
        raise HTTPException(418, "teapot")


async def blocked_at_once(_inputs: AsyncIterator[int]) -> AsyncIterator[int]:
    raise HTTPException(418, {"kind": "teapot"}, {"x-brew": "tea"})
    yield


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("run", [RunnableLambda(teapot), RunnableGenerator(blocked_at_once)])
async def test_an_http_exception_of_a_run_keeps_its_status_while_there_can_be_one(
    endpoint: str, run: Runnable[Any, Any], serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(run))
    async with client.post(f"{url}/run/{endpoint}", json=body_of(endpoint, 1)) as response:
        assert response.status == 418
        assert await response.json() == {"detail": {"kind": "teapot"}}
        assert response.headers["x-brew"] == "tea"
    async with client.post(f"{url}/run/{endpoint}", json=body_of(endpoint, 1)) as response:
        assert response.status == 418  # over the same connection


async def test_an_http_exception_of_a_stream_is_the_app_s_to_answer(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    app = app_of(RunnableLambda(teapot))

    @app.exception_handler(HTTPException)
    async def own(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"own": error.detail}, 499)

    url = await serve(app)
    for endpoint in ("invoke", "stream"):
        async with client.post(f"{url}/run/{endpoint}", json={"input": 1}) as response:
            assert response.status == 499
            assert await response.json() == {"own": {"kind": "teapot"}}


async def test_an_http_exception_after_the_status_line_is_an_event(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(RunnableGenerator(pours_first)))
    for endpoint in ("stream", "stream_log", "stream_events"):
        async with client.post(f"{url}/run/{endpoint}", json={"input": 1}) as response:
            assert response.status == 200
            assert (await response.text()).endswith(
                'data: {"status_code": 500, "message": "Internal Server Error"}\r\n\r\n'
            )
