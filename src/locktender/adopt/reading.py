"""Read what the code of a function mentions, in the instructions of Python 3.11 and later.

Names with the attributes that are asked of them in a row, modules that it imports, attributes that
it stores, and whether it looks names up that it only computes.  A word is a name or a text in the
code.  What these stand for is `named`'s to say; nothing is run.
"""

import dis
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["Import", "Mentions", "mentions_of"]

_NAME = frozenset({"LOAD_CLASSDEREF", "LOAD_DEREF", "LOAD_FROM_DICT_OR_DEREF"})
_GLOBAL = frozenset({"LOAD_FROM_DICT_OR_GLOBALS", "LOAD_GLOBAL", "LOAD_NAME"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_LOCAL = frozenset(
    {
        *("LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_CHECK", "LOAD_DEREF"),
        *("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW"),
    }
)
_SILENT = frozenset(
    {"CACHE", "COPY_FREE_VARS", "EXTENDED_ARG", "MAKE_CELL", "NOP", "PRECALL", "PUSH_NULL"}
)
_MARKS_CALLS = sys.version_info >= (3, 12)  # in the argument of LOAD_ATTR
_SPACES = frozenset({"eval", "exec", "globals", "vars"})
_IMPORTS = frozenset({"__import__", "import_module"})


class Import(NamedTuple):
    """An import statement within a function."""

    module: str
    level: int
    names: tuple[str, ...]  # those that it takes from the module


@dataclass(frozen=True, slots=True)
class Mentions:
    """What a piece of code mentions, the functions within it included."""

    dotted: frozenset[tuple[str, ...]]  # ("models", "llm")
    called: frozenset[tuple[str, ...]]  # of these, whose last attribute is called
    own: frozenset[tuple[str, ...]]  # ("llm", "invoke") of the first argument; and if it is called
    own_called: frozenset[tuple[str, ...]]
    globals: frozenset[str]  # of these, the first words that are names of the module
    imports: frozenset[Import]
    words: frozenset[str]  # its names and texts
    stored: frozenset[str]  # attributes that it sets
    looks_up: bool  # names that stand in no code: getattr(models, name)
    imports_by_name: bool


@lru_cache(maxsize=4096)
def mentions_of(code: CodeType) -> Mentions:
    """Return what `code` mentions.  Read once: that takes longer than all else in a search."""
    inner = [mentions_of(each) for each in code.co_consts if isinstance(each, CodeType)]
    steps = [each for each in dis.get_instructions(code) if each.opname not in _SILENT]
    dotted, own = list(_dotted(steps, _GLOBAL | _NAME)), list(_own(steps, code))
    names = [each.argval for each in steps if each.opname in _GLOBAL]
    words = {*code.co_names, *_texts(code.co_consts)}
    stored = (each.argval for each in steps if each.opname == "STORE_ATTR")
    return Mentions(
        dotted=frozenset(names for names, _ in dotted).union(*(each.dotted for each in inner)),
        called=frozenset(names for names, is_called in dotted if is_called).union(
            *(each.called for each in inner)
        ),
        own=frozenset(names for names, _ in own),
        own_called=frozenset(names for names, is_called in own if is_called),
        globals=frozenset(names).union(*(each.globals for each in inner)),
        imports=frozenset(_imports(steps)).union(*(each.imports for each in inner)),
        words=frozenset(words).union(*(each.words for each in inner)),
        stored=frozenset(stored).union(*(each.stored for each in inner)),
        looks_up=_looks_up(steps) or any(each.looks_up for each in inner),
        imports_by_name=not _IMPORTS.isdisjoint(words)
        or any(each.imports_by_name for each in inner),
    )


def _texts(constants: tuple[Any, ...]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str) and len(constant) < 200:  # noqa: PLR2004 - longer than any name
            # `attrgetter("models.llm")` names both.
            yield from (constant, *constant.split("."))
        elif isinstance(constant, tuple | frozenset):
            yield from _texts(tuple(constant))


def _dotted(
    steps: list[dis.Instruction], loads: AbstractSet[str]
) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield each name that is loaded, with the attributes that are asked of it in a row.

    And whether the last of these is called.
    """
    dotted: list[str] = []
    is_called = False
    for step in steps:
        if dotted and step.opname in _ATTRIBUTE:
            dotted.append(step.argval)
            is_called = step.opname == "LOAD_METHOD" or (_MARKS_CALLS and bool((step.arg or 0) & 1))
            continue
        if dotted:
            yield tuple(dotted), is_called
        dotted, is_called = [_name(step)] if step.opname in loads else [], False


def _name(step: dis.Instruction) -> str:
    """Return what is loaded; the last of two, where one instruction loads them."""
    name: str = step.argval[-1] if isinstance(step.argval, tuple) else step.argval
    return name


def _own(steps: list[dis.Instruction], code: CodeType) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the attributes that are asked of the first argument, a method's own object."""
    if code.co_argcount:
        for (name, *attributes), is_called in _dotted(steps, _LOCAL):
            if attributes and name == code.co_varnames[0]:
                yield tuple(attributes), is_called


def _imports(steps: list[dis.Instruction]) -> Iterator[Import]:
    for n, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            # Before it stand the level and the list of names.
            level = steps[n - 2].argval if n > 1 else 0
            names = steps[n - 1].argval if n else None
            yield Import(step.argval, level if isinstance(level, int) else 0, tuple(names or ()))


def _looks_up(steps: list[dis.Instruction]) -> bool:
    """Whether a name is looked up that the code does not contain."""
    for n, step in enumerate(steps):
        if step.opname in _ATTRIBUTE and step.argval == "__dict__":
            return True
        if step.opname in _GLOBAL and step.argval in _SPACES:
            return True
        if step.opname in _GLOBAL and step.argval in {"getattr", "attrgetter"}:
            # The object that is asked, or a text at once.
            after = steps[n + 1 : n + 3]
            if not any(each.opname == "LOAD_CONST" for each in after):
                return True
    return False
