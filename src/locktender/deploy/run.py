"""Run a whole service in this process, from its settings to its exit code.

Two of them: the model layer alone, and an app whose workers call it.  What they share is how they
stop: `/readyz` says so on every port, and requests are served on until whoever sends them has
heard; then first those in front end, then those behind, so that nobody is left waiting for somebody
who has gone.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from locktender.config import Settings
from locktender.core.events import Observer, tell_all
from locktender.deploy.crew import API_KEY, BASE_URL, DOORS, HEALTH, NO_EXTENSIONS, Crew
from locktender.deploy.display import show
from locktender.deploy.listener import Place, listen, place_of
from locktender.deploy.local import LocalModels, model_layer
from locktender.deploy.orders import ORDERS, Orders
from locktender.deploy.server import ModelServer
from locktender.deploy.stop import Stop
from locktender.http.settings import Doors
from locktender.model.settings import ModelSettings
from locktender.model.weights import cache_root
from locktender.ops.tally import Tally

__all__ = ["AppPlan", "run_app", "run_models"]

_PATH = "/v1"  # of OpenAI's protocol, at the model layer


@dataclass(frozen=True, slots=True)
class AppPlan:
    """An app to be served over the model layer."""

    target: str  # "app.py:chain" or "package.module:app"
    n_workers: int
    # Lines to show above the picture, given where the app and the model layer listen.
    greeting: Callable[[Place, Place], str]
    # What to do with the app's URL once it is served; its result is the exit code, and the service
    # ends with it.  None: serve until a signal comes.
    errand: Callable[[str], Coroutine[None, None, int]] | None = None


@dataclass(frozen=True, slots=True)
class _Running:
    """A model layer that is being served."""

    models: LocalModels
    server: ModelServer
    serving: asyncio.Task[None]
    tally: Tally
    place: Place

    async def leave(self, stop: Stop, notice_s: float) -> None:
        """Say that no more requests should come, and serve those that do for `notice_s`."""
        self.models.service.leave()
        await _first(self.serving, asyncio.create_task(stop.wait_notice(notice_s)))

    async def drain(self, stop: Stop) -> None:
        """Stop serving in order, unless it has stopped by itself."""
        if not self.serving.done():
            await self.server.drain(stop)


async def run_models(
    chosen: Sequence[ModelSettings],
    settings: Settings,
    observers: Sequence[Observer],
    console: Console,
) -> None:
    """Serve `chosen` until a signal has come and the last request has ended.

    Raises: ConfigError.
    """
    stop = Stop()  # From now on a signal is heard, also by a container's first process.
    host = settings.host_of_models
    async with _served(chosen, settings, observers, (host, settings.doors_at(host))) as running:
        names = ", ".join(running.models.served)
        greeting = f"[bold]locktender[/] serves {names}, {running.place.told}{_PATH}"
        async with _shown(running, greeting, console):
            await _first(running.serving, asyncio.create_task(stop.wait_asked()))
            await running.leave(stop, settings.drain_notice_s)
            await running.drain(stop)
        await running.serving


async def run_app(
    plan: AppPlan,
    chosen: Sequence[ModelSettings],
    settings: Settings,
    observers: Sequence[Observer],
    console: Console,
) -> int:
    """Serve the app of `plan`, and `chosen` for it; return the exit code.

    Raises: ConfigError.
    """
    stop = Stop()  # as `run_models`
    with listen(settings.host, settings.port) as listener:
        place = place_of(listener)
        host = settings.host_below_app
        inner, key = _inner(settings.doors_at(host))
        async with _served(chosen, settings, observers, (host, inner)) as running:
            environment = {BASE_URL: running.place.url + _PATH, **key} if chosen else {}
            crew = _crew(plan, listener, environment, settings, running.place)
            working = asyncio.create_task(crew.run())
            errand = asyncio.create_task(
                plan.errand(place.url) if plan.errand else stop.wait_asked()
            )
            asked = asyncio.create_task(stop.wait_asked())
            async with _shown(running, plan.greeting(place, running.place), console):
                await _first(running.serving, working, errand, asked)
                await running.leave(stop, settings.drain_notice_s)
                await _dismiss(crew, stop)
                await running.drain(stop)
            for service in (working, running.serving):
                await service
    if plan.errand is None:
        return 0
    return (errand.result() or 0) if errand.done() else 1


def _crew(
    plan: AppPlan,
    listener: socket.socket,
    environment: Mapping[str, str],
    settings: Settings,
    models: Place,
) -> Crew:
    extensions = () if settings.extensions else (NO_EXTENSIONS,)
    return Crew(
        plan.target,
        listener,
        {
            **environment,
            DOORS: settings.doors.to_json(),
            ORDERS: Orders.of(settings).to_json(),
        },
        n_workers=plan.n_workers,
        drain_s=settings.drain_s,
        flags=(HEALTH + models.url, *extensions),
    )


@asynccontextmanager
async def _served(
    chosen: Sequence[ModelSettings],
    settings: Settings,
    observers: Sequence[Observer],
    place: tuple[str, Doors],
) -> AsyncIterator[_Running]:
    tally = Tally()
    observer = tell_all(tally, *observers)
    async with model_layer(chosen, settings, observer, cache=cache_root()) as models:
        # Without models there is nothing to find at the port that users know.
        host, doors = place
        listener = listen(host, settings.model_port if chosen else 0)
        server = ModelServer(models, observer, doors, drain_s=settings.drain_s)
        serving = asyncio.create_task(server.serve(listener))
        try:
            yield _Running(models, server, serving, tally, place_of(listener))
        finally:
            server.end()
            await asyncio.wait([serving])


def _inner(doors: Doors) -> tuple[Doors, Mapping[str, str]]:
    """Return the doors of the model layer below an app, and what its workers must know of them.

    The app's prefix is none of theirs.  Where the app has a key, the workers get another one, made
    up for this run: what a chain may send elsewhere by mistake opens nothing that is reached from
    outside.
    """
    doors = replace(doors, door=replace(doors.door, root_path=""))
    keys = doors.door.api_keys
    if not keys:
        return doors, {}
    own = secrets.token_urlsafe(32)
    return replace(doors, door=replace(doors.door, api_keys=(*keys, own))), {API_KEY: own}


@asynccontextmanager
async def _shown(running: _Running, greeting: str, console: Console) -> AsyncIterator[None]:
    showing = asyncio.create_task(show(running.models, running.tally, greeting, console))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.wait([showing])


async def _dismiss(crew: Crew, stop: Stop) -> None:
    """Have the workers finish what they have, unless a second signal says not to."""
    stopping = asyncio.create_task(crew.stop())
    hurried = asyncio.create_task(stop.wait_hurried())
    await _first(stopping, hurried)
    hurried.cancel()
    if not stopping.done():
        await crew.stop(hurry=True)
    await stopping


async def _first(*tasks: asyncio.Task[Any]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
