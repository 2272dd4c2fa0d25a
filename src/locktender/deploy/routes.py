"""The public `add_routes`: serve a runnable from a FastAPI app.

Decides which endpoints there are and where; what the other parameters mean is `api`'s to say, and
the routes themselves are the app layer's.
"""

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from langchain_core.runnables import Runnable

from locktender.adopt.choice import GuardChoice
from locktender.app.description import path_parameters
from locktender.app.dialect import Rights
from locktender.app.feedback import TokenFeedbackConfig
from locktender.app.feedback_route import add_feedback
from locktender.app.routes import ENDPOINT_NAMES, add_endpoint, is_taken, keep_ids_apart
from locktender.app.run_config import PerRequestConfigModifier
from locktender.app.serialization import Serializer
from locktender.deploy.api import APIHandler, checked_path

__all__ = ["add_routes"]

# Feedback and public links to traces have switches of their own, and are named in lists of
# endpoints without effect, as in LangServe.
_ALL_NAMES = ENDPOINT_NAMES | {"feedback", "public_trace_link", "token_feedback"}


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
    enable_feedback_endpoint: bool | None = None,
    token_feedback_config: TokenFeedbackConfig | None = None,
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
    max_body_values: int = 100_000,
    max_inputs: int = 1000,
    guard: GuardChoice = "auto",
    kwarg_keys: Sequence[str] | None = None,
    command_keys: Sequence[str] = ("resume",),
    extensions: bool = True,
) -> None:
    """Serve `runnable` below `path`, with every endpoint that LangServe has.

    The parameters are LangServe's, and mean the same, but for the last eight, which are ours:
    `ping_s`, the seconds of silence after which a stream sends a comment; `max_body_bytes` and
    `max_body_values` (JSON's), beyond which a body is refused (413); `max_inputs`, beyond which a
    batch is (422); `guard`: models in
    the runnable that cannot serve several callers at once get an owner and a gate each ("auto"),
    or not ("off"), or as a mapping says of the name of their class ("auto", "off", or
    `GuardSettings`), see `guard` for a model that is to have bounds of its own; `kwarg_keys`, the
    keyword arguments that a client with extensions may give, when it is not those of
    docs/langgraph.md; `command_keys`, the fields that it may set in a graph's `Command`;
    `extensions`: False to speak LangServe's wire only, whatever a client asks for.

    Raises: TypeError for what is no runnable; ValueError for a path, a key, an endpoint or a kind
    of playground that cannot be; ConfigError for a bound that cannot; NotImplementedError for
    feedback tokens of other than one key.
    """
    names = _names(enabled_endpoints, disabled_endpoints)
    if not extensions:
        names -= {"extensions"}
    path = checked_path(path)
    if is_taken(app, path):
        raise ValueError(f"A runnable already exists at path: {path or '/'}. Choose another one.")
    served = APIHandler(
        runnable,
        path=path,
        prefix=app.prefix if isinstance(app, APIRouter) else "",
        input_type=input_type,
        output_type=output_type,
        config_keys=config_keys,
        include_callback_events=include_callback_events,
        per_req_config_modifier=per_req_config_modifier,
        enable_feedback_endpoint=enable_feedback_endpoint,
        token_feedback_config=token_feedback_config,
        enable_public_trace_link_endpoint=enable_public_trace_link_endpoint,
        stream_log_name_allow_list=stream_log_name_allow_list,
        playground_type=playground_type,
        astream_events_version=astream_events_version,
        serializer=serializer,
        ping_s=ping_s,
        max_body_bytes=max_body_bytes,
        max_body_values=max_body_values,
        max_inputs=max_inputs,
        guard=guard,
        rights=Rights(kwarg_keys, "stream" in names, command_keys),
        extensions=extensions,
    )
    guards, n_before = dependencies or (), len(app.routes)
    add_endpoint(app, served.endpoint, served.page, path=path, names=names, dependencies=guards)
    guards = (*guards, *path_parameters(app, path))
    add_feedback(app, served.desk, path=path, names=names, dependencies=guards)
    keep_ids_apart(app, n_before)


def _names(enabled: Sequence[str] | None, disabled: Sequence[str] | None) -> frozenset[str]:
    if enabled is not None and disabled is not None:
        raise ValueError("Give `enabled_endpoints` or `disabled_endpoints`, not both.")
    if disabled is not None:
        return _ALL_NAMES - _known("disabled_endpoints", disabled)
    return _ALL_NAMES if enabled is None else _known("enabled_endpoints", enabled)


def _known(parameter: str, names: Sequence[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise ValueError(f"`{parameter}` must be a list of names, not one string.")  # noqa: TRY004 - LangServe's type
    lowered = frozenset(name.lower() for name in names)
    unknown = sorted(lowered - _ALL_NAMES)
    if unknown:
        raise ValueError(f"`{parameter}` names what is no endpoint: {', '.join(unknown)}.")
    return lowered
