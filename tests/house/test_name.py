"""The naming list: a name says what a thing is, so some words may not be part of one.

They are the words that fit everything: whoever needs one has not found the idea yet.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import pytest

MODULE_NAMES = {"base", "common", "misc", "shared", "tools", "types"}
EMPTY_WORDS = {
    "base",
    "data",
    "handler",
    "helper",
    "helpers",
    "impl",
    "info",
    "manager",
    "mixin",
    "util",
    "utils",
}
SHORTENED_WORDS = {"cfg", "mgr", "req"}
EMPTY_VERBS = {"do", "handle", "process"}  # as the first word of a function

# "room:Name" to the reason why the name stays.
EXCEPTIONS: Mapping[str, str] = {
    "app.feedback_route:get_route_handler": "FastAPI's APIRoute gives the name",
    "deploy.api:APIHandler": "LangServe gives the name",
    "deploy.api:__init__(per_req_config_modifier)": "LangServe gives the name",
    "deploy.routes:add_routes(per_req_config_modifier)": "LangServe gives the name",
    "http.connection:data_received": "asyncio.Protocol gives the name",
    "http.connection:timeout_keep_alive_handler": "uvicorn gives the name",
    "model.process:data_received": "asyncio.Protocol gives the name",
}

Definition: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def test_no_module_is_named_after_nothing(modules: Mapping[str, ast.Module]) -> None:
    parts = {part for name in modules for part in name.split(".")}
    assert not parts & (MODULE_NAMES | EMPTY_WORDS | SHORTENED_WORDS)


def test_no_module_name_hides_behind_an_underscore(modules: Mapping[str, ast.Module]) -> None:
    assert not [name for name in modules if "._" in f".{name}".replace("__main__", "main")]


def test_no_class_function_or_parameter_has_a_banned_word_in_its_name(
    modules: Mapping[str, ast.Module],
) -> None:
    assert sorted(_offences(modules) - set(EXCEPTIONS)) == []


def test_every_exception_is_still_needed_and_has_a_reason(
    modules: Mapping[str, ast.Module],
) -> None:
    assert set(EXCEPTIONS) <= _offences(modules)
    assert all(EXCEPTIONS.values())


@pytest.mark.parametrize(
    ("source", "is_banned"),
    [
        ("class RequestManager: ...", True),
        ("class _BaseEngine: ...", True),
        ("class Database: ...", False),
        ("def process_request(): ...", True),
        ("def _handle_exit(): ...", True),
        ("def load_data(): ...", True),
        ("def subprocess(): ...", False),
        ("def is_processed(): ...", False),
        ("def read(*, req: int): ...", True),
        ("def read(*, request: int): ...", False),
    ],
)
def test_the_list_finds_whole_words_only(source: str, *, is_banned: bool) -> None:
    assert bool(_offences({"room": ast.parse(source)})) is is_banned


def _offences(modules: Mapping[str, ast.Module]) -> set[str]:
    return {
        f"{module}:{name}"
        for module, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, Definition)
        for name in _banned_names(node)
    }


def _banned_names(node: Definition) -> Iterator[str]:
    words = _words(node.name)
    if isinstance(node, ast.ClassDef):
        if words & EMPTY_WORDS | words & SHORTENED_WORDS:
            yield node.name
        return
    is_empty_verb = node.name.lstrip("_").partition("_")[0] in EMPTY_VERBS and "_" in node.name[1:]
    if is_empty_verb or words & (EMPTY_WORDS | SHORTENED_WORDS):
        yield node.name
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg) and _words(argument.arg) & SHORTENED_WORDS:
            yield f"{node.name}({argument.arg})"


def _words(name: str) -> set[str]:
    """Split a name of either form into its words, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
