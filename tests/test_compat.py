"""`import langserve` gives what locktender has, once it was asked for, and never before."""

import importlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI
from langchain_core.runnables import RunnableConfig, RunnableLambda
from pydantic import BaseModel

import locktender
from compat.server import langserve_python
from harness.app_server import Serve, serve
from locktender import compat
from locktender.app.serialization import WellKnownSerializer
from locktender.core.errors import ConfigError

__all__ = ["serve"]

ROOT = Path(__file__).parents[1]
NAMES = {
    "langserve": ("APIHandler", "CustomUserType", "RemoteRunnable", "__version__", "add_routes"),
    "langserve.api_handler": (
        *("APIHandler", "PerRequestConfigModifier", "TokenFeedbackConfig"),
        *("ls_client", "tracing_is_enabled"),
    ),
    "langserve.callbacks": ("AsyncEventAggregatorCallback",),
    "langserve.client": ("RemoteRunnable",),
    "langserve.lzstring": ("LZString",),
    "langserve.playground": ("serve_playground",),
    "langserve.pydantic_v1": ("BaseModel", "Field"),
    "langserve.schema": ("CustomUserType", "Feedback", "FeedbackCreateRequest"),
    "langserve.serialization": ("Serializer", "WellKnownLCSerializer", "default"),
    "langserve.server": ("APIHandler", "add_routes"),
    "langserve.validation": ("BatchRequestShallowValidator", "InvokeRequestShallowValidator"),
    "langserve.version": ("__version__",),
}
WITHOUT_A_SERVER = """
import sys
for name in ("fastapi", "starlette", "uvicorn"):
    sys.modules[name] = None
from locktender import compat
compat.install()
from langserve import CustomUserType, RemoteRunnable
from langserve.client import RemoteRunnable as Again
from langserve.serialization import WellKnownLCSerializer
assert Again is RemoteRunnable
print(RemoteRunnable("http://127.0.0.1:1/chain").url)
try:
    from langserve import add_routes
except ImportError as error:
    print(error.name)
"""


@pytest.fixture
def installed() -> Iterator[None]:
    compat.install()
    yield
    compat.uninstall()


def imported(name: str) -> Any:
    return importlib.import_module(name)


def test_nothing_has_the_name_unless_it_is_asked_for() -> None:
    assert compat.__name__ in sys.modules
    assert importlib.util.find_spec("langserve") is None


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES.items() for name in names]
)
def test_every_name_that_apps_import_is_there(module: str, name: str) -> None:
    assert getattr(imported(module), name) is not None
    assert name in dir(imported(module))
    assert name in imported(module).__all__


@pytest.mark.usefixtures("installed")
def test_the_names_are_ours() -> None:
    langserve = imported("langserve")
    assert langserve.add_routes is locktender.add_routes
    assert langserve.CustomUserType is locktender.CustomUserType
    assert imported("langserve.serialization").WellKnownLCSerializer is WellKnownSerializer
    assert imported("langserve.server").add_routes is locktender.add_routes


@pytest.mark.usefixtures("installed")
def test_the_first_import_is_enough_for_every_module() -> None:
    langserve = imported("langserve")
    assert langserve.serialization is imported("langserve.serialization")
    assert langserve.client is imported("langserve.client")


@pytest.mark.usefixtures("installed")
def test_what_is_not_there_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        imported("langserve.nothing")
    with pytest.raises(AttributeError, match="locktender has no `nothing`"):
        _ = imported("langserve.schema").nothing


@pytest.mark.usefixtures("installed")
def test_a_model_of_version_0_2_is_a_model_of_today() -> None:
    old = imported("langserve.pydantic_v1")
    assert old.BaseModel is BaseModel
    field = old.Field(..., json_schema_extra={"widget": {"type": "chat"}})
    assert field.json_schema_extra == {"widget": {"type": "chat"}}


@pytest.mark.usefixtures("installed")
def test_a_config_is_packed_by_the_library_s_names() -> None:
    lz_string = imported("langserve.lzstring").LZString
    packed = "N4Igxg9gdgZglgcwK4CcCGAjANgUxALgAJQAXHAWwAcs0yDCQMBPHYgdwAsIBfEb7oA"
    config = '{"configurable": {"template": "bye {who}"}}'
    assert lz_string.decompressFromEncodedURIComponent(packed) == config
    assert lz_string.compressToEncodedURIComponent(config) == packed


