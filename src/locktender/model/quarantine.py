"""Decide what becomes of requests whose engine died under them.

The cases, for each of them:

1. Its prompt is banned: it ends with `PoisonedRequest`.
2. Text of it has left to the caller: it ends with `ReplicaLost`; a second try would repeat or
   contradict what the caller has read.
3. Otherwise it is tried again at its old place in the line, as a suspect.

The suspects of one death are one group, which runs together and with nobody else.  Most deaths are
nobody's fault here (a kernel that is out of memory ends whatever is largest), and then the group
ends well and its prompts are cleared: such a death costs one run.  A group that dies is halved, so
one poison among n is alone after log2(n) + 2 deaths.

A ban needs evidence: a death with a crowd in the engine says next to nothing of each of them.  So
only deaths with at most four prompts count; the third of them bans if the prompt was alone in it,
as the last group of all the halving.  A prompt that gets beyond the place at which its engine died
is cleared as one that is answered, since a fault in it would have come there again.  So whoever
kills the engine from outside must hit one prompt three times, twice after it was set apart, each
time no later than before, until it looks like its fault; and the ban ends by itself.

Counted is what was asked, not by which request: a poison that is sent again by its caller is known,
and copies that die together count once.  Synchronous; `dispatcher` acts on the verdicts, and
`isolation` decides when a group runs.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from locktender.core.errors import PoisonedRequest, ReplicaLost
from locktender.core.request import GenerationRequest
from locktender.model.backlog import NO_GROUP

__all__ = ["Quarantine"]

_FEW = 4  # prompts in an engine, of which each is nearly alone
_MAX_DEATHS = 3  # nearly alone
_MAX_RECORDS = 1024  # prompts, and deaths, remembered; the oldest are forgotten


@dataclass(slots=True)
class _Record:
    """What is known of a prompt.  Instants are the dispatcher's."""

    group: int = NO_GROUP
    n_deaths: int = 0  # nearly alone
    banned_until: float = -math.inf
    known_until: float = -math.inf


class Quarantine:
    """The prompts that were in engines that died, and the groups in which they are tried again."""

    def __init__(self, ban_s: float) -> None:
        self._ban_s = ban_s
        self._records: OrderedDict[bytes, _Record] = OrderedDict()
        self._losses: OrderedDict[str, None] = OrderedDict()  # that have been noted
        self._groups = itertools.count(NO_GROUP + 1)

    def admit(self, request: GenerationRequest, *, now: float) -> int:
        """Return the group that `request` runs with: none, if it is no suspect.

        Raises: PoisonedRequest.
        """
        if not self._records:
            return NO_GROUP  # The usual case; spares the digest.
        record = self._known(request.digest(), now)
        if record is None:
            return NO_GROUP
        _refuse_banned(record, now)
        return record.group

    def judge(
        self, request: GenerationRequest, loss: ReplicaLost, *, has_sent: bool, now: float
    ) -> int:
        """Return the group with which `request` is to be tried again.

        Raises: PoisonedRequest, ReplicaLost.
        """
        if loss.loss not in self._losses:
            self._losses[loss.loss] = None
            self._forget_oldest()
            self._note(tuple(dict.fromkeys(loss.present)), now)
        group = self.admit(request, now=now)
        if has_sent:
            raise loss
        return group

    def clear(self, request: GenerationRequest) -> None:
        """Note that `request` was answered, or got beyond the place at which its engine died."""
        if self._records:
            self._records.pop(request.digest(), None)

    def _note(self, present: Sequence[bytes], now: float) -> None:
        """Draw from a death what it says of each prompt that was `present`."""
        before: dict[int, list[bytes]] = {}
        for digest in present:
            record = self._known(digest, now)
            before.setdefault(record.group if record else NO_GROUP, []).append(digest)
        for group, members in before.items():
            for part in (members,) if group == NO_GROUP else _halved(members):
                self._suspect(part, now)
        if len(present) <= _FEW:
            for digest in present:
                self._records[digest].n_deaths += 1
        if len(present) == 1:
            self._judge_alone(self._records[present[0]], now)
        self._forget_oldest()

    def _suspect(self, members: Iterable[bytes], now: float) -> None:
        """Make one group of `members`."""
        group = next(self._groups)
        for digest in members:
            record = self._records.setdefault(digest, _Record())
            self._records.move_to_end(digest)
            record.group = group
            record.known_until = now + self._ban_s

    def _judge_alone(self, record: _Record, now: float) -> None:
        if record.n_deaths >= _MAX_DEATHS:
            record.banned_until = now + self._ban_s
            # After the ban one death is enough for the next: what was found before still counts.
            record.known_until = record.banned_until + self._ban_s

    def _known(self, digest: bytes, now: float) -> _Record | None:
        record = self._records.get(digest)
        if record is not None and record.known_until <= now:
            del self._records[digest]
            return None
        return record

    def _forget_oldest(self) -> None:
        _trim(self._records)
        _trim(self._losses)


def _trim(remembered: OrderedDict[Any, Any]) -> None:
    while len(remembered) > _MAX_RECORDS:
        remembered.popitem(last=False)


def _halved(members: list[bytes]) -> Iterable[list[bytes]]:
    middle = (len(members) + 1) // 2
    return filter(None, (members[:middle], members[middle:]))


def _refuse_banned(record: _Record, now: float) -> None:
    left_s = record.banned_until - now
    if left_s > 0:
        message = (
            f"This prompt was in {record.n_deaths} engines when they died, alone in the last: "
            f"it is refused for another {math.ceil(left_s)} s."
        )
        raise PoisonedRequest(message)
