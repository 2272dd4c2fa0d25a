"""Find the model objects in a chain, an agent or a graph, wherever they hide.

The walk goes by breadth, so each object has its shortest path; each is visited once, and the number
of objects and the depth are bounded.  It looks and does nothing else: attributes are read from
where they are stored, names from the code of functions, so that no property, no `__getattr__` and
nothing else of the user's is run, and nothing is imported.  `contents` says what one object holds.
Whether a model is unsafe is for `hazards` to say.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from locktender.adopt.contents import contents_of, is_cut, is_opaque
from locktender.adopt.hazards import lineage, qualified_name

__all__ = ["Found", "Survey", "discover", "survey"]

_MODELS = frozenset(
    {
        "langchain_core.embeddings.embeddings.Embeddings",
        "langchain_core.language_models.base.BaseLanguageModel",
    }
)
_MAX_OBJECTS = 20_000  # an agent with a few tools has about a thousand
_MAX_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Found:
    """A model object, and the first of the places where it is."""

    path: str  # "chain.steps[1].bound"; a colon stands before a name that a function's code uses
    model: Any


@dataclass(frozen=True, slots=True)
class Survey:
    """The models that were found, and whether all places were looked at."""

    found: tuple[Found, ...]
    is_complete: bool = True


def discover(root: object, name: str = "chain") -> list[Found]:
    """Return the models in `root`, each once, in an order that does not change."""
    return list(survey([(name, root)]).found)


def survey(
    roots: Iterable[tuple[str, object]],
    *,
    max_objects: int = _MAX_OBJECTS,
    max_depth: int = _MAX_DEPTH,
) -> Survey:
    """Find the models in several objects, whose names begin the paths."""
    waiting = deque((name, root, 0) for name, root in roots if not is_opaque(root))
    seen: dict[int, object] = {}  # who is kept, keeps his number
    found: list[Found] = []
    is_complete = True
    while waiting:
        path, value, depth = waiting.popleft()
        if id(value) in seen:
            continue
        if len(seen) == max_objects:
            return Survey(tuple(found), is_complete=False)
        seen[id(value)] = value
        if _is_model(value):
            found.append(Found(path, value))
        parts = [
            (path + suffix, part, depth + 1)
            for suffix, part in contents_of(value)
            if not is_opaque(part) and id(part) not in seen
        ]
        if parts and (depth == max_depth or is_cut(value)):
            is_complete = False
        if depth < max_depth:
            waiting.extend(parts)
    return Survey(tuple(found), is_complete)


def _is_model(value: object) -> bool:
    return not _MODELS.isdisjoint(map(qualified_name, lineage(type(value))))
