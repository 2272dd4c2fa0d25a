"""Send a chat completion to a model service and read its answer.

The client's side of ``/v1/chat/completions``: one call, one exchange over HTTP, in a task of its
own that holds whatever the call holds.  Cancelling that task closes the connection, which is how
the engine learns that nobody waits.  A stream's text is collected as it comes and given out in as
few pieces as its reader is slow; the first one never waits for a second.

The gate is the queue, and what it refuses is not sent again, unless `persistence` says so.  Above
it, `chat_model` turns pieces into LangChain's messages.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Any

import aiohttp
import orjson

from locktender.app.model_call import CHAT, MAX_TIMEOUT_S, Call
from locktender.app.persistence import persisted
from locktender.app.session import STREAM_TIMEOUT, Session, current_session
from locktender.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LocktenderError,
    NoReplicaReady,
    PeerError,
    UnknownModel,
)
from locktender.core.scope import OuterRequest
from locktender.wire.header import SHARE
from locktender.wire.openai_answer import (
    NO_SUCH_PATH,
    Answer,
    ChunkReader,
    parse_completion,
    parse_error,
    parse_tokens,
)

__all__ = ["cancelled_with", "complete", "stream", "tokenize"]

_log = logging.getLogger(__name__)

# The service ends a call at its deadline and says so; this is for one that has lost its way.
_GRACE_S = 5.0
_BARE_BYTES = 1 << 20


async def complete(call: Call) -> Answer:
    """Return the whole answer; cancelling it closes the connection."""
    exchange = asyncio.create_task(persisted(call, _read_whole))
    with cancelled_with(call.outer, exchange):
        return await exchange


async def stream(call: Call) -> AsyncGenerator[str | Answer, None]:
    """Give the answer's text as it comes, and then its end; closing it closes the connection."""
    inbox = _Inbox()
    exchange = asyncio.create_task(persisted(call, partial(_read_stream, inbox)))
    exchange.add_done_callback(inbox.close)
    with cancelled_with(call.outer, exchange):
        try:
            while isinstance(piece := await inbox.take(), str):
                yield piece
            yield piece
        finally:
            # Read to its last byte, the connection serves the next call; else it is closed.
            if not inbox.is_complete:
                exchange.cancel()


async def tokenize(call: Call) -> list[int]:
    """Return the tokens of a prompt or a chat; the call's path is that of `TOKENIZE`."""
    session = await current_session()
    exchange = asyncio.create_task(_read_tokens(call, session))
    with cancelled_with(call.outer, exchange):
        return await exchange


class _Inbox:
    """What has come of a stream and has not been taken.  It holds an answer at most."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._answer: Answer | None = None
        self._exchange: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has come."""
        return self._answer is not None

    def put(self, text: str) -> None:
        """Take the next text."""
        self._texts.append(text)
        self._news.set()

    def end(self, answer: Answer) -> None:
        """Take the end."""
        self._answer = answer
        self._news.set()

    def close(self, exchange: asyncio.Task[None]) -> None:
        """Note that nothing more comes; an error of the exchange is raised after the text."""
        self._exchange = exchange
        if not exchange.cancelled():
            exchange.exception()  # Seen: the reader may have left.
        self._news.set()

    async def take(self) -> str | Answer:
        """Wait until something has come and return all of it; the end has the text before it.

        Raises: what the exchange has failed with; CancelledError if it was cancelled.
        """
        await self._news.wait()
        self._news.clear()
        text = "".join(self._texts)
        self._texts.clear()
        if self._answer is not None:
            return replace(self._answer, text=text)
        if self._exchange is not None:
            self._news.set()  # An error does not overtake the text before it.
            if not text:
                self._exchange.result()
        return text


async def _read_whole(call: Call, session: Session) -> Answer:
    async with _answering(call, session, is_stream=False) as response:
        return parse_completion(await response.read())


async def _read_tokens(call: Call, session: Session) -> list[int]:
    async with _answering(call, session, is_stream=False) as response:
        return parse_tokens(await response.read())


async def _read_stream(inbox: _Inbox, call: Call, session: Session) -> None:
    reader = ChunkReader()
    async with _answering(call, session, is_stream=True) as response:
        async for piece in response.content.iter_any():
            text = reader.feed(piece)
            if text:
                inbox.put(text)
            if reader.error is not None:
                raise reader.error
            if reader.is_done and not inbox.is_complete:
                inbox.end(reader.end())
        if not inbox.is_complete:  # Some services leave out the mark of the end.
            inbox.end(reader.end())


