"""The command line: flags become settings, and `deploy` does the rest."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from locktender.cli_models import models_app, pull_shown
from locktender.config import ModelTable, Settings, read_settings
from locktender.core.errors import ConfigError
from locktender.core.events import Observer, tell_all
from locktender.core.version import __version__
from locktender.deploy.display import show
from locktender.deploy.local import model_layer
from locktender.deploy.server import ModelServer, listen
from locktender.model.catalogue import find_known
from locktender.model.engine import reads_gguf
from locktender.model.settings import ModelSettings
from locktender.model.weights import cache_root
from locktender.ops.log import JsonLog
from locktender.ops.tally import Tally

__all__ = ["app", "main"]

app = typer.Typer(
    name="locktender",
    help="Serve local models, and the chains over them, to many callers at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")


def main() -> None:
    """Run the command line; a mistake in the configuration is one sentence and exit code 2."""
    try:
        app()
    except ConfigError as error:
        message = f"[red]locktender:[/] {escape(error.message)}"
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        sys.exit(2)


@app.callback()
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command("model")
def serve_models(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Models of the file, known models, or GGUF files; none: all of the file.",
        ),
    ] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="Default: ./locktender.toml.")] = None,
    host: Annotated[str | None, typer.Option(help="Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8001; 0 takes a free one.")] = None,
    engine: Annotated[str | None, typer.Option(help="openvino or echo.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="exact: answers do not depend on neighbours; or fast.")
    ] = None,
    max_running: Annotated[int | None, typer.Option(help="Requests in the engine.")] = None,
    max_waiting: Annotated[int | None, typer.Option(help="Requests in the gate.")] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="Where JSON lines go; default: standard error, if no terminal."),
    ] = None,
) -> None:
    """Serve local models, OpenAI-compatible, behind a bounded gate."""
    settings = read_settings(config, host=host, model_port=port)
    table = {
        "engine": engine,
        "preset": preset,
        "max_running": max_running,
        "max_waiting": max_waiting,
    }
    chosen = [_chosen(name, settings, table) for name in names or settings.models]
    if not chosen:
        message = "Name a model, for example: locktender model smollm2."
        raise ConfigError(message)
    for model in chosen:
        known = find_known(model.source) if reads_gguf(model.engine) else None
        if known is not None:
            pull_shown(known)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(chosen, settings, log))


def _chosen(name: str, settings: Settings, flags: Mapping[str, object]) -> ModelSettings:
    given = {flag: value for flag, value in flags.items() if value is not None}
    if name in settings.models:
        return settings.models[name].model_copy(update=given).settings(name)
    is_file = Path(name).suffix == ".gguf"
    table = ModelTable(source=name).model_copy(update=given)
    return table.settings(Path(name).stem if is_file else name)


async def _serve(chosen: Sequence[ModelSettings], settings: Settings, log: Path | None) -> None:
    console, tally = Console(), Tally()
    with _json_log(log, console) as observers:
        observer = tell_all(tally, *observers)
        async with model_layer(chosen, settings, observer, cache=cache_root()) as models:
            listener = listen(settings.host, settings.model_port)
            host, port = listener.getsockname()[:2]
            showing = asyncio.create_task(show(models, tally, f"http://{host}:{port}", console))
            try:
                await ModelServer(models, observer, drain_s=settings.drain_s).serve(listener)
            finally:
                showing.cancel()
                await asyncio.wait([showing])


@contextlib.contextmanager
def _json_log(path: Path | None, console: Console) -> Iterator[list[Observer]]:
    """Give the observers that write JSON lines: none, where they would tear up a live table."""
    if path is None and console.is_terminal:
        yield []
        return
    with path.open("a") if path else contextlib.nullcontext(sys.stderr) as stream:
        json_log = JsonLog(stream)
        try:
            yield [json_log]
        finally:
            json_log.close()
