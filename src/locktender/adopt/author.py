"""Tell the user's code from that of packages that were installed, along the way of a search.

No table names every library there is, and an application may be installed as its libraries are.
So what the links of a chain hold is the user's, from whichever package it comes; and what his code
uses of another installed package that requires no library of models is somebody else's.  Objects of
that may hold a model of the user's; its own functions, classes and modules know of none.
"""

from types import FunctionType, ModuleType
from typing import cast

from locktender.adopt.lineage import home_of, lineage
from locktender.adopt.packages import is_chain_library, is_library
from locktender.adopt.requirement import is_without_models

__all__ = ["ELSEWHERE", "home_module", "is_others", "side_of"]

ELSEWHERE = ""  # the side of what is somebody else's


def side_of(value: object, reached_from: str | None) -> str | None:
    """Return the user's package that `value` is of, or belongs to; `ELSEWHERE`; None for neither.

    `reached_from` is the side of what holds it, None at the beginning of a search.
    """
    module = home_module(value)
    if is_chain_library(module):
        return None
    if is_library(module):
        return reached_from
    return ELSEWHERE if is_others(module, reached_from) else _package(module)


def is_others(module: str, side: str | None) -> bool:
    """Whether what a module defines is not the user's, whose package `side` is."""
    if is_library(module):
        return True
    return side is not None and side != _package(module) and is_without_models(_package(module))


def home_module(value: object) -> str:
    """Return the name of the module that a function or a class is of, or the class of an object."""
    kind = type(value)
    if kind is FunctionType:  # `__module__` may be what a decorator copied from another function
        return str(cast("FunctionType", value).__globals__.get("__name__"))
    kinds = lineage(kind)
    if ModuleType in kinds:
        return str(ModuleType.__getattribute__(value, "__dict__").get("__name__"))
    return home_of(cast("type", value) if type in kinds else kind)


def _package(module: str) -> str:
    return module.partition(".")[0]
