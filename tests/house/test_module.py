"""Every module says what it is, states its public names, and keeps to its imports.

What one room may import of another is checked by import-linter (pyproject.toml); here are the rules
that need a running interpreter or the standard library's list.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

# The deciders: time, chance and the outside are arguments to them.
PURE_ROOMS = {"core", "wire"}
PURE_MODULES = {
    "model.admission",
    "model.backlog",
    "model.canary",
    "model.catalogue",
    "model.detokenizer",
    "model.frames",
    "model.isolation",
    "model.prompt",
    "model.quarantine",
    "model.scheduler",
    "model.settings",
    "model.share",
    "model.stop",
    "model.trust",
    "prompting.control_token",
    "prompting.safe_prompt",
    "prompting.token_ids",
}
# A lock, for a token that is set in one thread and heard in another, and the hook for what threads
# raise; they decide nothing.
MAY_THREAD = {"core.printed", "core.scope"}
IMPURE_PACKAGES = {
    "anyio",
    "asyncio",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uuid",
}

# What a client's `import locktender` must not pull in: the server, the engines and LangChain.
HEAVY_PACKAGES = {
    "aiohttp",
    "asyncio",
    "fastapi",
    "httpx",
    "jinja2",
    "langchain_core",
    "msgspec",
    "openvino_genai",
    "pydantic",
    "rich",
    "starlette",
    "typer",
    "uvicorn",
}


def test_every_module_has_a_docstring(modules: Mapping[str, ast.Module]) -> None:
    assert [name for name, tree in modules.items() if not ast.get_docstring(tree)] == []


def test_every_module_with_a_body_states_its_public_names(
    modules: Mapping[str, ast.Module],
) -> None:
    # A package may be a docstring and nothing else.
    silent = [
        name
        for name, tree in modules.items()
        if len(tree.body) > 1 and "__all__" not in _assigned(tree)
    ]
    assert silent == []


def test_the_ground_stands_on_the_standard_library(modules: Mapping[str, ast.Module]) -> None:
    foreign = {
        f"{name} imports {package}"
        for name, tree in modules.items()
        if name.split(".")[0] == "core"
        for package in _imported(tree) - sys.stdlib_module_names - {"locktender"}
    }
    assert not foreign


def test_deciders_know_no_clock_loop_socket_or_dice(modules: Mapping[str, ast.Module]) -> None:
    impure = {
        f"{name} imports {package}"
        for name, tree in modules.items()
        if name in PURE_MODULES or name.split(".")[0] in PURE_ROOMS
        for package in _imported(tree) & IMPURE_PACKAGES
        if not (package == "threading" and name in MAY_THREAD)
    }
    assert not impure


def test_importing_the_package_pulls_in_nothing_heavy(tmp_path: Path) -> None:
    assert not _loaded_by("locktender", tmp_path) & HEAVY_PACKAGES


def test_the_engine_process_needs_only_the_standard_library_and_msgspec(tmp_path: Path) -> None:
    # It may run under another interpreter, whose packages are not ours to choose.  What msgspec
    # takes along when it finds it is msgspec's business.
    loaded = _loaded_by("locktender.model.child", tmp_path)
    foreign = loaded - sys.stdlib_module_names - _loaded_by("msgspec", tmp_path)
    assert foreign == {"locktender"}
    assert "asyncio" not in loaded  # a loop beside the stepping thread costs tokens


@pytest.mark.parametrize(
    "source", ["import time", "from time import monotonic", "import time as t"]
)
def test_an_import_is_found_in_each_of_its_forms(source: str) -> None:
    assert _imported(ast.parse(f"def f():\n    {source}")) == {"time"}


def _assigned(tree: ast.Module) -> set[str]:
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def _imported(tree: ast.Module) -> set[str]:
    return {name.partition(".")[0] for name in _imported_names(tree)}


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _loaded_by(module: str, folder: Path) -> set[str]:
    """Return the packages that `import module` loads in a fresh interpreter."""
    source = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        f"import {module}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-I", "-c", source],
        capture_output=True,
        check=False,
        cwd=folder,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    return {name.partition(".")[0] for name in json.loads(finished.stdout)}
