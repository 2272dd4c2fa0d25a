"""Say what one hazard is: what breaks, for whom, since when, and what is done about it.

`hazard_chain` and `hazard_raw` are tables of these, `hazards` asks them, and the doctor shows them.
"""

from dataclasses import dataclass
from enum import Enum

__all__ = ["Action", "Hazard"]


class Action(Enum):
    """What locktender does about a hazard: a sentence."""

    BATCHED = (
        "Gives it one owner with the gate in front: texts join and leave one call, token by token; "
        "all that cannot is run one at a time."
    )
    EXCLUSIVE = (
        "Gives it one owner with the gate in front: one call at a time, the others wait in order."
    )
    NAMED = (
        "Nothing: its class cannot be put behind a gate. Hold its callers apart yourself, or put "
        "it in a model class of LangChain with synchronous methods, which is guarded."
    )


@dataclass(frozen=True, slots=True)
class Hazard:
    """What breaks when several callers use one object of these classes."""

    kind: str
    title: str  # a few words
    classes: tuple[str, ...]  # qualified; their subclasses are meant, too
    breaks: str
    since: str
    cure: str
    action: Action
    threads: tuple[str, ...] = ()  # "organisation/repository#number"
