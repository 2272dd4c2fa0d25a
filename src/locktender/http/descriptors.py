"""Find out how many connections the process can hold: each takes a file descriptor.

Many systems give a process 1,024 and let it have far more for the asking.
"""

import logging
import resource

__all__ = ["possible_connections"]

_OTHERS = 256  # descriptors: files, engines, the connections that an app opens itself

_log = logging.getLogger(__name__)


def possible_connections(wanted: int) -> int:
    """Return `wanted`, or as many as there can be, having asked the system for room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most == needed:
        return wanted
    possible = max(1, most - min(_OTHERS, most // 2))
    _log.warning(
        "%d connections at once instead of %d: the system allows %d files (`ulimit -Hn`)",
        *(possible, wanted, hard),
    )
    return possible