async def test_an_app_that_imports_langserve_is_served_by_us(
    installed: None,  # noqa: ARG001 - a mark would not order it before the imports
    serve: Serve,
    client: aiohttp.ClientSession,
) -> None:
    langserve = imported("langserve")

    def versions(_value: int, config: RunnableConfig) -> str:
        return str(config["metadata"]["__langserve_version"])

    app = FastAPI()
    langserve.add_routes(app, RunnableLambda(versions), path="/versions")
    url = await serve(app)
    async with client.post(f"{url}/versions/invoke", json={"input": 1}) as response:
        assert (await response.json())["output"] == langserve.__version__ == "0.3.3"


async def test_a_replaced_default_writes_what_no_json_holds(
    installed: None,  # noqa: ARG001 - as above
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    client: aiohttp.ClientSession,
) -> None:
    serialization = imported("langserve.serialization")
    original = serialization.default

    def written(value: object) -> object:
        return [value.imag] if isinstance(value, complex) else original(value)

    app = FastAPI()
    imported("langserve").add_routes(app, RunnableLambda(lambda x: x * 1j), path="/number")
    url = await serve(app)
    async with client.post(f"{url}/number/invoke", json={"input": 1}) as response:
        assert response.status == 500
    monkeypatch.setattr("langserve.serialization.default", written)
    async with client.post(f"{url}/number/invoke", json={"input": 1}) as response:
        assert (await response.json())["output"] == [1]
    async with client.post(f"{url}/number/stream", json={"input": 1}) as response:
        assert "data: [1.0]" in await response.text()
    monkeypatch.undo()
    assert serialization.default is original


def test_what_the_tests_of_apps_replace_is_replaced(
    installed: None,  # noqa: ARG001 - as above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ls_client", "tracing_is_enabled"):
        monkeypatch.setattr(f"langserve.api_handler.{name}", "theirs")
        assert getattr(imported("locktender.app.feedback"), name) == "theirs"


@pytest.mark.parametrize("undo", ["delete", "uninstall"])
def test_what_was_replaced_can_be_had_again(installed: None, undo: str) -> None:  # noqa: ARG001 - as above
    serialization = imported("langserve.serialization")
    original = serialization.default
    for name in ("first", "second"):
        serialization.default = name
    if undo == "delete":
        del serialization.default  # as `unittest.mock.patch` does
    else:
        compat.uninstall()
    assert WellKnownSerializer().dumps({"a": 1}) == b'{"a":1}'
    compat.install()
    assert imported("langserve.serialization").default is original


def test_installing_twice_is_installing_once() -> None:
    compat.install()
    compat.install()
    compat.uninstall()
    assert importlib.util.find_spec("langserve") is None
    assert not [name for name in sys.modules if name.startswith("langserve")]


def test_it_comes_too_late_when_langserve_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langserve.client", ModuleType("langserve.client"))
    with pytest.raises(ConfigError, match="imported already"):
        compat.install()
    assert importlib.util.find_spec("langserve") is None


def test_a_client_needs_no_server() -> None:
    finished = run(sys.executable, WITHOUT_A_SERVER)
    assert finished.stdout.splitlines() == ["http://127.0.0.1:1/chain/", "fastapi"]


@pytest.mark.timeout(900)  # the first run installs LangServe
def test_where_langserve_is_installed_whoever_is_first_has_the_name() -> None:
    python = langserve_python()
    ask = "import sys; sys.tracebacklimit = 0\nfrom locktender import compat\n"
    ours = run(python, ask + "compat.install()\nimport langserve\nprint(langserve.CustomUserType)")
    assert ours.stdout.strip() == "<class 'locktender.app.user_type.CustomUserType'>"
    theirs = run(python, ask + "import langserve\ncompat.install()", expected=1)
    assert "imported already" in theirs.stderr


def test_no_wheel_of_ours_owns_the_name(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(tmp_path)],
        capture_output=True,
        check=True,
        cwd=ROOT,
        timeout=100,
    )
    (path,) = tmp_path.iterdir()
    with zipfile.ZipFile(path) as wheel:
        tops = {name.partition("/")[0] for name in wheel.namelist()}
        (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        fields = message_from_bytes(wheel.read(metadata))
    assert tops == {"locktender", metadata.partition("/")[0]}
    assert fields["Name"] == "locktender"
    assert not any("langserve" in value.lower() for value in fields.get_all("Requires-Dist", []))
    assert not fields.get_all("Provides-Dist")


def run(python: Path | str, source: str, expected: int = 0) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        [str(python), "-c", source],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        text=True,
        timeout=100,
    )
    assert finished.returncode == expected, finished.stderr
    return finished


def test_a_server_s_name_says_what_to_install_where_there_is_no_server() -> None:
    script = """
import sys
sys.modules["fastapi"] = None
import locktender
try:
    locktender.add_routes
except ModuleNotFoundError as error:
    print(*error.__notes__)
"""
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60
    )
    assert told.stdout == '`add_routes` needs more: pip install "locktender[server]".\n'
