"""A service that several tests ask, one after the other.

Each has a client of its own and sees of the log only what it has caused; and none begins before all
that the one before has asked for has ended.  What a test ends, or breaks, it starts itself.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from harness.service import Service, Starter

__all__ = ["Shared", "sharing", "sharing_app"]

START_S = 100.0  # of a real model on a busy machine


@dataclass(frozen=True, slots=True)
class Shared:
    """Gives the service to one test at a time."""

    of_client: Callable[[aiohttp.ClientSession], Service]
    app_url: str = ""  # of the app over it, if there is one

    async def lend(self, client: aiohttp.ClientSession) -> Service:
        """Return the service once it is ready and quiet."""
        service = self.of_client(client)
        await service.until(lambda status: status["ready"], START_S)
        await service.turn_page()
        return service


@contextmanager
def sharing(folder: Path, table: Mapping[str, Any], model: str = "echo") -> Iterator[Shared]:
    """Start a service of one model, and end it."""
    starter = Starter(folder, None)
    try:
        yield Shared(starter.start(table, model))
    finally:
        starter.end_all()


@contextmanager
def sharing_app(folder: Path, target: str, table: Mapping[str, Any]) -> Iterator[Shared]:
    """Start an app over a service of one model, and end both."""
    starter = Starter(folder, None)
    try:
        url, of_client = starter.start_app(target, table)
        yield Shared(of_client, url)
    finally:
        starter.end_all()
