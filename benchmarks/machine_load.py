"""Who else was at work on the machine while something was measured."""

import os
import time
from collections.abc import Iterable

import psutil

__all__ = ["Load"]


class Load:
    """What all processes had of it, and what those had that are measured, from now on."""

    def __init__(self, processes: Iterable[psutil.Process]) -> None:
        self._processes = [psutil.Process(), *processes]
        self._before = os.getloadavg()
        self._began_at = time.perf_counter()
        self._busy_s, self._ours_s = self._read()

    def told(self) -> str:
        """Return it in a sentence."""
        busy_s, ours_s = self._read()
        of_others_s = busy_s - self._busy_s - (ours_s - self._ours_s)
        whole_s = (time.perf_counter() - self._began_at) * (os.cpu_count() or 1)
        before, after = (
            ", ".join(f"{n:.2f}" for n in loads) for loads in (self._before, os.getloadavg())
        )
        return (
            f"Other processes had {max(0.0, of_others_s) / whole_s:.1%} of the machine's cores.  "
            f"Load over 1, 5 and 15 minutes: {before} before, {after} after."
        )

    def _read(self) -> tuple[float, float]:
        times = psutil.cpu_times()
        ours_s = sum(sum(process.cpu_times()[:2]) for process in self._processes)
        return times.user + times.nice + times.system, ours_s
