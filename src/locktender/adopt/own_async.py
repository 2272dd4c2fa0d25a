"""Tell asynchronous methods that are some from those that only move the call to a thread.

LangChain's own `_agenerate` calls `_generate` in a thread, and so do many that users write; with
these a model is as unsafe as without.  Read from the code, and nothing is run: a coroutine that
awaits nothing but threads, or that calls its synchronous twin, is not one of its own.
"""

import dis
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from locktender.adopt.lineage import lineage, qualified_name

__all__ = ["has_own_async", "overrides_with_code"]

_CORE = "langchain_core.language_models"
_LLM = f"{_CORE}.llms.LLM"
_EMBEDDINGS = "langchain_core.embeddings.embeddings.Embeddings"
_ABSTRACT = frozenset(
    {
        _LLM,
        f"{_CORE}.llms.BaseLLM",
        f"{_CORE}.chat_models.BaseChatModel",
        f"{_CORE}.chat_models.SimpleChatModel",
        _EMBEDDINGS,
    }
)
_EMBEDS = frozenset({"embed_documents", "embed_query"})
_ANSWERS = frozenset({"_call", "_generate", "generate", "invoke"})
_TWINS: Mapping[str, frozenset[str]] = {
    "_agenerate": _ANSWERS,
    "_acall": _ANSWERS,
    "aembed_documents": _EMBEDS,
    "aembed_query": _EMBEDS,
}
_MOVERS = frozenset(
    {"run_in_executor", "run_in_threadpool", "run_sync", "submit", "sync_to_async", "to_thread"}
)
_COMPUTES = ("_call", "_generate", "_stream", "_agenerate", "_acall", "_astream", *_EMBEDS)
_MAX_DEPTH = 3  # of methods that call one another


def has_own_async(kind: type, among: tuple[type, ...]) -> bool:
    """Whether the asynchronous methods of a model class are no threads in disguise.

    They count when they come from the classes `among` those that it is made from.
    """
    kinds = lineage(kind)
    if _EMBEDDINGS in map(qualified_name, kinds):
        return _is_own("aembed_documents", among) and _is_own("aembed_query", among)
    owner = next((each for each in kinds if "_agenerate" in each.__dict__), None)
    # The `_agenerate` of an `LLM` calls `_acall`.
    is_simple = owner is not None and qualified_name(owner) == _LLM
    return _is_own("_acall" if is_simple else "_agenerate", among)


def overrides_with_code(kinds: tuple[type, ...]) -> bool:
    """Whether one of these classes computes for itself what its parents only pretend to."""
    for kind in kinds:
        for method in _COMPUTES:
            code = _code(kind.__dict__.get(method))
            # Who calls the parent's method watches it, most likely.
            if code is not None and "super" not in _words(code):
                return True
    return False


def _is_own(method: str, kinds: tuple[type, ...]) -> bool:
    for kind in kinds:
        if qualified_name(kind) in _ABSTRACT:
            return False
        if method not in kind.__dict__:
            continue
        code = _code(kind.__dict__[method])
        if code is None:
            return True  # compiled, or an object with a call of its own
        if {"super", method} <= _words(code):
            continue  # it is its parent's that answers
        return not _is_moved(code, _TWINS[method], kinds)
    return False


def _is_moved(
    code: CodeType, twins: frozenset[str], kinds: tuple[type, ...], depth: int = 0
) -> bool:
    """Whether a coroutine waits for nothing but threads, or calls its twin at once, or fails."""
    names = [
        instruction.argval
        for each in _codes(code)
        for instruction in dis.get_instructions(each)
        if instruction.opname.startswith(("LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"))
    ]
    n_moved = sum(name in _MOVERS for name in names)
    if depth < _MAX_DEPTH:
        n_moved += sum(_calls_moved(name, twins, kinds, depth + 1) for name in names)
    n_awaited = sum(
        instruction.opname in {"GET_AWAITABLE", "GET_AITER"}
        for each in _codes(code)
        for instruction in dis.get_instructions(each)
    )
    is_twin = not twins.isdisjoint(names) or "NotImplementedError" in names
    return n_awaited <= n_moved and (n_moved > 0 or is_twin)


def _calls_moved(name: str, twins: frozenset[str], kinds: tuple[type, ...], depth: int) -> bool:
    if name in _TWINS:
        return False
    entry = next((kind.__dict__[name] for kind in kinds if name in kind.__dict__), None)
    code = _code(entry)
    is_coroutine = code is not None and bool(code.co_flags & 0x80)
    return code is not None and is_coroutine and _is_moved(code, twins, kinds, depth)


def _code(entry: Any) -> CodeType | None:
    """Return the code of a method, of the innermost one if decorators stand around it."""
    if type(entry) in (classmethod, staticmethod):
        entry = entry.__func__
    while type(entry) is FunctionType and "__wrapped__" in vars(entry):
        entry = vars(entry)["__wrapped__"]
    return entry.__code__ if type(entry) is FunctionType else None


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _words(code: CodeType) -> set[str]:
    return {name for each in _codes(code) for name in each.co_names}
