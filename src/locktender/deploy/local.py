"""Run a model service in this process, and its engines in processes of their own.

The composition root of the model layer: it builds supervisors, gates and the HTTP side from
settings, starts them, and ends them in order.  On SIGTERM or SIGINT the service drains: the
listener stays open and answers 503 until the last stream has ended or `drain_s` have passed.  A
second signal ends it at once.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from locktender.config import Settings
from locktender.core.errors import ConfigError
from locktender.core.events import DrainStarted, Observer
from locktender.model.dispatcher import Dispatcher
from locktender.model.engine import EngineSpec, reads_gguf
from locktender.model.process import ProcessReplica
from locktender.model.service import ModelService, Served
from locktender.model.settings import ModelSettings
from locktender.model.source import locate
from locktender.model.supervisor import Supervisor

__all__ = ["LocalModels", "listen", "model_layer", "serve"]


@dataclass(frozen=True, slots=True)
class LocalModels:
    """The models of this process, running."""

    service: ModelService
    served: dict[str, Served]
    supervisors: dict[str, Supervisor]

    @property
    def config_error(self) -> ConfigError | None:
        """What keeps a model from ever starting, if anything does."""
        errors = (supervisor.config_error for supervisor in self.supervisors.values())
        return next((error for error in errors if error is not None), None)

    @property
    def n_inside(self) -> int:
        """Requests that wait or run."""
        gates = [served.dispatcher for served in self.served.values()]
        return sum(gate.n_waiting + gate.n_running for gate in gates)


@asynccontextmanager
async def model_layer(
    models: Sequence[ModelSettings], settings: Settings, observer: Observer, *, cache: Path
) -> AsyncIterator[LocalModels]:
    """Start the engines of `models` and build their service; end them on leaving.

    Raises: ConfigError.
    """
    supervisors = {model.name: _supervisor(model, observer, cache) for model in models}
    served = {
        model.name: Served(
            dispatcher=Dispatcher(model.name, model.gate, supervisors[model.name], observer),
            gate=model.gate,
            health=supervisors[model.name],
        )
        for model in models
    }
    try:
        for supervisor in supervisors.values():
            supervisor.start()
        yield LocalModels(ModelService(served, settings.service, observer), served, supervisors)
    finally:
        await asyncio.gather(*(supervisor.stop() for supervisor in supervisors.values()))


def listen(host: str, port: int) -> socket.socket:
    """Bind the listener; port 0 takes any free one.  Raises: ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        message = f"Cannot listen on {host}:{port}: {error.strerror}."
        raise ConfigError(message) from error
    return listener


async def serve(
    models: LocalModels, settings: Settings, listener: socket.socket, observer: Observer
) -> None:
    """Serve until a signal has come and the last request has ended.

    Raises: ConfigError when an engine finds that it can never start.
    """
    config = uvicorn.Config(
        models.service.app(),
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,  # what is left then has had its `drain_s`
    )
    server = _Server(config)
    drain = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if drain.is_set():
            server.should_exit = server.force_exit = True
        drain.set()

    def stop_if_misconfigured() -> None:
        if models.config_error is not None:
            server.should_exit = True

    for supervisor in models.supervisors.values():
        supervisor.subscribe(stop_if_misconfigured)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    draining = asyncio.create_task(_drain_on(drain, models, settings.drain_s, observer))
    draining.add_done_callback(lambda _: setattr(server, "should_exit", True))
    try:
        await server.serve(sockets=[listener])
    finally:
        draining.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if models.config_error is not None:
        raise models.config_error


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _drain_on(
    drain: asyncio.Event, models: LocalModels, drain_s: float, observer: Observer
) -> None:
    await drain.wait()
    models.service.drain()
    observer(
        DrainStarted(
            sum(s.dispatcher.n_waiting + s.dispatcher.n_running for s in models.served.values())
        )
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(drain_s):
            await models.service.wait_idle()


def _supervisor(model: ModelSettings, observer: Observer, cache: Path) -> Supervisor:
    source = model.source
    if reads_gguf(model.engine):
        source = str(locate(source, cache))
    spec = EngineSpec(
        engine=model.engine,
        max_running=model.gate.max_running,
        source=source,
        options=model.options,
    )
    start_timeout_s = model.supervision.start_timeout_s
    return Supervisor(
        model.name,
        lambda name, changed: ProcessReplica(name, spec, changed, start_timeout_s=start_timeout_s),
        model.supervision,
        observer,
    )
