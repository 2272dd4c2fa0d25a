"""The public `APIHandler`: one runnable as a set of request handlers, for routes of one's own.

Decides what the parameters mean that it shares with `add_routes`, which puts such a set on an app,
and refuses what cannot work before anything is served.  What a handler does is the app layer's.
"""

import os
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.runnables import Runnable
from pydantic import BaseModel

from locktender.adopt.choice import GuardChoice
from locktender.adopt.guard import guard_all
from locktender.app.dialect import Rights
from locktender.app.endpoint import Endpoint, EndpointSettings
from locktender.app.feedback import FeedbackDesk, TokenFeedbackConfig
from locktender.app.feedback_body import (
    Feedback,
    FeedbackCreateRequest,
    FeedbackCreateRequestTokenBased,
    PublicTraceLink,
    PublicTraceLinkCreateRequest,
)
from locktender.app.feedback_token import TokenSource
from locktender.app.openapi import Models, namespace_of
from locktender.app.playground import PLAYGROUND_TITLES, Playground
from locktender.app.run_config import PerRequestConfigModifier
from locktender.app.run_note import NoteSettings
from locktender.app.serialization import Serializer, WellKnownSerializer
from locktender.deploy.answering import Answering

__all__ = ["APIHandler", "checked_path"]


class APIHandler(Answering):
    """Serve a runnable from routes of your own."""

    def __init__(  # noqa: PLR0913 - each is a parameter that LangServe's users pass by this name
        self,
        runnable: Runnable[Any, Any],
        *,
        path: str,
        prefix: str = "",
        input_type: type | Literal["auto"] | Any = "auto",
        output_type: type | Literal["auto"] | Any = "auto",
        config_keys: Sequence[str] = ("configurable",),
        include_callback_events: bool = False,
        per_req_config_modifier: PerRequestConfigModifier | None = None,
        enable_feedback_endpoint: bool | None = None,
        token_feedback_config: TokenFeedbackConfig | None = None,
        enable_public_trace_link_endpoint: bool = False,
        stream_log_name_allow_list: Sequence[str] | None = None,
        playground_type: Literal["default", "chat"] = "default",
        astream_events_version: Literal["v1", "v2"] = "v2",
        serializer: Serializer | None = None,
        ping_s: float = 15.0,
        max_body_bytes: int = 32_000_000,
        max_body_values: int = 100_000,
        max_inputs: int = 1000,
        guard: GuardChoice = "auto",
        rights: Rights | None = None,
        extensions: bool = True,
    ) -> None:
        """Take the parameters of `add_routes`; `prefix` is that of the router.

        Raises: as `add_routes`.
        """
        typed = _typed(runnable, input_type, output_type)
        path = checked_path(path)
        if "run_name" in config_keys:
            raise ValueError("`run_name` cannot be among the `config_keys`: the path names it.")
        _check_choice("playground_type", playground_type, tuple(PLAYGROUND_TITLES))
        _check_choice("astream_events_version", astream_events_version, ("v1", "v2"))
        self.desk = FeedbackDesk(
            takes_feedback=_is_hosted()
            if enable_feedback_endpoint is None
            else enable_feedback_endpoint,
            gives_links=enable_public_trace_link_endpoint,
            takes_tokens=bool(token_feedback_config),
        )
        watch = guard_all(runnable, guard)
        notes = _notes(
            self.desk, token_feedback_config, has_callback_events=include_callback_events
        )
        settings = EndpointSettings(
            config_keys,
            per_req_config_modifier,
            serializer or WellKnownSerializer(),
            ping_s,
            max_body_bytes=max_body_bytes,
            max_body_values=max_body_values,
            max_inputs=max_inputs,
            rights=rights or Rights(),
            has_extensions=extensions,
            stream_log_names=stream_log_name_allow_list,
            astream_events_version=astream_events_version,
            notes=notes,
            before_run=watch.before_run if watch else None,
        )
        self.playground_type = playground_type
        endpoint = Endpoint(typed, prefix + path, settings)
        super().__init__(endpoint, Playground(endpoint, playground_type, prefix + path))
        self.page.feedback_is_enabled = self.desk.takes_feedback
        self.page.public_trace_link_is_enabled = self.desk.gives_links
        self._models = Models(
            endpoint.schema, namespace_of(path), has_callback_events=include_callback_events
        )

    async def create_feedback(self, given: object) -> Feedback:
        """Send feedback on a run to LangSmith; `given` is the body, read.

        Raises: as `app.feedback.FeedbackDesk.create`, and ValueError for what is no such body.
        """
        return await self.desk.create(FeedbackCreateRequest.model_validate(given))

    async def create_feedback_from_token(self, given: object) -> None:
        """Send feedback to LangSmith, on the run of a token.  Raises: as `create_feedback`."""
        read = FeedbackCreateRequestTokenBased.model_validate(given)
        await self.desk.create_from_token(read)

    async def create_public_trace_link(self, given: object) -> PublicTraceLink:
        """Make the trace of a run public.  Raises: as `create_feedback`."""
        return await self.desk.share(PublicTraceLinkCreateRequest.model_validate(given))

    async def check_feedback_enabled(self) -> bool:
        """Return True if feedback can be sent.  Raises: starlette's HTTPException if not."""
        self.desk.check_feedback()
        return True

    async def check_public_trace_link_enabled(self) -> bool:
        """Return True if traces can be made public.  Raises: starlette's HTTPException if not."""
        self.desk.check_links()
        return True

    @property
    def InvokeRequest(self) -> type[BaseModel]:  # noqa: N802 - LangServe's name
        """The model of the body of `invoke`."""
        return self._models.invoke_request

    @property
    def BatchRequest(self) -> type[BaseModel]:  # noqa: N802 - LangServe's name
        """The model of the body of `batch`."""
        return self._models.batch_request

    @property
    def StreamRequest(self) -> type[BaseModel]:  # noqa: N802 - LangServe's name
        """The model of the body of `stream`."""
        return self._models.stream_request

    @property
    def StreamLogRequest(self) -> type[BaseModel]:  # noqa: N802 - LangServe's name
        """The model of the body of `stream_log`."""
        return self._models.stream_log_request

    @property
    def StreamEventsRequest(self) -> type[BaseModel]:  # noqa: N802 - LangServe's name
        """The model of the body of `astream_events`."""
        return self._models.stream_events_request

    @property
    def InvokeResponse(self) -> type[BaseModel]:  # noqa: N802 - LangServe's name
        """The model of the answer to `invoke`."""
        return self._models.invoke_response

    @property
    def BatchResponse(self) -> type[BaseModel]:  # noqa: N802 - LangServe's name
        """The model of the answer to `batch`."""
        return self._models.batch_response


