"""A key, hosts and pages, at services that are started as their users start them."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx
import openai
import psutil
import pytest
from pydantic import SecretStr

from harness.service import Service, Starter
from locktender import ChatLocktender, RemoteRunnable
from locktender.core.errors import Unauthenticated

KEY = "a-key-that-nobody-guesses"
BEARER = {"Authorization": f"Bearer {KEY}"}
SETTINGS: Mapping[str, Any] = {
    "api_key": KEY,
    "allowed_hosts": ["chains.example"],
    "cors_origins": ["https://page.example"],
}
BODY = {"input": {"text": "repeat 3: on"}}
ANSWER = "on on on"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Start what several tests ask, and end it."""
    starter = Starter(tmp_path_factory.mktemp("doors"), None)
    yield starter
    starter.end_all()


@pytest.fixture(scope="module")
def served_chain(started: Starter) -> tuple[str, str, int]:
    """Serve a chain behind a key; give its URL, its model layer's, and the process."""
    url, of_client = started.start_app("chains:chain", **SETTINGS)
    service: Service = of_client(None)  # type: ignore[arg-type]  # nothing is asked by it
    return f"{url}/chain", service.url, service.process.pid


async def got(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: object = None
) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.request(method, url, headers=headers, json=body)


async def test_a_chain_runs_for_its_key_only_and_reaches_its_model_with_another(
    served_chain: tuple[str, str, int],
) -> None:
    url, model_url, pid = served_chain
    refused = await got("POST", f"{url}/invoke", body=BODY)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_api_key")
    for headers in (BEARER, {"X-API-Key": KEY}):
        answer = await got("POST", f"{url}/invoke", headers, BODY)
        assert (answer.status_code, answer.json()["output"]) == (200, ANSWER)
    assert (await got("GET", f"{model_url}/models")).status_code == 401
    assert (await got("GET", f"{model_url}/models", BEARER)).status_code == 200
    workers = psutil.Process(pid).children(recursive=True)
    inner = next(found for each in workers if (found := each.environ().get("LOCKTENDER_API_KEY")))
    assert inner != KEY
    assert (await got("POST", f"{url}/invoke", {"X-API-Key": inner}, BODY)).status_code == 401
    assert not any(key in " ".join(each.cmdline()) for each in workers for key in (KEY, inner))


async def test_what_tells_wants_the_key_and_the_page_asks_for_it(
    served_chain: tuple[str, str, int],
) -> None:
    url, _, _ = served_chain
    root = url.removesuffix("/chain")
    for path in ("/chain/input_schema", "/chain/extensions", "/openapi.json", "/docs"):
        assert (await got("GET", root + path)).status_code == 401
        assert (await got("GET", root + path, BEARER)).status_code == 200
    page = await got("GET", f"{url}/playground/")
    assert page.status_code == 200
    assert '"KEY_IS_WANTED": true' in page.text
    assert '"INPUT_SCHEMA": {}' in page.text
    assert "text" not in (re.findall(r'id="settings">(.*?)</script>', page.text)[0])
    script = await got("GET", f"{url}/playground/assets/playground.js")
    assert script.status_code == 200
    assert (await got("POST", f"{url}/playground/")).status_code == 401
    assert (await got("GET", f"{root}/")).status_code == 404


async def test_the_clients_send_the_key_they_are_given(
    served_chain: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, model_url, _ = served_chain
    monkeypatch.delenv("LOCKTENDER_API_KEY", raising=False)
    question = [("human", "repeat 3: on")]
    with pytest.raises(Unauthenticated):
        await RemoteRunnable[Any, Any](url).ainvoke(BODY["input"])
    with pytest.raises(Unauthenticated):
        await ChatLocktender(model="echo", base_url=model_url).ainvoke(question)
    async with openai.AsyncOpenAI(base_url=model_url, api_key="no") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    assert await RemoteRunnable[Any, Any](url, api_key=KEY).ainvoke(BODY["input"]) == ANSWER
    model = ChatLocktender(model="echo", base_url=model_url, api_key=SecretStr(KEY))
    assert (await model.ainvoke(question)).content == ANSWER
    monkeypatch.setenv("LOCKTENDER_API_KEY", KEY)
    assert await RemoteRunnable[Any, Any](url).ainvoke(BODY["input"]) == ANSWER
    assert (await ChatLocktender(model="echo", base_url=model_url).ainvoke(question)).text == ANSWER
    with pytest.raises(Unauthenticated):
        await RemoteRunnable[Any, Any](url, api_key="").ainvoke(BODY["input"])


async def test_both_servers_answer_to_their_own_hosts_and_pages(
    served_chain: tuple[str, str, int],
) -> None:
    url, model_url, _ = served_chain
    for place, body in ((f"{url}/invoke", BODY), (f"{model_url}/chat/completions", {})):
        refused = await got("POST", place, {**BEARER, "Host": "evil.example"}, body)
        assert refused.status_code == 403
        assert "`evil.example`" in refused.text
        assert "allowed_hosts" in refused.text
        refused = await got("POST", place, {**BEARER, "Origin": "http://evil.example"}, body)
        assert refused.status_code == 403
        for headers in ({"Host": "chains.example"}, {"Origin": "https://page.example"}):
            answer = await got("POST", place, {**BEARER, **headers}, body)
            assert answer.status_code in {200, 400}
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        assert (await got("OPTIONS", place, asked)).status_code == 200
    health = model_url.replace("/v1", "/readyz")
    assert (await got("GET", health, {"Host": "evil.example"})).status_code == 200


async def test_an_app_of_ones_own_has_the_key_and_no_other_check(started: Starter) -> None:
    url, _ = started.start_app("chains:app", **SETTINGS)
    headers = {**BEARER, "Host": "evil.example", "Origin": "http://evil.example"}
    with anyio.fail_after(60):
        answer = await got("POST", f"{url}/chain/invoke", headers, BODY)
    assert answer.json()["output"] == ANSWER
    assert (await got("POST", f"{url}/chain/invoke", body=BODY)).status_code == 401
    assert (await got("GET", f"{url}/chain/playground/")).status_code == 200
    assert (await got("GET", f"{url}/chain/input_schema")).status_code == 401


@pytest.mark.parametrize("command", [["model", "echo"], ["serve", "app.py:app"]])
def test_all_the_network_does_not_come_in_by_mistake(command: list[str], tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("locktender"))
    everywhere = "0.0.0.0"  # noqa: S104 - it is refused
    ended = subprocess.run(
        [program, *command, "--host", everywhere],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "LOCKTENDER_API_KEY" in ended.stderr
    assert "--insecure" in ended.stderr
