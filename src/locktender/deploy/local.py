"""Build the model layer from settings: the engines, the gates in front of them, their service.

The composition root of the model layer on one machine.  Engines run in processes of their own;
serving and stopping is `server`'s.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from locktender.app.shared_key import read_shared_key
from locktender.config import Settings
from locktender.core.errors import ConfigError, EngineStartError
from locktender.core.events import Observer
from locktender.model.chat_source import folder_chat_format, gguf_chat_format
from locktender.model.dispatcher import Dispatcher
from locktender.model.engine import EngineSpec, reads_folder, reads_gguf, takes_chats
from locktender.model.process import ProcessReplica
from locktender.model.service import ModelService, Served
from locktender.model.settings import ModelSettings
from locktender.model.source import locate, locate_folder
from locktender.model.supervisor import Supervisor
from locktender.model.tokenization import Tokenization
from locktender.prompting.chat_format import ChatFormat

__all__ = ["LocalModels", "model_layer"]


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
        """Requests that have not ended."""
        gates = [served.dispatcher for served in self.served.values()]
        return sum(
            gate.n_waiting + gate.n_running + gate.n_outside + gate.n_sending for gate in gates
        )

    async def stop_engines(self) -> None:
        """End the engines, and with them whatever still runs.  Safe to call twice."""
        await asyncio.gather(*(supervisor.stop() for supervisor in self.supervisors.values()))


@asynccontextmanager
async def model_layer(
    models: Sequence[ModelSettings], settings: Settings, observer: Observer, *, cache: Path
) -> AsyncIterator[LocalModels]:
    """Start the engines of `models` and build their service; end them on leaving.

    Raises: ConfigError.
    """
    _check_names(models)
    sources = {model.name: _located(model, cache) for model in models}
    chat_formats = {model.name: _chat_format(model, sources[model.name]) for model in models}
    supervisors = {
        model.name: _supervisor(model, sources[model.name], observer, cache) for model in models
    }
    served = {
        model.name: Served(
            dispatcher=Dispatcher(model.name, model.gate, supervisors[model.name], observer),
            gate=model.gate,
            health=supervisors[model.name],
            engine=model.engine,
            tokenization=Tokenization(
                supervisors[model.name], model.engine, chat_formats[model.name]
            ),
            chat_format=chat_formats[model.name],
        )
        for model in models
    }
    service = ModelService(served, settings.service, observer, shared_key=read_shared_key())
    running = LocalModels(service, served, supervisors)
    try:
        for supervisor in supervisors.values():
            supervisor.start()
        yield running
    finally:
        await running.stop_engines()


def _check_names(models: Sequence[ModelSettings]) -> None:
    names = Counter(model.name for model in models)
    twice = next((name for name, n in names.items() if n > 1), None)
    if twice is not None:
        message = f"Two models are called {twice!r}: give each a table `[models.NAME]` of its own."
        raise ConfigError(message)


def _located(model: ModelSettings, cache: Path) -> str:
    """Return the weights that are meant, as the engine takes them.  Raises: ConfigError."""
    if reads_gguf(model.engine):
        return str(locate(model.source, cache))
    if reads_folder(model.engine):
        return str(locate_folder(model.source))
    return model.source


def _chat_format(model: ModelSettings, source: str) -> ChatFormat | None:
    """Return how the model's chats are written; None where only its engine knows that."""
    if takes_chats(model.engine):
        return None
    read = gguf_chat_format if reads_gguf(model.engine) else folder_chat_format
    return read(Path(source))


def _supervisor(model: ModelSettings, source: str, observer: Observer, cache: Path) -> Supervisor:
    spec = EngineSpec(
        engine=model.engine,
        max_running=model.gate.max_running,
        source=source,
        options=model.options,
        canary=model.supervision.canary,
    )
    start_timeout_s = model.supervision.start_timeout_s

    def build(name: str, changed: Callable[[], None]) -> ProcessReplica:
        try:
            _located(model, cache)  # What was found whole at the start may be damaged by now.
        except ConfigError as error:
            raise EngineStartError(error.message) from error
        return ProcessReplica(name, spec, changed, start_timeout_s=start_timeout_s)

    return Supervisor(model.name, build, model.supervision, observer)
