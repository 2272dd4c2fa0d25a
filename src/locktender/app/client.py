"""Be a runnable that runs on a LangServe server: ours, or LangServe's own.

`RemoteRunnable` is what LangServe's users know under that name, with the same arguments, attributes
and results; docs/client.md says where it does better.  Here is the order of a stream; other calls
stand in `client_call`, what is sent in `client_body`, how streams are read in `client_stream`, what
is raised in `client_error`, what the caller's callbacks hear in `client_run`, and how connections
end in `client_http`.
Needs httpx and LangChain, and nothing of a server.
"""

import functools
import logging
import ssl
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing
from typing import Any, TypeVar

import httpx
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from locktender.app.client_body import FILTERS, InputSerializer
from locktender.app.client_call import abatch, ainvoke, batch, invoke
from locktender.app.client_codec import Codec, StreamKind
from locktender.app.client_extension import Agreement, PeerSerializer, check_carried
from locktender.app.client_http import LoopClients, keyed, past_proxies
from locktender.app.client_run import AsyncLocalRun, LocalRun, ServerRun
from locktender.app.client_stream import read_chunks, read_chunks_async
from locktender.app.serialization import Serializer

__all__ = ["RemoteRunnable", "ServerRun"]

_log = logging.getLogger(__name__)

_UNUSED = {"diff", "with_streamed_output_list"}  # of astream_log, and no arguments of a runnable

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")


