"""What the model layer's HTTP face says of paths that it does not have."""

import httpx
import pytest

from locktender.http.mount import Mounted
from locktender.http.settings import DoorSettings
from locktender.model.service import ModelService, ServiceSettings
from locktender.wire.problem import openai_problem


async def _told(path: str, root_path: str = "", method: str = "GET") -> tuple[int, str]:
    app = ModelService({}, ServiceSettings(), lambda _: None).app()
    mounted = Mounted(app, DoorSettings(root_path=root_path), openai_problem)
    transport = httpx.ASGITransport(mounted)
    async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
        answer = await client.request(method, path)
    return answer.status_code, answer.json()["error"]["message"]


@pytest.mark.parametrize("root_path", ["", "/m"])
@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/models/", "/v1/models"),
        ("/models/smollm2", "/v1/models/smollm2"),
        ("/v1/v1/models", "/v1/models"),
        ("/v1/chat/completions/models", "/v1/models"),
        ("/v1/tokenize", "/tokenize"),
        ("/v1/v1/tokenize", "/tokenize"),
        ("/v1/nothing", None),
        ("/v1/completions", None),
        ("/v1/chat/completions/x", None),
        ("/supermodels", None),
        ("/", None),
    ],
)
async def test_an_unknown_path_is_told_with_the_one_that_was_meant(
    root_path: str, path: str, meant: str | None
) -> None:
    status, sentence = await _told(path, root_path)
    assert status == 404
    hint = "" if meant is None else f" There is `{root_path}{meant}`"
    note = ": a base URL ends in `/v1`." if meant and meant.startswith("/v1") else "." * bool(meant)
    assert sentence == f"There is no GET {root_path}{path} here.{hint}{note}"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_no_method_is_told_of_a_path_that_is_not_there(method: str) -> None:
    status, sentence = await _told("/chat/completions", method=method)
    assert status == 404
    assert "`/v1/chat/completions`" in sentence
