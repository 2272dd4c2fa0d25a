"""The end of processes that are not ours to collect."""

import time
from collections.abc import Sequence

import psutil

__all__ = ["still_running"]

_ROUND_S = 0.02  # between two looks at those that have not been collected


def still_running(
    processes: Sequence[psutil.Process], *, within_s: float
) -> Sequence[psutil.Process]:
    """Wait for the end of `processes`; return those that still run after `within_s`.

    A process has ended when it runs no more, and not only when it is collected: whoever inherits
    an orphan may take seconds for that.
    """
    give_up_at = time.monotonic() + within_s
    running = [each for each in processes if _runs(each)]
    while running and time.monotonic() < give_up_at:
        psutil.wait_procs(running, timeout=_ROUND_S)
        running = [each for each in running if _runs(each)]
    return running


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
