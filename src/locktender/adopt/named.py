"""Say which objects of a module the code of a function names.

Read from the instructions: a global name, with the attributes that follow it as long as they lead
through modules and classes (`models.llm`), and what an import within the function takes from a
module that is already loaded.  Nothing is run or imported, so what the code would only compute, as
in `getattr(models, name)`, is not known.
"""

import dis
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any

from locktender.adopt.hazards import lineage

__all__ = ["named_by"]

_NAME = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


def named_by(code: CodeType, names: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the objects that `code` names, functions within it included; `names` are the globals.

    Each comes with the dotted name by which the code knows it.
    """
    for dotted in _dotted_names(code):
        yield from _resolved(dotted, names)
    yield from _imported(code, names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from named_by(constant, names)


def _dotted_names(code: CodeType) -> Iterator[list[str]]:
    """Yield each global name, with the attributes that are asked of it in a row."""
    dotted: list[str] = []
    for instruction in dis.get_instructions(code):
        if dotted and instruction.opname in _ATTRIBUTE:
            dotted.append(instruction.argval)
            continue
        if dotted:
            yield dotted
        dotted = [instruction.argval] if instruction.opname in _NAME else []


def _resolved(dotted: list[str], names: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    first, *attributes = dotted
    if first not in names:
        return  # a built-in one, or not yet assigned
    value = names[first]
    path = first
    for name in attributes:
        place = _place(value, name)
        if place is None:
            break
        value, path = place[name], f"{path}.{name}"
    yield path, value


def _place(value: object, name: str) -> Mapping[str, Any] | None:
    """Return the dictionary in which a module or a class has `name`."""
    kinds = lineage(type(value))
    if ModuleType in kinds:
        places = [ModuleType.__getattribute__(value, "__dict__")]
    elif type in kinds:
        places = [kind.__dict__ for kind in lineage(value)]  # type: ignore[arg-type] # as seen
    else:
        return None
    return next((place for place in places if name in place), None)


def _imported(code: CodeType, names: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what `from module import name` takes, within a function."""
    module: object = None
    arguments: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            # Before it stand the level and the list of names.
            module = _loaded(instruction.argval, arguments[-2], names)
        elif instruction.opname == "IMPORT_FROM":
            place = _place(module, instruction.argval)
            if place is not None:
                yield instruction.argval, place[instruction.argval]
        arguments.append(instruction.argval)


def _loaded(name: str, level: int, names: Mapping[str, Any]) -> object:
    if level:
        try:
            name = importlib.util.resolve_name("." * level + name, names.get("__package__"))
        except ImportError:
            return None
    return sys.modules.get(name)
