import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from langchain_core.runnables import RunnableLambda

import locktender
from locktender import add_routes
from locktender.core.errors import ConfigError

runnable: RunnableLambda[Any, Any] = RunnableLambda(lambda value: value)
SIX = {"invoke", "batch", "stream", "input_schema", "output_schema", "config_schema"}


def added(**parameters: Any) -> set[str]:
    """Return the endpoints that `add_routes` adds with these parameters."""
    app = FastAPI(openapi_url=None)
    add_routes(app, runnable, path="/run", **parameters)
    paths = (str(getattr(route, "path", "")) for route in app.routes)
    return {path.removeprefix("/run/") for path in paths}


def test_six_endpoints_are_added() -> None:
    assert added() == SIX


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"enabled_endpoints": ["Invoke", "stream"]}, {"invoke", "stream"}),
        ({"enabled_endpoints": []}, set()),
        ({"disabled_endpoints": ["batch", "playground"]}, SIX - {"batch"}),
        ({"disabled_endpoints": []}, SIX),
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
    ],
)
def test_what_cannot_be_is_a_value_error_as_in_langserve(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`"):
        added(**parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"include_callback_events": True},
        {"enable_feedback_endpoint": True},
        {"token_feedback_config": {"key_configs": [{"key": "k"}]}},
        {"enable_public_trace_link_endpoint": True},
        {"stream_log_name_allow_list": ["a"]},
        {"playground_type": "chat"},
        {"astream_events_version": "v1"},
        {"enabled_endpoints": ["invoke", "stream_log"]},
    ],
)
def test_what_is_not_there_yet_is_refused_and_not_ignored(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
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


def test_a_slash_at_the_end_of_a_path_means_nothing() -> None:
    app = FastAPI()
    add_routes(app, runnable, path="/run/")
    assert "/run/invoke" in {getattr(route, "path", "") for route in app.routes}


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
