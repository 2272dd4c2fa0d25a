"""Find the model objects in a chain, an agent or a graph, wherever they hide.

The walk goes by breadth, so each object has its shortest path; each is visited once, and the number
of objects and the depth are bounded: where a bound cuts the search off, the survey says so.  It
looks and does nothing else: attributes are read from where they are stored, names from the code of
functions, so that no property, no `__getattr__` and nothing else of the user's is run, and nothing
is imported.  `contents` says what one object holds, `openings` where one may come later.
Whether a model is unsafe is for `hazards` to say.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

from locktender.adopt.author import ELSEWHERE, home_module, side_of
from locktender.adopt.contents import Shape, class_contents, contents_of, is_cut, is_opaque
from locktender.adopt.hazards import is_model_class, is_raw_class, is_tokenizer_class
from locktender.adopt.heavy import inner_of
from locktender.adopt.lineage import home_of, lineage, qualified_name
from locktender.adopt.openings import Opening, loader_in, opener_of
from locktender.adopt.packages import is_library

__all__ = ["Found", "Survey", "discover", "survey"]

_MAX_OBJECTS = 100_000  # an agent with a few tools has about a thousand
_MAX_DEPTH = 200
_MAX_OPENINGS = 2000
_MAX_CUTS = 5  # that are told of
_COLLECTIONS = frozenset({"collections.abc.Collection", "collections.UserDict"})
_OF_NETWORKS = frozenset({"._buffers", "._modules", "._parameters"})  # of torch

_Part = tuple[str, Any, int, str | None]  # path, object, depth, and `author`'s side of its holder


@dataclass(frozen=True, slots=True)
class Found:
    """A model object, and the first of the places where it is."""

    path: str  # "chain.steps[1].bound"; a colon stands before a name that a function's code uses
    model: Any


@dataclass(frozen=True, slots=True)
class Survey:
    """The models that were found, where the search was cut off, and where one may come later."""

    found: tuple[Found, ...]
    cuts: tuple[str, ...] = ()  # paths: a few
    openings: tuple[Opening, ...] = ()
    has_user_code: bool = False
    tokenizers: tuple[Any, ...] = ()  # of transformers, that are in no pipeline

    @property
    def is_complete(self) -> bool:
        """Whether all that is there was looked at."""
        return not self.cuts

    @property
    def said(self) -> tuple[Opening, ...]:
        """The openings that are worth words."""
        return tuple(opening for opening in self.openings if opening.why)


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
    return _Search(max_objects, max_depth).run(roots)


class _Search:
    """One walk; what it has seen is kept until it ends, so that a number stands for one object."""

    def __init__(self, max_objects: int, max_depth: int) -> None:
        self._max_objects = max_objects
        self._max_depth = max_depth
        self._seen: dict[int, object] = {}
        self._kinds: dict[int, _Kind] = {}
        self._found: list[Found] = []
        self._cuts: dict[str, None] = {}
        self._openings: dict[tuple[str, str], Opening] = {}
        self._has_user_code = False
        self._tokenizers: list[Any] = []

    def run(self, roots: Iterable[tuple[str, object]]) -> Survey:
        """Walk."""
        waiting: deque[_Part] = deque(
            (name, root, 0, None) for name, root in roots if self._is_worth(root)
        )
        while waiting:
            path, value, depth, side = waiting.popleft()
            if id(value) in self._seen:
                continue
            if len(self._seen) >= self._max_objects:
                self._cuts[path] = None
                break
            self._seen[id(value)] = value
            parts = self._look(path, value, depth, side_of(value, side))
            if is_cut(value) or (parts and depth >= self._max_depth):
                self._cuts[path] = None
            if depth < self._max_depth:
                waiting.extend(parts)
        return Survey(
            tuple(_outermost(self._found)),
            tuple(self._cuts)[:_MAX_CUTS],
            tuple(self._openings.values()),
            self._has_user_code,
            tuple(self._tokenizers),
        )

    def _look(self, path: str, value: Any, depth: int, side: str | None) -> list[_Part]:
        """Note what `value` is, and return what it holds."""
        kind = self._kind_of(value)
        self._note_object(path, value, kind)
        if kind.is_leaf:
            return []
        is_told = side != ELSEWHERE or kind.is_collection
        # What the functions of somebody else's package name is theirs, and too much to watch.
        if kind.openings is not None and (is_told or type(value) is not FunctionType):
            for opening in kind.openings(path, value):
                self._note(opening, is_told=is_told)
        parts: list[_Part] = []
        for suffix, part in self._parts(value, kind, side):
            if id(part) not in self._seen and self._is_worth(part):
                parts.append((path + suffix, part, depth + 1, side))
            loader = loader_in(path + suffix, part) if self._kind_of(part).is_called else None
            if loader is not None and side != ELSEWHERE:
                self._has_user_code = True
                self._note(loader, is_told=True)
        return parts

    def _note_object(self, path: str, value: Any, kind: "_Kind") -> None:
        if kind.is_tokenizer:
            self._tokenizers.append(value)
        elif kind.is_model:
            self._found.append(Found(path, value))
        self._has_user_code |= not kind.is_leaf and (
            kind.is_users
            or (type(value) in (FunctionType, type) and not is_library(home_module(value)))
        )

    def _parts(
        self, value: object, kind: "_Kind", side: str | None
    ) -> Iterator[tuple[str, object]]:
        for suffix, part in contents_of(value, kind.shape, side):
            if not (kind.is_raw and suffix in _OF_NETWORKS):  # whose layers are no others
                yield suffix, part
        if kind.is_new:  # what its class has is the same for all of a kind
            kind.is_new = False
            yield from class_contents(type(value), side)

    def _is_worth(self, value: object) -> bool:
        kind = self._kind_of(value)
        if kind.is_model or kind.is_tokenizer:
            return True
        return not (is_opaque(value) if kind.is_opaque is None else kind.is_opaque)

    def _kind_of(self, value: object) -> "_Kind":
        kind = type(value)
        known = self._kinds.get(id(kind))
        if known is None:
            known = self._kinds[id(kind)] = _Kind(value)
        return known

    def _note(self, opening: Opening, *, is_told: bool) -> None:
        if not is_told:
            opening.why = ""
        if len(self._openings) < _MAX_OPENINGS or opening.why:
            self._openings.setdefault((opening.path, opening.why), opening)


class _Kind:
    """What is the same of all objects of a class."""

    def __init__(self, value: object) -> None:
        self.kind = type(value)  # kept, and so its number
        self.is_new = True
        self.is_model = is_model_class(self.kind)
        self.is_raw = is_raw_class(self.kind)
        self.is_tokenizer = is_tokenizer_class(self.kind)
        self.is_users = not is_library(home_of(self.kind))
        self.is_leaf = self.is_tokenizer or (self.is_raw and not self.is_users)
        self.shape = Shape(self.kind)
        self.is_called = self.shape.is_class or self.kind in (FunctionType, MethodType)
        self.openings = opener_of(self.kind)
        self.is_collection = any(
            qualified_name(each) in _COLLECTIONS for each in lineage(self.kind)
        )
        # Of a class and a module it depends on which one it is.
        is_named = self.shape.is_class or self.shape.is_module
        self.is_opaque = None if is_named else is_opaque(value)


def _outermost(found: list[Found]) -> Iterator[Found]:
    """Leave out the raw objects that a wrapper among them is known to run."""
    inner = set[int]()
    for each in found:
        model = inner_of(each.model)
        while model is not None:
            inner.add(id(model))
            model = inner_of(model)
    for each in found:
        if not (is_raw_class(type(each.model)) and id(each.model) in inner):
            yield each
