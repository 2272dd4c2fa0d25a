"""Watch a served chain for models that were not there when it was searched.

Before each run the open places are looked at again, which takes no time while nothing is put there;
what is found in one is guarded before the run begins.  Language models that are only met within a
run are guarded at that call (`met`).  How an object is guarded is the affair of `guard`, which is
handed in.  A place that changes all the time is looked at less often, so that looking takes at most
a fiftieth of the time.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from weakref import WeakSet

from locktender.adopt.discover import Found, survey
from locktender.adopt.hazards import hazard_of, hazard_of_class
from locktender.adopt.holders import UNSET
from locktender.adopt.lineage import plain_kind
from locktender.adopt.met import listen
from locktender.adopt.openings import Opening
from locktender.adopt.remark import cut_remark
from locktender.core.errors import ConfigError

__all__ = ["Watch"]

_log = logging.getLogger(__name__)

_FREE_LOOKS = 8
_SHARE = 50
_MAX_OBJECTS = 20_000  # of one place
_MAX_PLACES = 2000


class Watch:
    """The watch over one chain.  `guard` guards what is found."""

    def __init__(
        self, openings: Iterable[Opening], guard: Callable[[Iterable[Found]], object]
    ) -> None:
        self._places = [_Place(opening) for opening in openings]
        self._guard = guard
        self._lock = threading.Lock()  # whoever comes while somebody looks waits for what is found
        self._known = WeakSet[type]()

    def __len__(self) -> int:
        return len(self._places)

    def before_run(self) -> None:
        """Guard what has come since the last run, and what is met in the one that begins now."""
        listen(self._meet)
        with self._lock:
            for place in tuple(self._places):
                value = place.news(time.monotonic)
                if value is not UNSET:
                    self._look(place, value)

    def _look(self, place: "_Place", value: object) -> None:
        began = time.monotonic()
        seen = survey([(place.path, value)], max_objects=_MAX_OBJECTS)
        self._guarded(seen.found)
        if seen.cuts:
            _log.warning("%s", cut_remark(seen.cuts))
        if place.is_first and len(self._places) < _MAX_PLACES:
            # Not of one that grows, with what each request leaves there.
            self._places.extend(_Place(opening) for opening in seen.openings)
        now = time.monotonic()
        place.looked_at(again_at=now + _SHARE * (now - began))

    def _meet(self, model: object) -> None:
        kind = type(model)
        if kind in self._known:
            return
        with self._lock:
            self._guarded(survey([("a run", model)], max_objects=_MAX_OBJECTS).found)
            # Over some clients a class is safe that is not over others.
            if hazard_of_class(plain_kind(kind)) is None or hazard_of(model) is not None:
                self._known.add(type(model))

    def _guarded(self, found: Iterable[Found]) -> None:
        for each in found:
            try:
                self._guard([each])
            except ConfigError as error:
                _log.warning("%s", error)


class _Place:
    """An open place, and when it may be looked at again."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._n_looks = 0
        self._again_at = 0.0
        self.path = opening.path
        self.is_first = not opening.is_filled  # until something is put there

    def news(self, clock: Callable[[], float]) -> object:
        """Return what is new here; `UNSET` if nothing is, or it was looked at just now."""
        if self._n_looks > _FREE_LOOKS and clock() < self._again_at:
            return UNSET
        return self._opening.news()

    def looked_at(self, *, again_at: float) -> None:
        """Note when it may be looked at again."""
        self._n_looks += 1
        self._again_at = again_at
        self.is_first = not self._opening.is_filled
