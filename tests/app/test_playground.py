"""The page of a route: what it is told, where it is, and that nothing else gets into it."""

import html
import json
import re
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda

from locktender import add_routes
from locktender.http.key import KEY_IS_WANTED
from locktender.wire.lzstring import compress_to_encoded_uri_component


def add_one(x: int) -> int:
    return x + 1


async def got(app: Any, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, **options)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


def served(path: str = "/run", **parameters: Any) -> FastAPI:
    app = FastAPI()
    add_routes(app, RunnableLambda(add_one), path=path, **parameters)
    return app


def settings_in(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="settings">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


async def test_a_page_knows_the_schemas_of_its_route() -> None:
    page = await got(served(), "/run/playground/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    settings = settings_in(page.text)
    assert settings["INPUT_SCHEMA"] == {"title": "add_one_input", "type": "integer"}
    assert set(settings) == {
        *("CONFIG_SCHEMA", "INPUT_SCHEMA", "OUTPUT_SCHEMA"),
        *("FEEDBACK_ENABLED", "PUBLIC_TRACE_LINK_ENABLED"),
    }


async def test_what_a_page_names_is_there_and_has_its_type() -> None:
    app = served()
    page = await got(app, "/run/playground/")
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    urls = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(urls) == 3
    for url in urls:
        assert url.startswith("/run/playground/")
        answer = await got(app, url)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(types[url.rpartition(".")[2]])


@pytest.mark.parametrize("path", ["/run/playground/", "/run/playground/assets/playground.js"])
async def test_a_page_runs_no_code_but_its_own(path: str) -> None:
    answer = await got(served(), path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_nothing_in_a_schema_can_end_a_script_or_begin_a_tag() -> None:
    app = FastAPI()
    template = PromptTemplate.from_template("{a}").configurable_fields(
        template=ConfigurableField(id="template")
    )
    add_routes(app, template, path="/run")
    evil = "</script><script>alert(1)</script>"
    config = {"configurable": {"template": f"hi {{{evil}}}"}}
    config_hash = compress_to_encoded_uri_component(json.dumps(config))
    page = await got(app, f"/run/c/{config_hash}/playground/")
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert page.text.count("</script>") == 2
    assert evil in settings_in(page.text)["INPUT_SCHEMA"]["properties"]


@pytest.mark.parametrize("evil", ['"><script>alert(1)</script>', "{{ SETTINGS }}", "'<b>"])
async def test_nothing_in_a_path_gets_out_of_its_place(evil: str) -> None:
    page = await got(served("/of/{user}"), f"/of/{evil.replace('/', '')}/playground/")
    assert page.status_code == 200
    assert page.text.count("<script") == 2
    assert "<b>" not in page.text
    settings_in(page.text)


@pytest.mark.parametrize("root_path", ["/proxy/here", "proxy/here", "/proxy/here/"])
async def test_a_page_behind_a_proxy_names_what_a_browser_asks_for(root_path: str) -> None:
    page = await got(served(), "/run/playground/", root_path=root_path)
    assert 'src="/proxy/here/run/playground/assets/playground.js"' in page.text
    assert 'data-base-url="/proxy/here/run/playground"' in page.text


async def test_a_page_of_a_router_of_a_mounted_app_and_of_a_template_knows_where_it_is() -> None:
    app, inner, router = served("/of/{user}"), served(""), APIRouter(prefix="/v1")
    add_routes(router, RunnableLambda(add_one), path="/run")
    app.include_router(router, prefix="/in")
    app.mount("/mounted", inner)
    for path in ("/of/ann/playground", "/in/v1/run/playground", "/mounted/playground"):
        page = await got(app, f"{path}/")
        assert f'data-base-url="{path}"' in page.text
        assert (await got(app, f"{path}/assets/playground.css")).status_code == 200


async def test_a_page_of_a_path_with_a_config_runs_with_that_config() -> None:
    config_hash = compress_to_encoded_uri_component("{}")
    page = await got(served(), f"/run/c/{config_hash}/playground/index.html")
    assert f"/run/c/{config_hash}/playground" in html.unescape(page.text)


@pytest.mark.parametrize(
    "name",
    ["nope.js", "assets", "assets/", "..%2findex.html", "%2e%2e/%2e%2e/py.typed", "/etc/passwd"],
)
async def test_what_is_no_file_of_the_page_is_not_found(name: str) -> None:
    answer = await got(served(), f"/run/playground/{name}")
    assert answer.status_code == 404


async def test_a_path_without_its_slash_leads_to_the_page() -> None:
    answer = await got(served(), "/run/playground")
    assert answer.status_code == 307
    assert answer.headers["location"] == "http://test/run/playground/"


@pytest.mark.parametrize(
    ("kind", "title"), [("default", "Playground"), ("chat", "Chat Playground")]
)
async def test_a_page_says_what_it_is_for(kind: str, title: str) -> None:
    page = await got(served(playground_type=kind), "/run/playground/")
    assert f"<title>{title}</title>" in page.text


async def test_a_page_is_told_whether_feedback_is_taken() -> None:
    page = await got(served(enable_feedback_endpoint=True), "/run/playground/")
    told = settings_in(page.text)
    assert (told["FEEDBACK_ENABLED"], told["PUBLIC_TRACE_LINK_ENABLED"]) == ("true", "false")


async def test_a_bad_config_in_the_path_is_told_as_elsewhere() -> None:
    answer = await got(served(), "/run/c/zzzz/playground/")
    assert (answer.status_code, answer.json()) == (400, {"detail": "Invalid config hash"})


async def test_a_page_that_is_shown_without_a_key_tells_nothing() -> None:
    app = served()

    async def behind_a_key(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, KEY_IS_WANTED: True}, receive, send)

    page = await got(behind_a_key, "/run/playground/")
    assert settings_in(page.text) == {
        "KEY_IS_WANTED": True,
        **{name: {} for name in ("CONFIG_SCHEMA", "INPUT_SCHEMA", "OUTPUT_SCHEMA")},
        **dict.fromkeys(("FEEDBACK_ENABLED", "PUBLIC_TRACE_LINK_ENABLED"), "false"),
    }
