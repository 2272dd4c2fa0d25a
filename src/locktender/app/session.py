"""Keep the connections of each event loop, and what is known there of the gates behind them.

Connections belong to the loop that opened them, and models are copied freely (`bind`,
`configurable_fields`, pickling), so that no model can own them: they hang on the loop and are
closed when it ends.  Beside them stand the key that calls are signed with, the share that each gate
has named, and the places of each outer request.  What is sent is `completion`'s.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TypeAlias
from weakref import WeakValueDictionary

import aiohttp

from locktender.app.places import Places
from locktender.app.shared_key import read_shared_key

__all__ = ["STREAM_TIMEOUT", "Gate", "Session", "current_session"]

Gate: TypeAlias = tuple[str, str]  # the address of a model service, and the model

_CONNECT_S = 10.0
# Of a stream.  A service of ours sends a comment every 5 s until the first token, and an engine
# that says nothing for 15 s is lost.  An answer that is not streamed is silent until it is there.
_SILENCE_S = 120.0
# Below the 5 s after which uvicorn closes an idle connection, which could be at the very moment
# when we send the next request over it.
_KEEP_ALIVE_S = 4.0
STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
_READ_BYTES = 1024 * 1024  # A stream's reader takes all that has come, so this is seldom reached.


class Session:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.http = aiohttp.ClientSession(
            # How many calls there are at once is for the gate to decide, and for `places`.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            read_bufsize=_READ_BYTES,
        )
        self.key = read_shared_key()
        self.shares: dict[Gate, int] = {}  # places of one outer request, as the gates have said
        self._places: WeakValueDictionary[tuple[str, Gate], Places] = WeakValueDictionary()

    def places(self, outer: str, gate: Gate, n_places: int) -> Places:
        """Return the places of an outer request at a gate, made for the first of its calls.

        There are `n_places`, or fewer where its share is smaller.
        """
        places = self._places.get((outer, gate))
        if places is None:
            places = self._places[outer, gate] = Places(n_places)
        places.limit(min(n_places, self.shares.get(gate, n_places)))
        return places


# Not by the model, as said above, and there is nobody else who outlives it on the same loop.
_sessions: dict[asyncio.AbstractEventLoop, tuple[Session, AsyncGenerator[Session, None]]] = {}


async def current_session() -> Session:
    """Return the session of the running loop, opened if there is none."""
    loop = asyncio.get_running_loop()
    if loop not in _sessions:
        for other in [other for other in list(_sessions) if other.is_closed()]:
            _sessions.pop(other, None)  # It ended without closing its generators.
        keeper = _kept(loop)
        _sessions[loop] = await anext(keeper), keeper
    return _sessions[loop][0]


async def _kept(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Session, None]:
    """Open a session and close it when the loop shuts its generators down, as its last act."""
    session = Session()
    try:
        yield session
    finally:
        _sessions.pop(loop, None)
        with contextlib.suppress(RuntimeError):  # The loop is closed already.
            await session.http.close()
