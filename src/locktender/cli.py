"""The command line: flags become settings, and `deploy` does the rest."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from locktender.cli_doctor import examine_models
from locktender.cli_models import models_app, pull_shown
from locktender.cli_new import new_project
from locktender.config import ModelTable, Settings, read_environment, read_settings
from locktender.core.errors import ConfigError
from locktender.core.version import __version__
from locktender.deploy.check import check as check_demo
from locktender.deploy.listener import Place
from locktender.deploy.logs import log_of_service
from locktender.deploy.run import AppPlan, run_app, run_models
from locktender.deploy.target_name import parse_target
from locktender.model.catalogue import find_known
from locktender.model.engine import reads_gguf
from locktender.model.settings import ModelSettings
from locktender.model.source import is_folder

__all__ = ["app", "main"]

app = typer.Typer(
    name="locktender",
    help="Serve local models, and the chains over them, to many callers at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")
app.command("new")(new_project)
app.command("doctor")(examine_models)

# The doors of both servers.
_ApiKey = Annotated[
    str | None,
    typer.Option(
        help="What callers must send; `ps` shows it: better LOCKTENDER_API_KEY=KEY before it."
    ),
]
_AllowedHost = Annotated[
    list[str] | None,
    typer.Option(help="A name that callers, or a proxy, use for this service; or '*'."),
]
_CorsOrigin = Annotated[
    list[str] | None,
    typer.Option(help="A page's origin, as https://example.com, that may call; or '*'."),
]
_RootPath = Annotated[
    str | None,
    typer.Option(help="The prefix that a proxy takes off each path, as /chains."),
]
_DrainNotice = Annotated[
    float | None,
    typer.Option(help="Seconds served on after SIGTERM, while /readyz says no more. Default: 2."),
]
_Insecure = Annotated[
    bool, typer.Option("--insecure", help="Let all the network in without a key.")
]

# The log of both.
_Log = Annotated[
    Path | None,
    typer.Option(
        help="Where the gate's events go, as JSON; default: standard error, if no terminal."
    ),
]
_LogFormat = Annotated[
    str | None,
    typer.Option(help="text or json; default: text on a terminal, else json."),
]
_AccessLog = Annotated[bool, typer.Option("--access-log", help="Write a line for each request.")]


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
            help="Models of the file, known models, GGUF files or Hugging Face folders.",
        ),
    ] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="Default: ./locktender.toml.")] = None,
    host: Annotated[str | None, typer.Option(help="Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8001; 0 takes a free one.")] = None,
    api_key: _ApiKey = None,
    allowed_host: _AllowedHost = None,
    cors_origin: _CorsOrigin = None,
    insecure: _Insecure = False,
    root_path: _RootPath = None,
    drain_notice_s: _DrainNotice = None,
    engine: Annotated[
        str | None,
        typer.Option(help="openvino, transformers or echo; default: what reads the model."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="exact: answers do not depend on neighbours; or fast.")
    ] = None,
    max_running: Annotated[int | None, typer.Option(help="Requests in the engine.")] = None,
    max_waiting: Annotated[int | None, typer.Option(help="Requests in the gate.")] = None,
    log: _Log = None,
    log_format: _LogFormat = None,
    access_log: _AccessLog = False,
) -> None:
    """Serve local models, OpenAI-compatible, behind a bounded gate."""
    doors = _door_flags(api_key, allowed_host, cors_origin, root_path, insecure=insecure)
    flags = {
        "host": host,
        "model_host": host,
        "model_port": port,
        "drain_notice_s": drain_notice_s,
        "log_format": log_format,
        "access_log": access_log or None,
    }
    settings = read_settings(config, **flags, **doors)
    settings.check_exposure(settings.host_of_models)
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
    _pull_missing(chosen)
    console = Console()
    with log_of_service(settings, log, console) as observers, _loop() as runner:
        runner.run(run_models(chosen, settings, observers, console))


@app.command("serve")
def serve_app(
    target: Annotated[
        str, typer.Argument(help="'app.py:app', 'app.py:chain' or 'package.module:app'.")
    ],
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model to start; several are allowed. Default: all of the file."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="App processes; they share the gate.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Of each worker, for synchronous chains. Default: 128."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Default: ./locktender.toml.")] = None,
    host: Annotated[str | None, typer.Option(help="The app's. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8000; 0 takes a free one.")] = None,
    model_host: Annotated[
        str | None, typer.Option(help="The models', whatever --host is. Default: 127.0.0.1.")
    ] = None,
    model_port: Annotated[int | None, typer.Option(help="Default: 8001.")] = None,
    api_key: _ApiKey = None,
    allowed_host: _AllowedHost = None,
    cors_origin: _CorsOrigin = None,
    insecure: _Insecure = False,
    root_path: _RootPath = None,
    drain_notice_s: _DrainNotice = None,
    log: _Log = None,
    log_format: _LogFormat = None,
    access_log: _AccessLog = False,
) -> None:
    """Serve an app or a chain, and the local models that it calls."""
    flags = {
        "host": host,
        "port": port,
        "model_host": model_host,
        "model_port": model_port,
        "workers": workers,
        "threads": threads,
        "drain_notice_s": drain_notice_s,
        "log_format": log_format,
        "access_log": access_log or None,
    }
    doors = _door_flags(api_key, allowed_host, cors_origin, root_path, insecure=insecure)
    settings = read_settings(config, **flags, **doors)
    settings.check_exposure(settings.host, settings.host_below_app)
    parse_target(target)
    chosen = [_chosen(name, settings, {}) for name in model or settings.models]

    def greeting(app: Place, models: Place) -> str:
        first = f"[bold]locktender[/] serves {escape(target)}, {app.told}"
        if not chosen:  # Its workers ask it whether requests should come.
            return f"{first}\nand no model; what /readyz says comes from {models.url}"
        names = ", ".join(each.name for each in chosen)
        return f"{first}\nand {escape(names)} for it, {models.told}/v1"

    _run_app(AppPlan(target, settings.workers, greeting), chosen, settings, log)


@app.command("demo")
def serve_demo(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Prove that concurrent answers are right, and end.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="App processes; they share the gate.")
    ] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Serve a chain on a real local model, to be tried by many callers at once."""
    # No file is read: the demo is the same wherever it is started.
    settings = read_environment(port=0 if check else port, model_port=0, workers=workers)
    settings.check_exposure(settings.host, settings.host_below_app)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    console = Console()

    async def errand(url: str) -> int:
        return await check_demo(f"{url}/chain", console, key)

    target = "locktender.app.demo:chain"
    if check:
        plan = AppPlan(target, workers, _check_greeting, errand)
    else:
        plan = AppPlan(target, workers, partial(_demo_greeting, has_key=key is not None))
    _run_app(plan, [_chosen("smollm2", settings, {})], settings, None)