@asynccontextmanager
async def _answering(
    call: Call, session: Session, *, is_stream: bool
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send `call`, and give the answer if it is a good one.

    Leaving the block before the answer has been read closes the connection.
    """
    limit_s = call.limit_s()
    try:
        async with (
            asyncio.timeout((MAX_TIMEOUT_S if limit_s is None else limit_s) + _GRACE_S),
            session.http.post(**_posted(call, session, limit_s, is_stream=is_stream)) as response,
        ):
            _note_share(call, session, response)
            if response.status != 200:  # noqa: PLR2004 - nothing else is an answer
                raise _refusal(call, response, await response.read())
            if call.outer is not None and call.path == CHAT:
                call.outer.entered.add(call.gate)
            yield response
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        # Not where it is looked for: the sentence may reach callers of the chain's route.
        _log.warning("no model service answers at %s", call.base_url)
        message = f"No model service answers; start it with `locktender model {call.model}`."
        raise NoReplicaReady(message) from error
    except aiohttp.ClientError as error:  # Before TimeoutError, which some of them are too.
        message = "The connection to the model service broke before the answer was complete."
        raise PeerError(message) from error
    except TimeoutError as error:
        message = f"The time limit of {limit_s:g} s passed while the model was called."
        raise DeadlineExceeded(message) from error


def _refusal(call: Call, response: aiohttp.ClientResponse, body: bytes) -> LocktenderError:
    """Return what the service has said; where the address looks wrong, that as well."""
    error = parse_error(response.status, body, response.headers.get("Retry-After"))
    is_elsewhere = response.status in NO_SUCH_PATH and not isinstance(error, UnknownModel)
    if not (is_elsewhere and call.lacks_version) or "/v1" in error.message:
        return error
    _log.warning("%s is not found; base_url %s does not end in /v1", call.url, call.base_url)
    return type(error)(f"{error.message} A `base_url` ends in `/v1`, and this one does not.")


def _note_share(call: Call, session: Session, response: aiohttp.ClientResponse) -> None:
    share = response.headers.get(SHARE, "")
    if share.isascii() and share.isdecimal() and int(share[:9]) > 0:
        session.shares[call.gate] = int(share[:9])


def _posted(
    call: Call, session: Session, limit_s: float | None, *, is_stream: bool
) -> dict[str, Any]:
    options = {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    try:
        body = orjson.dumps({"model": call.model, **call.body, **options})
    except orjson.JSONEncodeError as error:
        raise _not_written(call, error) from error
    posted: dict[str, Any] = {
        "url": call.url,
        # A long one bare would be copied to the socket in one go; aiohttp warns of that.
        "data": body if len(body) <= _BARE_BYTES else BytesIO(body),
        "headers": call.headers(limit_s, session.key),
    }
    if is_stream:
        posted["timeout"] = STREAM_TIMEOUT
    return posted


def _not_written(call: Call, error: orjson.JSONEncodeError) -> InvalidRequest:
    """Return the refusal of a body that is no JSON, by the name of the field that is none."""
    for name, value in call.body.items():
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as own:
            return InvalidRequest(f"`{name}` cannot be written as JSON: {own}.", name)
    return InvalidRequest(f"The request cannot be written as JSON: {error}.")


@contextmanager
def cancelled_with(outer: OuterRequest | None, task: asyncio.Task[Any] | None) -> Iterator[None]:
    """Cancel `task` when the caller of the outer request goes, in whatever thread that is.

    Only while the block lasts: what the task does afterwards is none of ours.
    """
    if outer is None or task is None:
        yield
        return
    loop = asyncio.get_running_loop()
    is_over = False

    def cancel() -> None:
        # Whoever set the token may have cancelled this very task as well; once is enough, and
        # twice would look like somebody else's cancellation.
        if not is_over and not task.cancelling():
            task.cancel()

    def tell() -> None:
        with suppress(RuntimeError):  # The loop is closed, and the task with it.
            loop.call_soon_threadsafe(cancel)

    forget = outer.cancel.on_set(tell)
    try:
        yield
    finally:
        is_over = True
        forget()
