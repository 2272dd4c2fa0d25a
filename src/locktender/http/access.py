"""Write the access log: a line for each request that is over, if the operator has asked for it.

Neither its query nor a config in its path is in it: both may hold keys.
"""

import logging
from typing import Any

__all__ = ["is_asked_for", "switch", "tell"]

_log = logging.getLogger("locktender.access")


def switch(*, is_on: bool) -> None:
    """Begin or end to write, whatever levels an app gives to the loggers above."""
    _log.disabled = not is_on
    _log.setLevel(logging.INFO)


def is_asked_for() -> bool:
    """Whether lines are written."""
    return _log.isEnabledFor(logging.INFO)


def tell(what: str, **fields: Any) -> None:
    """Write that a request is over; `what` is the line for whoever reads, None is unknown."""
    _log.info("%s", what, extra={"fields": fields})


switch(is_on=False)