def checked_path(path: str) -> str:
    """Return `path` as routes are made of it.  Raises: ValueError."""
    if path and not path.startswith("/"):
        raise ValueError(f"Got an invalid path: {path}. It must be empty or start with `/`.")
    return path.rstrip("/")  # "/foo/" would give "/foo//invoke"


def _check_choice(name: str, given: str, choices: Sequence[str]) -> None:
    if given not in choices:
        raise ValueError(f"`{name}` is {' or '.join(map(repr, choices))}, not {given!r}.")


def _notes(
    desk: FeedbackDesk, tokens: TokenFeedbackConfig | None, *, has_callback_events: bool
) -> NoteSettings | None:
    if not tokens and not has_callback_events:
        return None
    return NoteSettings(TokenSource(desk, tokens) if tokens else None, has_callback_events)


def _is_hosted() -> bool:
    # Read here and not in `config`: apps that never see our settings are hosted too.
    return os.environ.get("HOSTED_LANGSERVE_ENABLED") == "true"


def _typed(runnable: object, input_type: Any, output_type: Any) -> Runnable[Any, Any]:
    if not isinstance(runnable, Runnable):
        raise TypeError(f"Expected a Runnable, got {type(runnable)}")
    types = {
        name: given
        for name, given in (("input_type", input_type), ("output_type", output_type))
        if not isinstance(given, str) or given != "auto"
    }
    return runnable.with_types(**types) if types else runnable
