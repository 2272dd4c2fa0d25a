"""The runnables behind two routes that somebody wrote by hand, with care for their speed.

FastAPI's own means, where they are the fast ones: a body model of the very type.  Answers and
events are put together as bytes, with orjson.  That is no more work to write, and FastAPI's
defaults (an answer by its return type, a `JSONResponse`, an `EventSourceResponse`) take longer,
which would make it a weaker peer.  The run gets the config that a package's route would give it.

What a package's route does besides is left out: no config of the caller's, no cancellation of an
invoke whose caller leaves, no pings, no errors but FastAPI's own, no type but this one.
"""

import uuid
from collections.abc import AsyncIterator

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel
from runnable import add_one, speak

app = FastAPI()


class Body(BaseModel):
    """What a caller sends."""

    input: int


@app.post("/add_one/invoke")
async def invoke(body: Body, request: Request) -> Response:
    """Run once."""
    run_id = uuid.uuid4()
    output = await add_one.ainvoke(body.input, _config(request, run_id, "/add_one", "invoke"))
    answer = {"output": output, "metadata": {"run_id": run_id, "feedback_tokens": []}}
    return Response(orjson.dumps(answer), media_type="application/json")


@app.post("/speak/stream")
async def stream(body: Body, request: Request) -> StreamingResponse:
    """Run once, and answer while it runs."""
    run_id = uuid.uuid4()
    config = _config(request, run_id, "/speak", "stream")

    async def events() -> AsyncIterator[bytes]:
        yield f'event: metadata\r\ndata: {{"run_id": "{run_id}"}}\r\n\r\n'.encode()
        async for chunk in speak.astream(body.input, config):
            yield b"event: data\r\ndata: " + orjson.dumps(chunk) + b"\r\n\r\n"
        yield b"event: end\r\n\r\n"

    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _config(request: Request, run_id: uuid.UUID, name: str, endpoint: str) -> RunnableConfig:
    metadata = {
        "__useragent": request.headers.get("user-agent"),
        "__langserve_version": "0.3.3",
        "__langserve_endpoint": endpoint,
    }
    return RunnableConfig(metadata=metadata, run_id=run_id, run_name=name)
