"""Say which objects the code of a function names, as its module and its closure stand now.

A global name, or one of the closure, leads through modules and classes (`models.llm`) for as long
as the code says where to.  Of a module of the user's that the code has in any other way (imported
within the function, or by its name) it takes what bears a name that the code contains, and
everything if the code only computes the name, or hands the module on.  Nothing is run or imported.
"""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from locktender.adopt.author import is_others
from locktender.adopt.lineage import lineage
from locktender.adopt.reading import Import, Mentions, mentions_of

__all__ = ["module_of", "named_by"]

_METHODS = (FunctionType, classmethod, staticmethod)
_Named = Iterator[tuple[str, object]]
_OF_THE_MODULE = frozenset({"eval", "exec", "globals"})


def named_by(
    code: CodeType, names: Mapping[str, Any], closed: Mapping[str, Any], side: str | None = None
) -> _Named:
    """Yield the objects that `code` names, functions within it included.

    `names` are the globals, `closed` what the function has from its closure and as defaults, `side`
    is the user's package.  Each object comes with the dotted name by which the code knows it.
    """
    said = mentions_of(code)
    modules: dict[str, Any] = {}
    for first, *attributes in sorted(said.dotted):
        place = closed if first in closed else names
        if first not in place:
            continue  # a built-in one, or not yet assigned
        path, value = _resolved(first, place[first], attributes)
        if _is_module(value):
            modules[path] = value
        elif path != first or first not in closed:
            yield path, value
    yield from _imported(said, names, modules)
    modules.update((name, part) for name, part in closed.items() if _is_module(part))
    for path, module in modules.items():
        yield from _taken(path, module, said, side)
    if not said.globals.isdisjoint(_OF_THE_MODULE):
        yield from _looked_up(names, said)


def module_of(taken: Import, names: Mapping[str, Any]) -> str | None:
    """Return the whole name of the module that an import within a function means."""
    if not taken.level:
        return taken.module
    try:
        return importlib.util.resolve_name("." * taken.level + taken.module, names["__package__"])
    except (ImportError, KeyError):
        return None


def _resolved(path: str, value: object, attributes: list[str]) -> tuple[str, object]:
    for name in attributes:
        place = _place(value, name)
        if place is None:
            break
        if not _is_module(value) and type(place[name]) in _METHODS:
            break  # of a class whose method is called all is looked at
        value, path = place[name], f"{path}.{name}"
    return path, value


def _place(value: object, name: str) -> Mapping[str, Any] | None:
    """Return the dictionary in which a module or a class has `name`."""
    if _is_module(value):
        places = [_names_in(value)]
    elif type in lineage(type(value)):
        places = [kind.__dict__ for kind in lineage(value)]  # type: ignore[arg-type] # as seen
    else:
        return None
    return next((place for place in places if name in place), None)


def _imported(said: Mentions, names: Mapping[str, Any], modules: dict[str, Any]) -> _Named:
    """Yield what imports take from modules that are there, which are added to `modules`."""
    for taken in sorted(said.imports):
        name = module_of(taken, names) or ""
        for part in taken.names:
            value = _part_of(name, part)
            if _is_module(value):
                modules[part] = value
            elif value is not None:
                yield part, value
        if not taken.names:
            known = {name, name.partition(".")[0]} & sys.modules.keys()
            modules.update((each, sys.modules[each]) for each in sorted(known))
    if said.imports_by_name or "modules" in said.words:
        words = said.words & sys.modules.keys()
        modules.update((word, sys.modules[word]) for word in sorted(words))


def _part_of(name: str, part: str) -> object:
    """Return what `from name import part` takes; None if it is not there."""
    module = sys.modules.get(name)
    value = None if module is None else _names_in(module).get(part)
    return sys.modules.get(f"{name}.{part}") if value is None else value


def _taken(path: str, module: Any, said: Mentions, side: str | None) -> _Named:
    """Yield what the code takes from a module of the user's."""
    waiting, seen = [(path, module)], set[int]()
    while waiting:
        path, module = waiting.pop()
        names = _names_in(module)
        if id(module) in seen or is_others(str(names.get("__name__")), side):
            continue
        seen.add(id(module))
        named = [name for name in names if name in said.words and not name.startswith("__")]
        for name in named:
            if _is_module(names[name]):
                waiting.append((f"{path}.{name}", names[name]))
            else:
                yield f"{path}.{name}", names[name]
        if said.looks_up or not named:  # or it hands the module on
            yield from _all_of(names, f"{path}.")


def _looked_up(names: Mapping[str, Any], said: Mentions) -> _Named:
    """Yield what the code takes from its own module by a text: `globals()["llm"]`."""
    hits = [name for name in said.words & names.keys() if name not in said.globals]
    yield from ((name, names[name]) for name in sorted(hits))
    if not hits:
        yield from ((name, value) for name, value in list(names.items()) if name[:2] != "__")


def _all_of(names: Mapping[str, Any], path: str) -> _Named:
    for name, value in list(names.items()):
        if not name.startswith("__") and not _is_module(value):
            yield f"{path}{name}", value


def _is_module(value: object) -> bool:
    return ModuleType in lineage(type(value))


def _names_in(module: Any) -> Mapping[str, Any]:
    names: Mapping[str, Any] = ModuleType.__getattribute__(module, "__dict__")
    return names
