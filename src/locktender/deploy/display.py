"""Show what a model service is doing: a live table on a terminal, plain lines otherwise.

It reads the gates a few times a second and draws; it changes nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from locktender.core.events import Outcome
from locktender.deploy.local import LocalModels
from locktender.ops.tally import Tally

__all__ = ["show"]

_LIVE_S = 0.25
_PLAIN_S = 5.0
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


async def show(models: LocalModels, tally: Tally, greeting: str, console: Console) -> None:
    """Print `greeting`, then show what the models do, until cancelled."""
    meters = {name: _Meter() for name in models.served}
    console.print(greeting, soft_wrap=True)
    if not console.is_terminal:
        await _print_lines(models, tally, meters, console)
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            live.update(_table(_rows(models, tally, meters)), refresh=True)
            await asyncio.sleep(_LIVE_S)


async def _print_lines(
    models: LocalModels, tally: Tally, meters: Mapping[str, _Meter], console: Console
) -> None:
    """Print a line for each model whose figures have changed."""
    shown: dict[str, list[str]] = {}
    while True:
        for name, row in _rows(models, tally, meters).items():
            cells = row.cells()
            if shown.get(name) != cells:
                shown[name] = cells
                ended = " ".join(f"{outcome} {n}" for outcome, n in row.ended.items())
                console.print(
                    f"{name}: {row.state}, waiting {row.waiting}, running {row.running}, "
                    f"{row.tokens_per_s:.0f} tokens/s {ended}".rstrip(),
                    highlight=False,
                    soft_wrap=True,
                )
        await asyncio.sleep(_PLAIN_S)


def _rows(models: LocalModels, tally: Tally, meters: Mapping[str, _Meter]) -> dict[str, _Row]:
    now = time.monotonic()
    rows = {}
    for name, served in models.served.items():
        supervisor = models.supervisors[name]
        up = "ready" if supervisor.is_ready else "starting"
        rows[name] = _Row(
            state="down" if supervisor.has_given_up else up,
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
