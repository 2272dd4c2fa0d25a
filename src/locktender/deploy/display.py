"""Show what a model service is doing: a live table on a terminal, plain lines otherwise.

It reads the gates a few times a second and draws; it changes nothing, and cannot stop the service.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from rich.console import Console
from rich.live import Live
from rich.table import Table

from locktender.core.events import Outcome
from locktender.deploy.local import LocalModels
from locktender.ops.tally import Tally

__all__ = ["show"]

_LIVE_S = 0.25
_PLAIN_S = 5.0
_CLOSE_S = 1.0
_RATE_WINDOW_S = 3.0  # tokens/s are measured over


@dataclass(frozen=True, slots=True)
class _Row:
    """What is shown of one model."""

    state: str
    waiting: int
    running: int
    tokens_per_s: float
    ended: Mapping[Outcome, int]

    def cells(self) -> list[str]:
        ended = [str(self.ended.get(outcome, 0)) for outcome in Outcome]
        return [
            self.state,
            str(self.waiting),
            str(self.running),
            f"{self.tokens_per_s:.0f}",
            *ended,
        ]

    def sentence(self) -> str:
        ended = " ".join(f"{outcome} {n}" for outcome, n in self.ended.items())
        return (
            f"{self.state}, waiting {self.waiting}, running {self.running}, "
            f"{self.tokens_per_s:.0f} tokens/s {ended}".rstrip()
        )


@dataclass(slots=True)
class _Meter:
    """Turns a growing count into a rate."""

    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def rate(self, now: float, count: int) -> float:
        self.samples.append((now, count))
        while now - self.samples[0][0] > _RATE_WINDOW_S and len(self.samples) > 2:  # noqa: PLR2004 - a rate needs two
            self.samples.popleft()
        at, before = self.samples[0]
        return (count - before) / (now - at) if now > at else 0.0


class _Screen:
    """Writes what is drawn, in a thread of its own.

    A terminal that is held with Ctrl-S, or a pipe that nobody reads, stops whoever writes to it;
    here only this thread.  While it stands, newer frames are dropped; when the reader is gone, it
    ends, and serving goes on.
    """

    def __init__(self) -> None:
        self._frames: queue.Queue[Callable[[], object] | None] = queue.Queue(maxsize=2)
        self._writer = threading.Thread(target=self._write, name="display", daemon=True)
        self._writer.start()

    def draw(self, frame: Callable[[], object]) -> None:
        """Have `frame` called, unless those before it are still being written."""
        with contextlib.suppress(queue.Full):
            self._frames.put_nowait(frame)

    def close(self) -> None:
        """Wait for the last frame, but not for long."""
        with contextlib.suppress(queue.Full):
            self._frames.put_nowait(None)
        self._writer.join(_CLOSE_S)

    def _write(self) -> None:
        while (frame := self._frames.get()) is not None:
            # rich raises SystemExit on a broken pipe, which here ends the thread alone.
            with contextlib.suppress(OSError):
                frame()


async def show(models: LocalModels, tally: Tally, greeting: str, console: Console) -> None:
    """Print `greeting`, then show what the models do, until cancelled."""
    meters = {name: _Meter() for name in models.served}
    screen = _Screen()
    screen.draw(lambda: console.print(greeting, soft_wrap=True))
    try:
        if console.is_terminal:
            await _draw_table(models, tally, meters, console, screen)
        else:
            await _print_lines(models, tally, meters, console, screen)
    finally:
        screen.close()


async def _draw_table(
    models: LocalModels,
    tally: Tally,
    meters: Mapping[str, _Meter],
    console: Console,
    screen: _Screen,
) -> None:
    live = Live(console=console, auto_refresh=False)
    screen.draw(live.start)
    try:
        while True:
            table = _table(_rows(models, tally, meters))
            screen.draw(partial(live.update, table, refresh=True))
            await asyncio.sleep(_LIVE_S)
    finally:
        screen.draw(live.stop)


async def _print_lines(
    models: LocalModels,
    tally: Tally,
    meters: Mapping[str, _Meter],
    console: Console,
    screen: _Screen,
) -> None:
    """Print a line for each model whose figures have changed."""
    shown: dict[str, list[str]] = {}
    while True:
        lines = []
        for name, row in _rows(models, tally, meters).items():
            if shown.get(name) != row.cells():
                shown[name] = row.cells()
                lines.append(f"{name}: {row.sentence()}")
        if lines:
            text = "\n".join(lines)
            screen.draw(partial(console.print, text, highlight=False, markup=False, soft_wrap=True))
        await asyncio.sleep(_PLAIN_S)


def _rows(models: LocalModels, tally: Tally, meters: Mapping[str, _Meter]) -> dict[str, _Row]:
    now = time.monotonic()
    rows = {}
    for name, served in models.served.items():
        supervisor = models.supervisors[name]
        up = "ready" if supervisor.is_ready else "starting"
        rows[name] = _Row(
            state="down" if supervisor.is_down else up,
            waiting=served.dispatcher.n_waiting,
            running=served.dispatcher.n_running,
            tokens_per_s=meters[name].rate(now, served.dispatcher.n_tokens),
            ended=tally.ended(name),
        )
    return rows


def _table(rows: Mapping[str, _Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("model", style="bold")
    table.add_column("state")
    for heading in ("waiting", "running", "tokens/s", *Outcome):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        table.add_row(name, *row.cells())
    return table
