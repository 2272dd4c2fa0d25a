"""Bodies of many values, over a real socket: answered as any other, and never on the event loop."""

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator
from typing import Annotated, Any

import aiohttp
import pytest
from fastapi import FastAPI
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnablePassthrough
from pydantic import AfterValidator

from harness.app_server import Serve
from locktender import add_routes
from locktender.app.serialization import WellKnownSerializer
from locktender.http.offload import offload_of

EXTENDED = {"X-Locktender-Extensions": "1"}
PRIME = 2**61 - 1
MANY = list(range(2_000))
MAIN = threading.main_thread()


class Recording(WellKnownSerializer):
    """Remembers in which threads large values are written."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()

    def dumps(self, obj: Any) -> bytes:
        written = super().dumps(obj)
        if len(written) > 5_000:
            self.threads.add(threading.current_thread())
        return written


def typed(runnable: Any, **types: Any) -> Any:
    return runnable.with_types(**types)


def app_of(**runnables: Any) -> FastAPI:
    app = FastAPI()
    for name, runnable in runnables.items():
        add_routes(app, runnable, path=f"/{name}", guard="off")
    return app


async def chunks(values: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for value in values:
        yield value
        yield [1]


async def test_what_a_heavy_body_is_made_into_is_made_in_one_other_thread(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    read_in: set[threading.Thread] = set()

    def seen(value: Any) -> Any:
        read_in.add(threading.current_thread())
        return value

    serializer, app = Recording(), FastAPI()
    kind = Annotated[list[int], AfterValidator(seen)]
    echo = typed(RunnableGenerator(chunks), input_type=kind, output_type=Any)
    add_routes(app, echo, path="/echo", serializer=serializer)
    url = await serve(app)

    async def post(name: str, body: Any) -> str:
        async with client.post(f"{url}/echo/{name}", json=body) as response:
            assert response.status == 200
            return await response.text()

    invoked = json.loads(await post("invoke", {"input": MANY}))
    assert invoked["output"] == [*MANY, 1]
    batched = json.loads(await post("batch", {"inputs": [MANY, MANY]}))
    assert batched["output"] == [[*MANY, 1]] * 2
    for name in ("stream", "stream_log", "stream_events"):
        assert json.dumps(MANY, separators=(",", ":")) in await post(name, {"input": MANY})
    assert len(read_in | serializer.threads) == 1
    assert MAIN not in read_in
    light = json.loads(await post("invoke", {"input": [5]}))
    assert light["output"] == [5, 1]
    assert MAIN in read_in


async def test_a_large_sum_of_chunks_is_compared_in_the_other_thread_too(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    chain = RunnablePassthrough.assign(n=RunnableLambda(len))
    url = await serve(app_of(add=typed(chain, input_type=dict[str, Any])))
    body: Any = {"input": {"many": [{} for _ in MANY]}}
    async with client.post(f"{url}/add/stream_log", json=body) as response:
        text = await response.text()
    assert '"path":"/final_output/n","value":1' in text


@pytest.mark.parametrize("path", ["chat", "any"])
async def test_honest_large_bodies_go_through(
    path: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    anything = typed(RunnableLambda(lambda value: len(str(value))), input_type=Any)
    url = await serve(app_of(chat=FakeListChatModel(responses=["yes"]), any=anything))
    document = {"page_content": "a, [b] " * 20, "metadata": {"source": "s", "page": 1}}
    documents = [{**document, "type": "Document", "id": str(n)} for n in range(5_000)]
    bodies: dict[str, list[Any]] = {
        "chat": ["x" * 20_000_000, "\u4e2d," * 3_000_000, [["human", "hi"]] * 1_000],
        "any": ["x" * 30_000_000, documents],
    }
    for value in bodies[path]:
        body = io.BytesIO(json.dumps({"input": value}, ensure_ascii=False).encode())
        async with client.post(f"{url}/{path}/invoke", data=body) as response:
            assert response.status == 200


async def test_documents_of_a_large_body_are_langchain_s(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    def kinds(values: list[Any]) -> list[Any]:
        return [values[0], len(values)]

    lists = typed(RunnableLambda(kinds), input_type=list[Document], output_type=Any)
    url = await serve(app_of(docs=lists))
    body = {"input": [{"page_content": "a", "type": "Document"}] * 1_000}
    async with client.post(f"{url}/docs/invoke", json=body) as response:
        output = (await response.json())["output"]
    assert (output[0]["page_content"], output[1]) == ("a", 1_000)


async def test_a_refusal_of_a_heavy_body_does_not_quote_it(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(n=typed(RunnableLambda(abs), input_type=list[int])))
    async with client.post(f"{url}/n/invoke", json={"input": [*MANY, "secret"]}) as response:
        assert response.status == 422
        (detail,) = (await response.json())["detail"]
    assert (detail["type"], detail["loc"]) == ("int_parsing", [2_000])
    assert "input" not in detail
    async with client.post(f"{url}/n/invoke", json={"input": ["x"] * 5_000}) as response:
        assert "5,000 errors" in (await response.json())["detail"][0]["msg"]


async def test_too_many_values_are_a_413_that_names_the_setting(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(len), path="/r", max_body_values=5_000)
    url = await serve(app)
    for name in ("invoke", "batch", "stream", "stream_log", "stream_events"):
        async with client.post(f"{url}/r/{name}", json={"input": [[]] * 10_000}) as response:
            told = await response.json()
        assert (response.status, told["code"]) == (413, "request_too_large")
        assert "20,002 JSON values or more; `max_body_values` allows 5,000" in told["detail"]


@pytest.mark.parametrize("wrap", ["set", "frozenset", "dict"])
async def test_members_chosen_to_have_one_hash_are_a_422(
    wrap: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(any=typed(RunnableLambda(str), input_type=Any)))
    members: list[Any] = [PRIME * n for n in range(1, 10_000)]
    value = [[each, 1] for each in members] if wrap == "dict" else members
    body = {"input": {"__locktender__": wrap, "value": value}}
    async with client.post(f"{url}/any/invoke", json=body, headers=EXTENDED) as response:
        assert response.status == 422
        assert "members of one hash" in (await response.json())["detail"][0]["msg"]


async def test_a_set_by_the_schema_takes_no_more_than_can_be_compared(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(set=typed(RunnableLambda(len), input_type=set[int])))
    for n, status in ((1_900, 200), (2_000, 422)):
        body = {"input": [PRIME * each for each in range(n)]}
        async with client.post(f"{url}/set/invoke", json=body) as response:
            assert response.status == status


async def test_a_config_of_very_many_values_is_a_422(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(r=RunnableLambda(str)))
    configs: list[Any] = [{"metadata": {"a": [1] * 2_000}}, [{"configurable": {"a": [[]] * 2_000}}]]
    for config in configs:
        inputs = {"inputs": [1]} if isinstance(config, list) else {"input": 1}
        name = "batch" if isinstance(config, list) else "invoke"
        async with client.post(f"{url}/r/{name}", json={**inputs, "config": config}) as response:
            assert response.status == 422
            assert "2,000 values" in (await response.json())["detail"]


async def test_heavy_bodies_wait_for_one_another_and_light_ones_pass(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    may_end, has_begun = threading.Event(), threading.Event()
    lengths: set[int] = set()

    def held(value: Any) -> Any:
        lengths.add(len(value))
        if len(value) > 1_000:
            has_begun.set()
            assert may_end.wait(20)
        return value

    kind = Annotated[list[int], AfterValidator(held)]
    app = app_of(held=typed(RunnableLambda(len), input_type=kind))
    url = await serve(app)

    async def post(value: Any, **headers: str) -> int:
        body = {"input": value}
        async with client.post(f"{url}/held/invoke", json=body, headers=headers) as response:
            return response.status

    heavy = [asyncio.create_task(post(MANY)) for _ in range(2)]
    while not has_begun.is_set():
        assert await post([1]) == 200
    assert await post(MANY, **{"X-Request-Timeout-Seconds": "0.05"}) == 504
    leaving = asyncio.create_task(post([*MANY, 0]))
    offload = offload_of(app)
    while offload.n_inside < 3:
        await post([1])
    leaving.cancel()
    while offload.n_inside > 2:
        await post([1])
    assert await post(["x"]) == 422
    assert not any(each.done() for each in heavy)
    may_end.set()
    assert [await each for each in heavy] == [200, 200]
    assert lengths == {1, len(MANY)}  # and nothing was read for who had left
