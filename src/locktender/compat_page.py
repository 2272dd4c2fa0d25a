"""Serve the playground's page to apps that call `langserve.playground.serve_playground` themselves.

LangServe's function takes the parts of a route in a fixed order; here they become an endpoint that
is never run and the page of it.  Apps of our own have `APIHandler.playground`.
"""

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import Runnable
from starlette.requests import Request
from starlette.responses import Response

from locktender.app.endpoint import Endpoint, EndpointSettings
from locktender.app.playground import Playground
from locktender.app.run_config import Asked

__all__ = ["serve_playground"]


async def serve_playground(  # noqa: PLR0913, PLR0917 - LangServe's users pass each, by position or name
    runnable: Runnable[Any, Any],
    input_schema: Any,
    output_schema: Any,
    config_keys: Sequence[str],
    base_url: str,
    file_path: str,
    feedback_enabled: bool,  # noqa: FBT001 - as above
    public_trace_link_enabled: bool,  # noqa: FBT001 - as above
    playground_type: str,
) -> Response:
    """Return the file of the page at `base_url` that `file_path` means; if empty, the page."""
    typed = runnable.with_types(input_type=input_schema, output_type=output_schema)
    endpoint = Endpoint(typed, "", EndpointSettings(config_keys))
    page = Playground(endpoint, playground_type)
    page.feedback_is_enabled = feedback_enabled
    page.public_trace_link_is_enabled = public_trace_link_enabled
    request = _request(f"/{base_url.strip('/')}/{file_path}")
    return await page.answer(Asked(request, "playground"), file_path)


def _request(path: str) -> Request:
    return Request({"type": "http", "method": "GET", "path": path, "headers": []})