class RemoteRunnable(Runnable[_Input, _Output]):
    """A runnable that is served at `url`; drop-in for LangServe's.

    `sync_client` and `async_client` may be replaced.  They are closed when nobody holds the
    runnable any more, and asynchronous connections at the end of their event loop at the latest.
    """

    def __init__(  # noqa: PLR0913 - LangServe's users pass each by its name
        self,
        url: str,
        *,
        timeout: float | None = None,  # seconds; None waits for ever
        auth: Any = None,
        headers: Any = None,
        cookies: Any = None,
        verify: ssl.SSLContext | str | bool = True,
        cert: Any = None,
        client_kwargs: Mapping[str, Any] | None = None,
        use_server_callback_events: bool = True,
        serializer: Serializer | None = None,
        on_server_run: Callable[[ServerRun], None] | None = None,
        extensions: bool = False,  # to send and get more than LangServe's wire carries
        api_key: str | None = None,  # the server's; None: LOCKTENDER_API_KEY, "" for none
    ) -> None:
        self.url = url if url.endswith("/") else url + "/"
        plain = serializer or InputSerializer()
        codec = functools.partial(
            Codec, on_server_run=on_server_run, use_callback_events=use_server_callback_events
        )
        self._agreement = Agreement(
            codec(plain), codec(PeerSerializer(plain)) if extensions else None
        )
        make = functools.partial(
            httpx.AsyncClient,
            base_url=url,
            timeout=timeout,
            auth=auth,
            headers=keyed(headers, api_key, auth),
            cookies=cookies,
            verify=verify,
            cert=cert,
            **past_proxies(url, client_kwargs or {}),
        )
        self.sync_client = httpx.Client(**make.keywords)
        self._loop_clients = LoopClients(make)
        self.async_client = self._loop_clients.first
        weakref.finalize(self, self.sync_client.close)
        # Not at the end of the process: its loops have ended, and each has closed its client.
        weakref.finalize(self, self._loop_clients.close).atexit = False

    def invoke(self, input: _Input, config: RunnableConfig | None = None, **kwargs: Any) -> _Output:  # noqa: A002 - LangChain's name
        """Run on the server.

        Raises: httpx.HTTPStatusError, which is an error of ours too where the server names one;
        PeerError, httpx's errors of a connection.
        """
        codec = self._agreement.find(self.sync_client)
        check_carried(kwargs, codec)
        call = functools.partial(invoke, codec, self.sync_client, kwargs)
        return self._call_with_config(call, input, config)

    async def ainvoke(
        self,
        input: _Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> _Output:
        """Do as `invoke`."""
        client = await self._client()
        codec = await self._agreement.find_async(client)
        check_carried(kwargs, codec)
        call = functools.partial(ainvoke, codec, client, kwargs)
        return await self._acall_with_config(call, input, config)

    def batch(
        self,
        inputs: list[_Input],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[_Output]:
        """Run all `inputs` by one request, which succeeds or fails as a whole."""
        codec = self._agreement.find(self.sync_client, is_needed=bool(inputs))
        check_carried(kwargs, codec)
        call = functools.partial(batch, codec, self.sync_client, kwargs)
        return self._batch_with_config(call, inputs, config, return_exceptions=return_exceptions)

    async def abatch(
        self,
        inputs: list[_Input],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[_Output]:
        """Do as `batch`."""
        client = await self._client()
        codec = await self._agreement.find_async(client, is_needed=bool(inputs))
        check_carried(kwargs, codec)
        call = functools.partial(abatch, codec, client, kwargs)
        return await self._abatch_with_config(
            call, inputs, config, return_exceptions=return_exceptions
        )

    def stream(
        self,
        input: _Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[_Output]:
        """Give the chunks as they come; to stop reading is to stop the run.

        Raises: as `invoke`.
        """
        codec = self._agreement.find(self.sync_client)
        self._agreement.check_streamed(kwargs, codec)
        kind, config = codec.chunks, ensure_config(config)
        with LocalRun(self, input, config, kind.total) as run:
            exchange = self.sync_client.stream(
                "POST",
                self.url + kind.endpoint,
                content=codec.write_one(input, config, kwargs),
                headers=codec.stream_headers,
            )
            reader = codec.reader(kind, run.manager)
            with closing(read_chunks(exchange, reader)) as chunks:
                for chunk in chunks:
                    run.keep(chunk)
                    yield chunk

    def astream(
        self,
        input: _Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[_Output]:
        """Do as `stream`."""
        return self._follow(lambda codec: codec.chunks, input, config, kwargs)

    def astream_log(
        self,
        input: Any,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Give the log of the server's run as `RunLogPatch`es.

        `include_names`, `exclude_tags` and so on choose of which runs it tells.  LangChain's `diff`
        and `with_streamed_output_list` change nothing, as at LangServe's.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in _UNUSED}
        filters = {"diff": True, **_taken(kwargs)}
        return self._follow(lambda codec: codec.patches, input, config, kwargs, filters)

    def astream_events(  # type: ignore[override]  # the server chooses, so no version is special
        self,
        input: Any,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        version: str | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Give the events of the server's run, in the version that its route is set to.

        `include_names`, `exclude_tags` and so on choose of which runs they tell.
        """
        if version is not None:
            _tell_of_version()
        return self._follow(lambda codec: codec.events, input, config, kwargs, _taken(kwargs))

    async def _follow(
        self,
        choose: Callable[[Codec], StreamKind],
        value: Any,
        config: RunnableConfig | None,
        kwargs: Mapping[str, Any],
        filters: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[Any, None]:
        client = await self._client()
        codec = await self._agreement.find_async(client)
        self._agreement.check_streamed(kwargs, codec)
        kind, config = choose(codec), ensure_config(config)
        async with await AsyncLocalRun.begun(self, value, config, kind.total) as run:
            body = codec.write_one(value, config, kwargs, filters)
            exchange = client.stream(
                "POST", self.url + kind.endpoint, content=body, headers=codec.stream_headers
            )
            reader = codec.reader(kind, run.manager)
            async with aclosing(read_chunks_async(exchange, reader)) as chunks:
                async for chunk in chunks:
                    run.keep(chunk)
                    yield chunk

    async def _client(self) -> httpx.AsyncClient:
        client = await self._loop_clients.find(self.async_client)
        if self.async_client.is_closed:
            self.async_client = client  # the last loop's ended with it
        return client


def _taken(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: kwargs.pop(name, None) for name in FILTERS}


@functools.cache
def _tell_of_version() -> None:
    _log.info("The version of events is the server's to choose; `version` is not sent.")