def _door_flags(
    api_key: str | None,
    allowed_hosts: Sequence[str] | None,
    cors_origins: Sequence[str] | None,
    root_path: str | None,
    *,
    insecure: bool,
) -> Mapping[str, Any]:
    """Return the settings of these flags, None for those that were not given."""
    return {
        "api_key": api_key,
        "allowed_hosts": allowed_hosts or None,
        "cors_origins": cors_origins or None,
        "root_path": root_path,
        "insecure": insecure or None,
    }


def _check_greeting(app: Place, _models: Place) -> str:
    return f"[bold]locktender[/] checks a prompt and SmolLM2 at {app.url}/chain"


def _demo_greeting(app: Place, models: Place, *, has_key: bool) -> str:
    url = app.url
    curl, sent = "curl -N", ""
    if has_key:
        curl += ' -H "Authorization: Bearer $LOCKTENDER_API_KEY"'
        sent = ', headers={"X-API-Key": __import__("os").environ["LOCKTENDER_API_KEY"]}'
    body = '{"input": {"question": "What is a canal lock?"}}'
    python = (
        f'import httpx; print(httpx.post("{url}/chain/invoke", json={body}, timeout=60{sent})'
        '.json()["output"]["content"])'
    )
    return (
        f"[bold]locktender[/] serves a prompt and SmolLM2, {app.told}/chain\n"
        f"and the model alone, {models.told}/v1\n\n"
        "Try it, from as many terminals as you like:\n\n"
        f"  {curl} {url}/chain/stream -d '{escape(body)}'\n"
        f"  python -c '{escape(python)}'\n"
    )


def _run_app(
    plan: AppPlan, chosen: Sequence[ModelSettings], settings: Settings, log: Path | None
) -> None:
    _pull_missing(chosen)
    console = Console()
    with log_of_service(settings, log, console) as observers, _loop() as runner:
        code = runner.run(run_app(plan, chosen, settings, observers, console))
    raise typer.Exit(code)


def _pull_missing(chosen: Sequence[ModelSettings]) -> None:
    for model in chosen:
        known = find_known(model.source) if reads_gguf(model.engine) else None
        if known is not None:
            pull_shown(known)


def _loop() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _chosen(name: str, settings: Settings, flags: Mapping[str, object]) -> ModelSettings:
    given = {flag: value for flag, value in flags.items() if value is not None}
    if name in settings.models:
        return settings.models[name].model_copy(update=given).settings(name)
    table = ModelTable().model_copy(update={"source": name, **given})
    if is_folder(name):
        return table.settings(Path(name).absolute().name)
    return table.settings(Path(name).stem if Path(name).suffix == ".gguf" else name)
