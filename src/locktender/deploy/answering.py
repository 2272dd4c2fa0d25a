"""The requests to one runnable, as methods that LangServe's users call by these names.

Each takes starlette's request and answers it.  What an answer is, is the app layer's to say; how a
runnable comes to be served is `api`'s.
"""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from locktender.app.endpoint import Endpoint
from locktender.app.playground import Playground
from locktender.app.run_config import Asked

__all__ = ["Answering"]


class Answering:
    """Answers to the requests that routes of one's own are given.

    `config_hash` is a config as share links carry it, `server_config` one of the server's, which
    goes before the caller's, whatever its keys.
    """

    def __init__(self, endpoint: Endpoint, page: Playground) -> None:
        self.endpoint = endpoint
        self.page = page

    async def invoke(
        self,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Run once and answer with the output."""
        return await self._answer("invoke", request, config_hash, server_config)

    async def batch(
        self,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Run once for each input and answer with all outputs."""
        return await self._answer("batch", request, config_hash, server_config)

    async def stream(
        self,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Run once and send the chunks."""
        return await self._answer("stream", request, config_hash, server_config)

    async def stream_log(
        self,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Run once and send patches of the run's log."""
        return await self._answer("stream_log", request, config_hash, server_config)

    async def astream_events(
        self,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Run once and send the run's events."""
        return await self._answer("stream_events", request, config_hash, server_config)

    async def input_schema(
        self,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Describe the input."""
        return await self._answer("input_schema", request, config_hash, server_config)

    async def output_schema(
        self,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Describe the output."""
        return await self._answer("output_schema", request, config_hash, server_config)

    async def config_schema(
        self,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Describe the config, as far as a caller may set it."""
        return await self._answer("config_schema", request, config_hash, server_config)

    async def playground(
        self,
        file_path: str,
        request: Request,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Return the page on which the runnable can be tried out, or a file of it."""
        asked = Asked(request, "playground", config_hash, server_config)
        return await self.page.answer(asked, file_path)

    async def _answer(
        self,
        name: str,
        request: Request,
        config_hash: str,
        server_config: Mapping[str, Any] | None,
    ) -> Response:
        return await self.endpoint.answer(Asked(request, name, config_hash, server_config))
