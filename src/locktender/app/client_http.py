"""Keep the asynchronous httpx clients of a `RemoteRunnable`: one for each event loop.

Connections belong to the loop that opened them: over one of a loop that has ended, the next request
would fail.  So each loop has a client of its own, made like the first, which is the one that users
see; it is closed when its loop ends, or when nobody holds the `RemoteRunnable` any more.  What is
sent is not decided here, but the key of a server and the way past a proxy.
"""

import asyncio
import contextlib
import os
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any

import httpx

from locktender.http.host import is_loopback

__all__ = ["LoopClients", "keyed", "past_proxies"]

_API_KEY = "LOCKTENDER_API_KEY"  # in the environment, as for `ChatLocktender`
_OWN_KEYS = ("Authorization", "X-API-Key")  # of a user who says himself what is sent

_OWN_WAYS = frozenset({"mounts", "proxies", "proxy"})  # `proxies` until httpx 0.28
_SETTINGS = ("auth", "cookies", "event_hooks", "headers", "params", "timeout")


def keyed(headers: Any, api_key: str | None, auth: Any) -> Any:
    """Return `headers` with the key of a server in them.

    It is `api_key`, or else the environment's, which gives way to whatever the user sends himself.
    """
    given = httpx.Headers(headers)
    if api_key is None:
        api_key = os.environ.get(_API_KEY)
        if auth is not None or any(name in given for name in _OWN_KEYS):
            return headers
    if not api_key:
        return headers
    given["Authorization"] = f"Bearer {api_key}"
    return given


def past_proxies(url: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return httpx's `settings` of a client for `url`, by which a loopback is reached directly.

    The environment's proxies are on other machines, where the loopback is another; a way that the
    user names himself is taken.
    """
    host = httpx.URL(url).host
    if not is_loopback(host) or not _OWN_WAYS.isdisjoint(settings):
        return dict(settings)
    pattern = f"all://[{host}]" if ":" in host else f"all://{host}"
    return {**settings, "mounts": {pattern: None}}


class LoopClients:
    """The clients that `make` made; `first` is there before any loop runs."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self.first = make()
        self._make = make
        self._unused = [self.first]
        self._made = weakref.WeakSet([self.first])
        self._kept: dict[
            asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, AsyncGenerator[None, None]]
        ] = {}

    async def find(self, shown: httpx.AsyncClient) -> httpx.AsyncClient:
        """Return the client for the running loop; `shown`, if a user has put it there."""
        if shown not in self._made:
            return shown
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return shown  # trio, which httpx knows as well
        kept = self._kept.get(loop)
        if kept is not None and not kept[0].is_closed:
            return kept[0]
        # Loops of other threads come and go meanwhile: what is done to a member is done at once.
        for ended in [other for other in list(self._kept) if other.is_closed()]:
            self._kept.pop(ended, None)
        client = self._next(shown)
        keeper = _keep(client)
        self._kept[loop] = client, keeper
        await anext(keeper)
        return client

    def close(self) -> None:
        """Close what no loop has used.  The others are closed by their loops, once let go."""
        for client in self._unused:
            _run_now(client.aclose())

    def _next(self, shown: httpx.AsyncClient) -> httpx.AsyncClient:
        with contextlib.suppress(IndexError):
            return self._unused.pop()
        client = self._make()
        self._made.add(client)
        for name in _SETTINGS:  # The user may have changed them since.
            setattr(client, name, getattr(shown, name))
        return client


async def _keep(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Close `client` when its loop ends, or when this generator is let go."""
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # The loop is closed already.
            await client.aclose()


def _run_now(closing: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing, inside a loop as well as outside of one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(closing)
        finally:
            loop.close()
        return
    with contextlib.suppress(StopIteration, RuntimeError), contextlib.closing(closing):
        closing.send(None)
