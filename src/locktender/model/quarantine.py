"""Decide what becomes of a request whose engine died under it.

The cases, for a request that was in the engine:

1. It has been in an engine at two deaths: it is the poison, and ends with `PoisonedRequest`.
2. A token of it has left to the caller: it ends with `ReplicaLost`; a second try would repeat or
   contradict what the caller has read.
3. Otherwise it is tried again, alone, as a suspect, at its old place in the line.

Deaths are counted by what was asked, not by request, so a poison that is sent again by its caller
is known; several requests with one prompt that die together count one death.  A prompt that has
been answered is cleared.  Synchronous; `dispatcher` acts on the verdicts.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from locktender.core.errors import PoisonedRequest, ReplicaLost
from locktender.core.request import GenerationRequest

__all__ = ["Quarantine"]

_MAX_DEATHS = 2  # the first may be chance; at the second the request was alone
_MAX_RECORDS = 1024  # prompts remembered; the oldest are forgotten


@dataclass(slots=True)
class _Record:
    losses: set[str] = field(default_factory=set)


class Quarantine:
    """The deaths that prompts were present at."""

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, _Record] = OrderedDict()

    def admit(self, request: GenerationRequest) -> bool:
        """Return whether `request` is a suspect.  Raises: PoisonedRequest."""
        if not self._records:
            return False  # The usual case; spares the hash.
        record = self._records.get(_fingerprint(request))
        if record is None:
            return False
        _refuse_poison(record)
        return True

    def judge(self, request: GenerationRequest, loss: ReplicaLost, *, has_sent: bool) -> None:
        """Return if `request` is to be tried again.  Raises: PoisonedRequest, ReplicaLost."""
        key = _fingerprint(request)
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        record.losses.add(loss.loss)
        while len(self._records) > _MAX_RECORDS:
            self._records.popitem(last=False)
        _refuse_poison(record)
        if has_sent:
            raise loss

    def clear(self, request: GenerationRequest) -> None:
        """Note that `request` was answered."""
        if self._records:
            self._records.pop(_fingerprint(request), None)


def _refuse_poison(record: _Record) -> None:
    if len(record.losses) >= _MAX_DEATHS:
        message = "This request has ended two engines and is not tried again."
        raise PoisonedRequest(message)


def _fingerprint(request: GenerationRequest) -> bytes:
    # What decides how the engine behaves; not the id, and not how the answer is delivered.
    asked = (request.model, request.input, request.max_tokens, request.sampling, request.stop)
    return hashlib.blake2b(repr(asked).encode(errors="surrogatepass"), digest_size=16).digest()
