"""The public `add_routes`: serve a runnable from a FastAPI app.

Decides what its parameters mean, and refuses what cannot work before anything is served; the routes
themselves are the app layer's.  A parameter of LangServe's that is not yet obeyed is an error when
it is set, because a server that ignores it would do something else than it was told.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from langchain_core.runnables import Runnable

from locktender.adopt.choice import GuardChoice
from locktender.adopt.guard import guard_all
from locktender.app.endpoint import Endpoint, EndpointSettings
from locktender.app.routes import ENDPOINT_NAMES, add_endpoint, is_taken
from locktender.app.run_config import PerRequestConfigModifier
from locktender.app.serialization import Serializer, WellKnownSerializer
from locktender.core.errors import ConfigError

__all__ = ["add_routes"]

_LATER_NAMES = frozenset(
    {
        "config_hashes",
        "feedback",
        "playground",
        "public_trace_link",
        "stream_events",
        "stream_log",
        "token_feedback",
    }
)


def add_routes(  # noqa: PLR0913 - each is a parameter that LangServe's users pass by this name
    app: FastAPI | APIRouter,
    runnable: Runnable[Any, Any],
    *,
    path: str = "",
    input_type: type | Literal["auto"] | Any = "auto",
    output_type: type | Literal["auto"] | Any = "auto",
    config_keys: Sequence[str] = ("configurable",),
    include_callback_events: bool = False,
    per_req_config_modifier: PerRequestConfigModifier | None = None,
    enable_feedback_endpoint: bool = False,
    token_feedback_config: Any = None,
    enable_public_trace_link_endpoint: bool = False,
    enabled_endpoints: Sequence[str] | None = None,
    disabled_endpoints: Sequence[str] | None = None,
    stream_log_name_allow_list: Sequence[str] | None = None,
    dependencies: Sequence[Depends] | None = None,
    playground_type: Literal["default", "chat"] = "default",
    astream_events_version: Literal["v1", "v2"] = "v2",
    serializer: Serializer | None = None,
    ping_s: float = 15.0,
    max_body_bytes: int = 32_000_000,
    max_inputs: int = 1000,
    guard: GuardChoice = "auto",
) -> None:
    """Serve `runnable` below `path`: invoke, batch, stream, and the three schemas.

    The parameters are LangServe's, and mean the same, but for the last four, which are ours:
    `ping_s`, the seconds of silence after which a stream sends a comment; `max_body_bytes`, beyond
    which a body is refused (413); `max_inputs`, beyond which a batch is (422); `guard`: models in
    the runnable that cannot serve several callers at once get an owner and a gate each ("auto"),
    or not ("off"), or as a mapping says of the name of their class ("auto", "off", or
    `GuardSettings`).  See `guard` for a model that is to have bounds of its own.

    Raises: TypeError for what is no runnable; ValueError for a path, a key or an endpoint that
    cannot be; ConfigError for a parameter that is not supported yet.
    """
    _refuse_unsupported(
        include_callback_events=include_callback_events,
        enable_feedback_endpoint=enable_feedback_endpoint,
        token_feedback_config=token_feedback_config,
        enable_public_trace_link_endpoint=enable_public_trace_link_endpoint,
        stream_log_name_allow_list=stream_log_name_allow_list,
        playground_type=playground_type != "default",
        astream_events_version=astream_events_version != "v2",
    )
    names = _names(enabled_endpoints, disabled_endpoints)
    path = _checked_path(app, path)
    if "run_name" in config_keys:
        raise ValueError("`run_name` cannot be among the `config_keys`: the path names the run.")
    settings = EndpointSettings(
        config_keys,
        per_req_config_modifier,
        serializer or WellKnownSerializer(),
        ping_s,
        max_body_bytes=max_body_bytes,
        max_inputs=max_inputs,
    )
    prefix = app.prefix if isinstance(app, APIRouter) else ""
    typed = _typed(runnable, input_type, output_type)
    guard_all(runnable, guard)
    endpoint = Endpoint(typed, prefix + path, settings)
    add_endpoint(app, endpoint, path=path, names=names, dependencies=dependencies or ())


def _refuse_unsupported(**parameters: object) -> None:
    for name, value in parameters.items():
        if value:
            message = f"`add_routes` does not support this value of `{name}` yet: leave it out."
            raise ConfigError(message)


def _checked_path(app: FastAPI | APIRouter, path: str) -> str:
    if path and not path.startswith("/"):
        raise ValueError(f"Got an invalid path: {path}. It must be empty or start with `/`.")
    # "/foo/" would give "/foo//invoke".
    path = path.rstrip("/")
    if is_taken(app, path):
        raise ValueError(f"A runnable already exists at path: {path or '/'}. Choose another one.")
    return path


def _typed(runnable: object, input_type: Any, output_type: Any) -> Runnable[Any, Any]:
    if not isinstance(runnable, Runnable):
        raise TypeError(f"Expected a Runnable, got {type(runnable)}")
    types = {
        name: given
        for name, given in (("input_type", input_type), ("output_type", output_type))
        if not isinstance(given, str) or given != "auto"
    }
    return runnable.with_types(**types) if types else runnable


def _names(enabled: Sequence[str] | None, disabled: Sequence[str] | None) -> Collection[str]:
    if enabled is not None and disabled is not None:
        raise ValueError("Give `enabled_endpoints` or `disabled_endpoints`, not both.")
    if disabled is not None:
        return ENDPOINT_NAMES - _known("disabled_endpoints", disabled)
    if enabled is None:
        return ENDPOINT_NAMES
    wanted = _known("enabled_endpoints", enabled)
    # Those that have a switch of their own are named here without effect, as in LangServe.
    missing = sorted(wanted & _LATER_NAMES - {"feedback", "public_trace_link"})
    if missing:
        message = f"`add_routes` does not have these endpoints yet: {', '.join(missing)}."
        raise ConfigError(message)
    return wanted & ENDPOINT_NAMES


def _known(parameter: str, names: Sequence[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise ValueError(f"`{parameter}` must be a list of names, not one string.")  # noqa: TRY004 - LangServe's type
    lowered = frozenset(name.lower() for name in names)
    unknown = sorted(lowered - ENDPOINT_NAMES - _LATER_NAMES)
    if unknown:
        raise ValueError(f"`{parameter}` names what is no endpoint: {', '.join(unknown)}.")
    return lowered
