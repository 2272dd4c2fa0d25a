import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from langchain_core.runnables import RunnableLambda

import locktender
from locktender import add_routes

runnable: RunnableLambda[Any, Any] = RunnableLambda(lambda value: value)
SCHEMAS = {"input_schema", "output_schema", "config_schema"}
RUNS = {"invoke", "batch", "stream", "stream_log", "stream_events"}
EXTENSIONS = {"extensions"}
PLAYGROUND = {"playground/{file_path:path}"}
PLAIN = RUNS | EXTENSIONS | SCHEMAS | PLAYGROUND
ALL = PLAIN | {"token_feedback"}


def hashed(names: set[str]) -> set[str]:
    return {f"c/{{config_hash}}/{name}" for name in names}


BOTH = EXTENSIONS | hashed(EXTENSIONS)


def added(**parameters: Any) -> set[str]:
    """Return the endpoints that `add_routes` adds with these parameters."""
    app = FastAPI(openapi_url=None)
    add_routes(app, runnable, path="/run", **parameters)
    paths = (str(getattr(route, "path", "")) for route in app.routes)
    return {path.removeprefix("/run/") for path in paths}


def test_every_endpoint_is_added_with_a_twin_whose_path_carries_a_config() -> None:
    assert added() == ALL | hashed(PLAIN)


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"enabled_endpoints": ["Invoke", "stream"]}, {"invoke", "stream"}),
        ({"enabled_endpoints": ["invoke", "extensions"]}, {"invoke", *EXTENSIONS}),
        ({"enabled_endpoints": ["input_schema", "extensions"]}, {"input_schema"}),
        ({"disabled_endpoints": ["extensions"]}, (ALL | hashed(PLAIN)) - BOTH),
        ({"extensions": False}, (ALL | hashed(PLAIN)) - BOTH),
        ({"enabled_endpoints": []}, set()),
        ({"enabled_endpoints": ["config_hashes"]}, set()),
        (
            {"enabled_endpoints": ["invoke", "config_hashes"]},
            {"invoke"} | hashed({"invoke"}),
        ),
        ({"disabled_endpoints": ["config_hashes", "batch"]}, ALL - {"batch"}),
        ({"disabled_endpoints": ["playground", "CONFIG_HASHES"]}, ALL - PLAYGROUND),
        ({"disabled_endpoints": []}, ALL | hashed(PLAIN)),
    ],
)
def test_endpoints_may_be_chosen(parameters: dict[str, Any], names: set[str]) -> None:
    assert added(**parameters) == names


@pytest.mark.parametrize(
    "parameters",
    [
        {"enabled_endpoints": ["invoke"], "disabled_endpoints": ["batch"]},
        {"enabled_endpoints": "invoke"},
        {"disabled_endpoints": ["nothing"]},
        {"config_keys": ["run_name"]},
        {"playground_type": "none"},
        {"astream_events_version": "v9"},
    ],
)
def test_what_cannot_be_is_a_value_error_as_in_langserve(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`"):
        added(**parameters)


def test_only_a_runnable_can_be_served() -> None:
    app = FastAPI()
    with pytest.raises(TypeError, match="Expected a Runnable, got <class 'str'>"):
        add_routes(app, "runnable")  # type: ignore[arg-type]  # the mistake that is tested


def test_a_path_begins_with_a_slash() -> None:
    app = FastAPI()
    with pytest.raises(ValueError, match="path"):
        add_routes(app, runnable, path="run")


@pytest.mark.parametrize("app", [FastAPI(), APIRouter(), APIRouter(prefix="/v1")])
def test_a_path_is_given_once(app: FastAPI | APIRouter) -> None:
    add_routes(app, runnable, path="/run")
    add_routes(app, runnable)
    add_routes(app, runnable, path="/run/again")
    for path in ("/run", "/run/", "", "/"):
        with pytest.raises(ValueError, match="already exists"):
            add_routes(app, runnable, path=path)


def test_a_path_is_given_once_also_to_a_router_that_was_included() -> None:
    app, router, inner = FastAPI(), APIRouter(prefix="/v1"), APIRouter()
    add_routes(inner, runnable, path="/run")
    router.include_router(inner, prefix="/in")
    app.include_router(router)
    for path in ("/v1/in/run", "/v1/in/run/"):
        with pytest.raises(ValueError, match="already exists"):
            add_routes(app, runnable, path=path)
    add_routes(app, runnable, path="/in/run")


def test_a_page_alone_takes_its_path() -> None:
    app = FastAPI()
    add_routes(app, runnable, path="/run", enabled_endpoints=["playground"])
    with pytest.raises(ValueError, match="already exists"):
        add_routes(app, runnable, path="/run")


@pytest.mark.parametrize(
    ("path", "invoke"), [("/run/", "/run/invoke"), ("/", "/invoke"), ("", "/invoke")]
)
def test_a_slash_at_the_end_of_a_path_means_nothing(path: str, invoke: str) -> None:
    app = FastAPI()
    add_routes(app, runnable, path=path)
    assert invoke in {getattr(route, "path", "") for route in app.routes}


def test_the_description_of_the_api_names_the_routes_as_langserve_does() -> None:
    app = FastAPI()
    add_routes(app, runnable, path="/a-b")
    invoke = app.openapi()["paths"]["/a-b/invoke"]["post"]
    assert invoke["operationId"] == "a_b_invoke_a_b_invoke_post"
    assert invoke["tags"] == ["a-b"]


def test_the_package_offers_its_public_names_and_no_others() -> None:
    assert set(locktender.__all__) <= set(dir(locktender))
    assert all(getattr(locktender, name) for name in locktender.__all__)
    with pytest.raises(AttributeError):
        _ = locktender.nothing


def test_a_client_s_names_pull_in_no_server(tmp_path: Path) -> None:
    source = (
        "import sys\n"
        "from locktender import ChatLocktender, CustomUserType\n"
        "import locktender.app.serialization\n"
        "sys.exit(bool({'fastapi', 'starlette', 'uvicorn'} & set(sys.modules)))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-I", "-c", source], check=False, cwd=tmp_path, timeout=60
    )
    assert finished.returncode == 0
