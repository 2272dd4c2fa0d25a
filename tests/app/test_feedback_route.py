"""Feedback over a user's app: which routes there are, who may use them, how they are described."""

from typing import Annotated, Any
from uuid import UUID

import aiohttp
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from langchain_core.runnables import RunnableLambda

from harness.app_server import Serve
from harness.langsmith_twin import LangSmithTwin
from locktender import APIHandler, add_routes
from locktender.app.feedback_body import FeedbackCreateRequest

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated and will")

RUN_ID = "00000000-0000-0000-0000-0000000000aa"
BODY = {"run_id": RUN_ID, "key": "k"}
ON: dict[str, Any] = {"enable_feedback_endpoint": True, "enable_public_trace_link_endpoint": True}


def app_of(**parameters: Any) -> FastAPI:
    app = FastAPI()
    add_routes(app, RunnableLambda(lambda x: x), path="/run", **parameters)
    return app


async def status_of(client: aiohttp.ClientSession, method: str, url: str, **more: Any) -> int:
    async with client.request(method, url, **more) as answer:
        return answer.status


async def test_feedback_comes_back_as_it_was_sent(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(**ON))
    async with client.post(f"{url}/run/feedback", json={**BODY, "score": 1}) as answer:
        told = await answer.json()
    names = ["run_id", "key", "score", "value", "comment", "id", "created_at", "modified_at"]
    assert list(told) == [*names, "correction"]
    assert (told["score"], told["value"]) == (1, None)
    assert len(langsmith.of("/feedback")) == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff", "text/plain"),
        ('{"run_id":1}'.encode("utf-16"), "text/plain"),
        (rb'{"run_id":1,"key":"\ud800"}', "application/json"),
        (b'{"run_id":NaN,"key":1}', "application/json"),
    ],
)
async def test_a_body_that_cannot_be_quoted_is_a_422(
    serve: Serve, client: aiohttp.ClientSession, body: bytes, kind: str
) -> None:
    url = await serve(app_of(**ON))
    for name in ("feedback", "token_feedback"):
        post = client.post(f"{url}/run/{name}", data=body, headers={"Content-Type": kind})
        async with post as answer:
            assert answer.status == 422
            assert (await answer.json())["detail"]


async def test_heads_say_yes_while_langsmith_is_on(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(**ON))
    for name in ("feedback", "public_trace_link"):
        assert await status_of(client, "HEAD", f"{url}/run/{name}") == 200
    assert langsmith.asked == []


async def test_heads_say_no_while_langsmith_is_off(
    serve: Serve, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locktender.app.feedback.tracing_is_enabled", lambda: False)
    url = await serve(app_of(**ON))
    for name in ("feedback", "public_trace_link"):
        assert await status_of(client, "HEAD", f"{url}/run/{name}") == 400


async def test_a_langsmith_that_refuses_is_a_502_with_a_message(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    langsmith.refused = {"/runs": 401}
    url = await serve(app_of(**ON))
    async with client.put(f"{url}/run/public_trace_link", json={"run_id": RUN_ID}) as answer:
        assert answer.status == 502
        told = await answer.json()
    assert told["message"] == told["detail"] == "LangSmith did not take it."


async def test_dependencies_and_a_router_s_prefix_hold_for_feedback_too(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    async def need(x_token: Annotated[str, Header()] = "") -> None:
        if x_token != "t":
            raise HTTPException(403)

    app, router = FastAPI(), APIRouter(prefix="/api")
    add_routes(router, RunnableLambda(lambda x: x), path="/run", dependencies=[Depends(need)], **ON)
    app.include_router(router)
    url = f"{await serve(app)}/api/run/feedback"
    assert await status_of(client, "POST", url, json=BODY) == 403
    assert await status_of(client, "HEAD", url) == 403
    assert await status_of(client, "POST", url, json=BODY, headers={"x-token": "t"}) == 200
    assert len(langsmith.of("/feedback")) == 1


def test_a_hosted_route_takes_feedback_unless_it_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOSTED_LANGSERVE_ENABLED", "true")
    assert "/run/feedback" in app_of().openapi()["paths"]
    assert "/run/feedback" not in app_of(enable_feedback_endpoint=False).openapi()["paths"]


def test_the_document_has_langserve_s_names() -> None:
    document = app_of(**ON).openapi()
    ids = {
        (path, method): operation["operationId"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "feedback" in path or "link" in path
    }
    link = "public_trace_link"
    assert ids == {
        ("/run/token_feedback", "post"): "create_feedback_from_token_run_token_feedback_post",
        ("/run/feedback", "post"): "create_feedback_run_feedback_post",
        ("/run/feedback", "head"): "_check_feedback_enabled_run_feedback_head",
        (f"/run/{link}", "put"): f"create_{link}_run_{link}_put",
        (f"/run/{link}", "head"): f"_check_{link}_enabled_run_{link}_head",
    }
    names = {"Feedback", "FeedbackCreateRequest", "FeedbackCreateRequestTokenBased"}
    links = {"PublicTraceLink", "PublicTraceLinkCreateRequest"}
    assert names | links <= document["components"]["schemas"].keys()


async def test_routes_of_one_s_own_can_pass_feedback_on(langsmith: LangSmithTwin) -> None:
    handler = APIHandler(
        RunnableLambda(lambda x: x),
        path="/run",
        token_feedback_config={"key_configs": [{"key": "foo"}]},
        **ON,
    )
    told = await handler.create_feedback(FeedbackCreateRequest(run_id=UUID(RUN_ID), key="k"))
    assert told.key == "k"
    link = await handler.create_public_trace_link({"run_id": RUN_ID})
    assert link.public_url
    await handler.create_feedback_from_token({"token_or_url": RUN_ID})
    assert len(langsmith.of("/feedback")) == 1
    assert await handler.check_feedback_enabled()
    assert await handler.check_public_trace_link_enabled()


async def test_a_body_that_is_no_feedback_by_its_size_is_refused(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    app, router = app_of(**ON), APIRouter(prefix="/in")
    add_routes(router, RunnableLambda(lambda x: x), path="/run")
    app.include_router(router)
    url = await serve(app)
    for path in ("run/feedback", "run/token_feedback", "in/run/token_feedback"):
        assert await status_of(client, "POST", f"{url}/{path}", data=b"x" * 1_000_001) == 413
