"""Count requests by how they ended.

The law that it lets anybody check: received = the sum of all outcomes + those in flight, at any
moment, for each model.
"""

from collections import Counter
from collections.abc import Mapping

from locktender.core.events import Event, Outcome, RequestEnded, RequestReceived

__all__ = ["Tally"]


class Tally:
    """An observer that counts."""

    def __init__(self) -> None:
        self._received: Counter[str] = Counter()
        self._ended: dict[str, Counter[Outcome]] = {}

    def __call__(self, event: Event, /) -> None:
        """Count `event` if it is the begin or the end of a request."""
        match event:
            case RequestReceived(model=model):
                self._received[model] += 1
            case RequestEnded(model=model, outcome=outcome):
                self._ended.setdefault(model, Counter())[outcome] += 1
            case _:
                pass

    def received(self, model: str) -> int:
        """Return how many requests for `model` have come."""
        return self._received[model]

    def ended(self, model: str) -> Mapping[Outcome, int]:
        """Return how many requests for `model` have ended, by outcome."""
        return self._ended.get(model, Counter())

    def in_flight(self, model: str) -> int:
        """Return how many requests for `model` have come and not ended."""
        return self._received[model] - sum(self.ended(model).values())
