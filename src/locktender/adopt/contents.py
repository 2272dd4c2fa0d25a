"""Say what an object holds, without running any of its code.

Attributes are taken from an instance's own dictionary and slots, items from containers by the
methods of the built-in types, names from the closure, the defaults and the code of a function.  Of
what a library defines neither the globals nor the attributes of its classes are looked at: they are
not the user's.  What cannot hold a chain, or is too large to hold one, is opaque.
"""

import contextlib
import functools
import gc
import sys
from collections import OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Iterator
from itertools import islice
from types import (
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, cast

from locktender.adopt.hazards import lineage, qualified_name
from locktender.adopt.named import named_by

__all__ = ["contents_of", "is_cut", "is_opaque"]

Parts = Iterator[tuple[str, object]]

_MAX_ITEMS = 1000  # of one container: a longer one is data, most likely
_PLAIN = frozenset(
    {bool, bytearray, bytes, complex, float, int, range, str, type(None), type(Ellipsis)}
)
_STANDARD = sys.stdlib_module_names - {"__main__"}
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_HIDING = (type(functools.lru_cache(len)), MappingProxyType)  # what they hold has no name
_PYDANTIC_SLOTS = frozenset({"__pydantic_extra__", "__pydantic_private__"})
_OF_THE_LANGUAGE = frozenset(
    {
        *_CONTAINERS,
        *_HIDING,
        FunctionType,
        MethodType,
        OrderedDict,
        SimpleNamespace,
        UserDict,
        UserList,
        defaultdict,
        functools.partial,
    }
)
# Weights, arrays, clients and their like: large, and without room for anything of the user's.
_OPAQUE_PACKAGES = frozenset(
    """
    PIL accelerate aiohttp anthropic chromadb ctransformers diffusers faiss fsspec google gpt4all
    grpc httpcore httpx httpx2 huggingface_hub jinja2 langsmith llama_cpp mlx mlx_lm numpy ollama
    onnxruntime openai openvino openvino_genai opentelemetry orjson pandas peft polars psycopg
    pyarrow pydantic_core qdrant_client redis regex requests safetensors scipy sentence_transformers
    sklearn sqlalchemy starlette tensorflow tenacity tiktoken tokenizers torch transformers urllib3
    vllm
    """.split()  # noqa: SIM905 - a line for each name would hide the module
)
_OPAQUE_CLASSES = frozenset(
    {
        "langchain_core.documents.base.Document",
        "langchain_core.messages.base.BaseMessage",
        "langgraph.checkpoint.base.BaseCheckpointSaver",
    }
)
_OPAQUE_ROOMS = ("locktender.adopt.", "locktender.core.")  # the owner of a guarded object
_LIBRARIES = _OPAQUE_PACKAGES | frozenset(
    """
    fastapi langchain langchain_anthropic langchain_classic langchain_community langchain_core
    langchain_experimental langchain_google_genai langchain_huggingface langchain_mistralai
    langchain_ollama langchain_openai langchain_text_splitters langgraph langgraph_sdk langserve
    locktender pydantic typing_extensions uvicorn
    """.split()  # noqa: SIM905 - a line for each name would hide the module
)
# "class" to what its fields are called by those who use it.
_FIELD_NAMES = {
    "langchain_core.runnables.base.RunnableParallel": {"steps__": ".steps"},
    "locktender.app.endpoint.Endpoint": {"_runnable": ""},
}
_SEQUENCE = "langchain_core.runnables.base.RunnableSequence"


def is_opaque(value: object) -> bool:
    """Whether there is no use in looking into `value`."""
    kind = type(value)
    if kind in _PLAIN or issubclass(kind, type | ModuleType):
        return True
    if kind in _OF_THE_LANGUAGE:
        return False
    kinds = lineage(kind)
    if _package_of(kind) in _STANDARD:
        return True
    names = [qualified_name(each) for each in kinds]
    return (
        any(_package_of(each) in _OPAQUE_PACKAGES for each in kinds)
        or not _OPAQUE_CLASSES.isdisjoint(names)
        or names[0].startswith(_OPAQUE_ROOMS)
    )


def is_cut(value: object) -> bool:
    """Whether `value` is a container of which only the beginning was looked at."""
    builtin: Any = _container(type(value))
    return builtin is not None and builtin.__len__(value) > _MAX_ITEMS


def contents_of(value: object) -> Parts:
    """Yield what `value` holds, each with what is to be added to the path to it."""
    kind = type(value)
    if kind is FunctionType:
        yield from _of_function(cast("FunctionType", value))
    elif kind is MethodType:
        yield from _of_method(cast("MethodType", value))
    else:
        if kind in _HIDING:
            yield from (("[...]", part) for part in gc.get_referents(value))
        yield from _items(value)
        yield from _steps(value) if _SEQUENCE in map(qualified_name, lineage(kind)) else ()
        yield from _fields(value)
        yield from _of_class(kind)


def _of_method(method: MethodType) -> Parts:
    yield ".__self__", method.__self__
    yield "", method.__func__


def _of_function(function: FunctionType) -> Parts:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        # A cell is empty until the outer function assigns the name.
        yield from ((f":{name}", part) for part in gc.get_referents(cell))
    positional = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    for name, default in zip(reversed(positional), reversed(defaults), strict=False):
        yield f":{name}", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f":{name}", default
    yield from ((f".{name}", part) for name, part in vars(function).items())
    # `__module__` may be what a decorator copied from another function.
    if not _is_library(str(function.__globals__.get("__name__"))):
        yield from ((f":{name}", part) for name, part in named_by(code, function.__globals__))


def _items(value: object) -> Parts:
    builtin: Any = _container(type(value))
    if builtin is dict:
        for key, part in islice(dict.items(cast("dict[object, object]", value)), _MAX_ITEMS):
            shown = repr(key) if type(key) in (str, int) else "..."
            yield f"[{shown}]", part
    elif builtin is not None:
        for n, part in enumerate(islice(builtin.__iter__(value), _MAX_ITEMS)):
            yield f"[{n}]", part


def _container(kind: type) -> type | None:
    return next((each for each in _CONTAINERS if issubclass(kind, each)), None)


def _steps(sequence: object) -> Parts:
    """Count the steps of a sequence as its user does."""
    fields = _instance_dict(sequence)
    steps = (fields.get("first"), *fields.get("middle", ()), fields.get("last"))
    yield from ((f".steps[{n}]", step) for n, step in enumerate(steps))


def _fields(value: object) -> Parts:
    names = [qualified_name(kind) for kind in lineage(type(value))]
    shown = next((_FIELD_NAMES[name] for name in names if name in _FIELD_NAMES), {})
    for name, part in _instance_dict(value).items():
        yield shown.get(name, f".{name}"), part
    for name, part in _slots(value):
        if name in _PYDANTIC_SLOTS:
            yield from ((f".{key}", each) for key, each in (part or {}).items())
        else:
            yield f".{name}", part


def _instance_dict(value: object) -> dict[str, Any]:
    for kind in lineage(type(value)):
        entry = kind.__dict__.get("__dict__")
        if type(entry) is GetSetDescriptorType:
            return dict(entry.__get__(value))  # which may grow meanwhile, in another thread
        if entry is not None:  # a property: the class's own code
            break
    return {}


def _slots(value: object) -> Iterator[tuple[str, Any]]:
    for kind in lineage(type(value)):
        for name, entry in kind.__dict__.items():
            if type(entry) is MemberDescriptorType:
                with contextlib.suppress(AttributeError):  # not set
                    yield name, entry.__get__(value)


def _of_class(kind: type) -> Parts:
    """Yield the attributes of a user's class, and its methods: they may use a global model."""
    for each in lineage(kind):
        if _is_library(each.__module__):
            continue
        for name, entry in list(each.__dict__.items()):
            part = _unwrapped(entry)
            if type(part) is FunctionType or not name.startswith(("__", "_abc_")):
                yield f".{name}", part


def _unwrapped(entry: object) -> object:
    """Return the function behind what a class makes of it."""
    if type(entry) in (classmethod, staticmethod):
        return cast("classmethod[Any, Any, Any]", entry).__func__
    if type(entry) is property:
        return entry.fget
    return entry.func if type(entry) is functools.cached_property else entry


def _package_of(kind: type) -> str:
    return qualified_name(kind).partition(".")[0]


def _is_library(module: str) -> bool:
    package = module.partition(".")[0]
    return package in _LIBRARIES or package in _STANDARD
