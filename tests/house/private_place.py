"""Find in our source what may touch a part of a library that the library has not promised.

Found by its look alone: whose an object is, the source does not say.  So what is found is a place
to be judged, once, in the table or in the exceptions of `private_part`.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

__all__ = ["Place", "places"]

_BY_NAME = frozenset({"delattr", "getattr", "hasattr", "setattr"})
_OWN = frozenset({"cls", "self", "super()", "type(self)"})
# Names of Python's own, such as `__dict__`, are promised by the language.
_PRIVATE = re.compile(r"_[A-Za-z]\w*|__pydantic_\w+__")
_NAME_OF_PART = re.compile(r"_[a-z]\w*|__pydantic_\w+__")
_LIBRARIES = frozenset(
    """
    accelerate aiohttp fastapi httpx jsonpatch langchain langchain_classic langchain_community
    langchain_core langchain_huggingface langgraph langsmith llama_cpp msgspec openvino_genai orjson
    peft pydantic pydantic_core pydantic_settings rich sentence_transformers starlette tokenizers
    torch transformers typer uvicorn vllm
    """.split()  # noqa: SIM905 - a line for each name would hide the rest
)
_PATH = re.compile(rf"(?:{'|'.join(sorted(_LIBRARIES))})(?:\.\w+)+\.?")
# A class that a library has at its top, where its users import from, is promised.
_PUBLIC = re.compile(r"\w+\.[A-Z]\w*")
# Where the documentation of a library has its users import from.  LangChain's and LangSmith's
# reference lists every module of theirs that has no underscore.
_DOCUMENTED = re.compile(
    r"""
    (?:langchain_core|langsmith)(?:\.[a-z]\w*)* | rich\.\w+
    | fastapi\.(?:responses|routing) | starlette\.(?:exceptions|requests|responses|types)
    | pydantic\.fields | torch\.nn\.functional
    """,
    re.VERBOSE,
)


class Place(NamedTuple):
    """A place in our source, and the name by which it takes hold of something."""

    room: str  # the module, below `locktender`
    name: str
    line: int


def places(modules: Mapping[str, ast.Module]) -> Iterator[Place]:
    """Yield the places in the order of the source."""
    for room, tree in modules.items():
        found = {*_attributes(tree), *_imports(tree), *_calls(tree), *_excepts(tree)}
        found |= {*_strings(tree), *_methods(tree)}
        yield from (Place(room, name, line) for line, name in sorted(found))


def _attributes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield private attributes of anything but the object whose method it is."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or ast.unparse(node.value) in _OWN:
            continue
        if _PRIVATE.fullmatch(node.attr):
            yield node.lineno, node.attr


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names if _is_hidden(each.name))
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("locktender"):
            for each in node.names:
                if _is_hidden(str(node.module)) or each.name.startswith("_"):
                    yield node.lineno, each.name


def _is_hidden(module: str) -> bool:
    """Whether no documentation has us import `module`, as far as this can be told."""
    library, _, below = module.partition(".")
    is_listed = library not in _LIBRARIES or _DOCUMENTED.fullmatch(module)
    return (bool(below) and not is_listed) or any(map(_PRIVATE.fullmatch, module.split(".")))


def _calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield what is asked for by name; the whole call, where the name is worked out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _BY_NAME:
            name = node.args[1] if len(node.args) > 1 else node.args[0]
            if not isinstance(name, ast.Constant):
                yield node.lineno, ast.unparse(node)
            elif ast.unparse(node.args[0]) not in _OWN and not str(name.value).startswith("__"):
                yield node.lineno, str(name.value)


def _excepts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        caught: Iterable[ast.expr | None] = ()
        if isinstance(node, ast.ExceptHandler):
            caught = [node.type]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            caught = node.args
        if any(each and "AttributeError" in ast.unparse(each) for each in caught):
            yield getattr(node, "lineno", 0), "except AttributeError"


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield strings that are a private name, begin as one, or are a path into a library."""
    put_together = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    pieces = {id(piece) for node in put_together for piece in node.values}
    for joined in put_together:
        text = ast.unparse(joined)
        if text.startswith(("f'_", 'f"_')):
            yield joined.lineno, text
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_ours = node.value.startswith("_locktender") or id(node) in pieces
            found = _NAME_OF_PART.fullmatch(node.value) or _PATH.fullmatch(node.value)
            if found and not is_ours and not _PUBLIC.fullmatch(node.value):
                yield node.lineno, node.value


def _methods(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield private methods that their own module does not call: a library does."""
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for node in (node for each in classes for node in each.body):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name in called:
            continue
        if _PRIVATE.fullmatch(node.name):
            yield node.lineno, node.name
