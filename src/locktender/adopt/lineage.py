"""Name classes, and what they are made from, without asking them.

A metaclass may answer as it likes; here it is the built-in `type` that is asked.
"""

from locktender.adopt.swap import PLAIN

__all__ = ["home_of", "lineage", "package_of", "plain_kind", "qualified_name", "short_name"]


def lineage(kind: type) -> tuple[type, ...]:
    """Return `kind` and all that it is made from, whatever its metaclass would like to say."""
    return tuple(type.__getattribute__(kind, "__mro__"))


def home_of(kind: type) -> str:
    """Return the name of the module of a class."""
    return str(type.__getattribute__(kind, "__module__"))  # compiled ones have odd things there


def qualified_name(kind: type) -> str:
    """Return the module and the name of a class, with a dot between."""
    return f"{home_of(kind)}.{type.__getattribute__(kind, '__qualname__')}"


def package_of(kind: type) -> str:
    """Return the outermost package that a class is defined in."""
    return qualified_name(kind).partition(".")[0]


def short_name(kind: type) -> str:
    """Return the outermost package and the name of a class, which stay when modules move."""
    package, _, rest = qualified_name(kind).partition(".")
    return f"{package}.{rest.rpartition('.')[2]}"


def plain_kind(kind: type) -> type:
    """Return the class that `kind` was made of by a guard, or `kind` itself."""
    for each in lineage(kind):
        plain = each.__dict__.get(PLAIN)
        if isinstance(plain, type):
            return plain
    return kind
