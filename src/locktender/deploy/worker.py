"""Serve the user's app in a process of its own, on a listener that it shares with its fellows.

Started by `crew` as ``python -m locktender.deploy.worker FD TARGET DRAIN_S [FLAG]...``.  It knows
the model layer by its URL and key only (``LOCKTENDER_BASE_URL``, ``LOCKTENDER_API_KEY``), as any
client.  Who may come in, and how it is to work, stands in its environment, where other users do not
see it, until it has been read.  When `parent` says so it drains: its listener stays open, and new
requests are answered 503, until those inside have ended or DRAIN_S have passed; what is left then
ends with an error that says so, where its answer can.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import replace

import uvicorn
import uvloop

from locktender.core.errors import ConfigError
from locktender.deploy.crew import API_KEY, CONFIG_EXIT, DOORS, HEALTH, NO_EXTENSIONS
from locktender.deploy.logs import log_of_worker, take_rest
from locktender.deploy.orders import ORDERS, Orders
from locktender.deploy.parent import Parent
from locktender.deploy.probe import ModelHealth, Probes
from locktender.deploy.target import Target, load_target
from locktender.deploy.threads import give_threads
from locktender.http.door import Wire
from locktender.http.drain import Drain
from locktender.http.settings import Doors
from locktender.http.stack import SignalFreeServer, server_config
from locktender.wire.problem import langserve_problem

__all__ = ["main"]

_log = logging.getLogger("locktender.worker")  # this module's own name may be `__main__`

# A pause for garbage holds every stream's tokens.  Requests make thousands of objects a second,
# nearly all of which go without the collector; with Python's own thresholds it took a third of
# the time, in pauses of up to 0.35 s with 256 streams.  With these it looks through 40,000 objects
# at most while requests run, some 0.03 s; and through all of them when nothing runs, or else
# after every two million that are new.
_COLLECT_AFTER = (20_000, 1, 50)
_IDLE_CHECK_S = 5.0
_LAST_WORDS_S = 1.0  # for those whose requests took longer than the drain to be told so
_LAST_BYTES_S = 2  # for the last answers to reach their callers


def main(arguments: list[str]) -> int:
    """Serve ``arguments[1]`` on file descriptor ``arguments[0]`` until told to stop."""
    parent = Parent()
    descriptor, target, drain_s, *flags = arguments
    doors, orders = _told()
    gc.set_threshold(*_COLLECT_AFTER)  # before the app is loaded, which may know better
    with log_of_worker(orders) as log:
        try:
            found = load_target(target, extensions=NO_EXTENSIONS not in flags)
        except ConfigError as error:
            sys.stderr.write(f"locktender: {error.message}\n")
            return CONFIG_EXIT
        except Exception:  # noqa: BLE001 - the user's module, at whatever it does when it is imported
            _log.exception("%s cannot be loaded", target)
            return 1
        take_rest(log)
        gc.collect()
        gc.freeze()  # What was loaded stays: it need not be looked through again and again.
        drain = Drain(found.app, langserve_problem)
        app = Probes(drain, found.routes, _health(flags), langserve_problem)
        server = SignalFreeServer(_config(app, found, doors))
        listener = socket.socket(fileno=int(descriptor))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            serving = _serve(server, listener, orders.threads)
            draining = _drain_when_told(server, drain, parent, float(drain_s))
            runner.run(_beside(serving, draining, _collect_when_idle(server)))
    return 0


def _told() -> tuple[Doors, Orders]:
    doors, orders = os.environ.pop(DOORS, None), os.environ.pop(ORDERS, None)
    return (
        Doors() if doors is None else Doors.from_json(doors),
        Orders() if orders is None else Orders.from_json(orders),
    )


def _health(flags: Sequence[str]) -> ModelHealth | None:
    urls = [flag.removeprefix(HEALTH) for flag in flags if flag.startswith(HEALTH)]
    return ModelHealth(urls[0], os.environ.get(API_KEY)) if urls else None


def _config(app: Probes, target: Target, doors: Doors) -> uvicorn.Config:
    if not target.is_made:  # Which hosts and pages his app answers to is its author's to say.
        doors = replace(doors, door=replace(doors.door, hosts=None))
    wire = Wire(langserve_problem, takes_x_api_key=True, is_free=target.shows_page)
    return server_config(
        app,
        doors,
        wire,
        timeout_graceful_shutdown=_LAST_BYTES_S,
        ws="none" if target.is_made else "auto",
    )


async def _serve(server: uvicorn.Server, listener: socket.socket, n_threads: int) -> None:
    give_threads(n_threads)
    await server.serve(sockets=[listener])


async def _beside(serving: Awaitable[None], *others: Coroutine[None, None, None]) -> None:
    """Have `others` run until `serving` has ended."""
    tasks = [asyncio.create_task(other) for other in others]
    try:
        await serving
    finally:
        for task in tasks:
            task.cancel()


async def _drain_when_told(
    server: uvicorn.Server, drain: Drain, parent: Parent, drain_s: float
) -> None:
    await parent.wait_told()
    drain.begin()
    try:
        async with asyncio.timeout(drain_s):
            await drain.wait_idle()
    except TimeoutError:  # They have had their time.
        await drain.end(_LAST_WORDS_S)
        server.config.timeout_graceful_shutdown = 0
    server.should_exit = True


async def _collect_when_idle(server: uvicorn.Server) -> None:
    while True:
        await asyncio.sleep(_IDLE_CHECK_S)
        if server.server_state.tasks:
            continue
        is_thawed = not gc.get_freeze_count()  # by a heavy body (`http.offload`)
        # Since the last full collection there were so many of the middle one.
        if is_thawed or gc.get_count()[2]:
            gc.collect()
        if is_thawed:
            gc.freeze()  # The next thaw gives back what becomes garbage of it.


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
