"""Build the config that a runnable runs with, from what the caller wishes and the route allows.

A caller's config is checked against the runnable's own config schema, cut down to the keys that the
route allows, changed by the route's modifier, and then given what no caller can change: the name
and id of the run, and the metadata that say how it came.  Nothing is run here.
"""

import asyncio
import inspect
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from locktender.app.config_hash import parse_config_hash
from locktender.app.graph import config_schema_of, needs_thread
from locktender.app.session_key import bound_keys, required_session_keys, session_keys
from locktender.wire.json_tree import has_more_values
from locktender.wire.langserve import Unprocessable, error_details

__all__ = ["Asked", "PerRequestConfigModifier", "RunConfigs"]

PerRequestConfigModifier: TypeAlias = Callable[
    [dict[str, Any], Request], Awaitable[dict[str, Any] | None] | dict[str, Any] | None
]

_log = logging.getLogger(__name__)

# The protocol's version, and not ours: whoever reads it asks what the wire is like.
_PROTOCOL_VERSION = "0.3.3"
_MAX_VALUES = 2_000  # of one config, which is copied for each run of a batch and each of its steps
_MAX_BATCH_VALUES = 100_000  # of all configs of a batch, one that is shared counted for each input
# LangGraph's own, and whom its platform has signed in: for no caller to say.
_RESERVED = ("__", "checkpoint_map", "langgraph_auth")
_MAX_TAGS = 100  # LangChain takes the square of their number in time, at each step of a run
_CONFIGURABLE_IS_DISALLOWED = (
    "The config field `configurable` has been disallowed by the server. This can be modified "
    "server side by adding `configurable` to the list of `config_keys` argument in `add_routes`"
)
_NOBODY_NAMES = (
    "%s needs %s in `configurable`, which no caller may set, since `config_keys` has no "
    "`configurable`: set it in `per_req_config_modifier`, or its runs fail"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to one endpoint of a route, and the configs that do not stand in its body."""

    request: Request
    endpoint: str
    config_hash: str = ""
    server_config: Mapping[str, Any] | None = None  # before the caller's, whatever its keys


class RunConfigs:
    """The configs of one route's runs."""

    def __init__(
        self,
        runnable: Runnable[Any, Any],
        run_name: str,
        config_keys: Sequence[str] = ("configurable",),
        modifier: PerRequestConfigModifier | None = None,
        before_run: Callable[[], None] | None = None,
    ) -> None:
        self._runnable = runnable
        self._run_name = run_name
        self._config_keys = frozenset(config_keys)
        self._modifier = modifier
        self._before_run = before_run or _nothing
        takes_any = "configurable" in config_keys
        keys, keeps_threads = sorted(required_session_keys(runnable)), needs_thread(runnable)
        if (keys or keeps_threads) and not takes_any and modifier is None:
            named = ", ".join([*keys, "thread_id"] if keeps_threads else keys)
            _log.warning(_NOBODY_NAMES, runnable.get_name(), named)
        self._needs_thread = takes_any and keeps_threads
        self._bound = bound_keys(runnable)
        self._sessions = session_keys(runnable)
        self._required = keys if takes_any else []

    @cached_property
    def schema(self) -> type[BaseModel]:
        """What a caller's config may hold.  Made once: that takes longer than most requests."""
        return config_schema_of(self._runnable, self._config_keys)

    def schema_for(self, _config: RunnableConfig) -> type[BaseModel]:
        """Return what a caller's config may hold, which no config changes."""
        return self.schema

    def described(self, asked: Asked) -> RunnableConfig:
        """Return the config under which a route is described: nothing runs, nothing is modified.

        Raises: Unprocessable, starlette's HTTPException for a bad hash.
        """
        return cast("RunnableConfig", self._merged(asked, self._hashed(asked), {}))

    async def one(self, asked: Asked, wish: Mapping[str, Any]) -> RunnableConfig:
        """Return the config of a single run.

        Raises: Unprocessable, starlette's HTTPException for a bad hash, and what the modifier does.
        """
        config = self._fixed(await self._allowed(asked, self._hashed(asked), wish), asked)
        self._before_run()
        return config

    async def many(
        self,
        asked: Asked,
        wish: Mapping[str, Any] | list[Mapping[str, Any]],
        n_inputs: int,
    ) -> list[RunnableConfig]:
        """Return the configs of a batch's runs, each with an id of its own.

        Raises: as `one`.
        """
        if isinstance(wish, list) and len(wish) != n_inputs:
            message = f"Number of configs ({len(wish)}) must match number of inputs ({n_inputs})"
            raise Unprocessable(message)
        hashed = self._hashed(asked)
        _check_batch(hashed, wish, n_inputs)
        if not isinstance(wish, list):
            shared = await self._allowed(asked, hashed, wish)
            others = {key: value for key, value in shared.items() if key != "run_id"}
            configs = [shared, *([others] * (n_inputs - 1))][:n_inputs]
        else:
            configs = []
            for each in wish:
                configs.append(await self._allowed(asked, hashed, each))
                await asyncio.sleep(0)  # there may be a thousand
        fixed = [self._fixed(config, asked) for config in configs]
        self._before_run()
        return fixed

    async def _allowed(
        self, asked: Asked, hashed: Mapping[str, Any], wish: Mapping[str, Any]
    ) -> dict[str, Any]:
        config = self._merged(asked, hashed, wish)
        if self._modifier is None:
            return config
        changed = self._modifier(config, asked.request)
        if inspect.isawaitable(changed):
            changed = await changed
        return changed or {}

    def _hashed(self, asked: Asked) -> Mapping[str, Any]:
        """Return the config that the path carries, checked.  Takes some 15 ms if it is long."""
        hashed = parse_config_hash(asked.config_hash) if asked.config_hash else {}
        return self._checked(hashed) if hashed else {}

    def _merged(
        self, asked: Asked, hashed: Mapping[str, Any], wish: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the caller's configs, of the path and of the body, and the author's over them."""
        configs = [dict(hashed)] if hashed else []
        if wish:
            configs.append(self._checked(wish))
        if asked.server_config:
            configs.append(dict(asked.server_config))
        if not configs:
            return {}
        return dict(merge_configs(*cast("list[RunnableConfig]", configs)))

    def _checked(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        if has_more_values(wish, _MAX_VALUES):
            raise Unprocessable(f"A config may have {_MAX_VALUES:,} values, and this has more.")
        try:
            checked = self.schema.model_validate(wish)
        except ValidationError as error:
            raise Unprocessable(error_details(error)) from error
        config = checked.model_dump()
        if isinstance(wish.get("configurable"), dict) and "configurable" in self._config_keys:
            config["configurable"] = self._configurable(config, wish["configurable"])
        if config.get("configurable") and "configurable" not in self._config_keys:
            raise Unprocessable(_CONFIGURABLE_IS_DISALLOWED)
        n_tags = len(config.get("tags") or ())
        if n_tags > _MAX_TAGS:
            raise Unprocessable(f"A config may have {_MAX_TAGS} tags, not {n_tags}.")
        allowed = {
            key: value
            for key, value in config.items()
            if key in self._config_keys and value is not None
        }
        for name in ("max_concurrency", "recursion_limit"):
            _check_positive(name, allowed.get(name, 1))
        return allowed

    def _configurable(self, checked: Mapping[str, Any], wish: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the schema says of `wish`, and what it says nothing of.

        What the author has bound stays, and no session gets the empty name for want of another:
        of neither counts what the schema has for a key that is left out.
        """
        declared = checked.get("configurable") or {}
        more = {
            key: value
            for key, value in wish.items()
            if not (key in declared or key in self._bound or key.startswith(_RESERVED))
        }
        named = {
            key: value
            for key, value in declared.items()
            if key in wish or not (key in self._bound or (key in self._sessions and not value))
        }
        return {**named, **more}

    def _fixed(self, config: Mapping[str, Any], asked: Asked) -> RunnableConfig:
        configurable = config.get("configurable") or {}
        if self._needs_thread and configurable.get("thread_id") is None:
            raise _missing("thread_id", "the state is kept by thread", configurable)
        for key in self._required:
            if key not in configurable:
                raise _missing(key, "the history of messages is found by it", configurable)
        metadata = {
            **(config.get("metadata") or {}),
            "__useragent": asked.request.headers.get("user-agent"),
            "__langserve_version": _PROTOCOL_VERSION,
            "__langserve_endpoint": asked.endpoint,
        }
        run_id = config.get("run_id")
        fixed = {
            **config,
            "metadata": metadata,
            "run_id": _uuid(run_id) if run_id else uuid.uuid4(),
        }
        if self._run_name:
            fixed["run_name"] = self._run_name
        return cast("RunnableConfig", fixed)


def _nothing() -> None: ...


def _missing(key: str, why: str, configurable: Mapping[str, Any]) -> Unprocessable:
    at, message = ["configurable", key], f"Field required: {why}"
    return Unprocessable([{"type": "missing", "loc": at, "msg": message, "input": configurable}])


def _check_batch(hashed: Mapping[str, Any], wish: object, n_inputs: int) -> None:
    shared = hashed if isinstance(wish, list) else [hashed, wish]
    most_shared = _MAX_BATCH_VALUES // max(1, n_inputs)
    if has_more_values(shared, most_shared) or has_more_values(wish, _MAX_BATCH_VALUES):
        raise Unprocessable(
            f"The configs of a batch may have {_MAX_BATCH_VALUES:,} values, one that is shared "
            "counted for each input, and these have more."
        )


def _check_positive(name: str, number: int) -> None:
    """Refuse a batch that would fail, or wait for ever."""
    if number < 1:
        message = "Input should be greater than or equal to 1"
        raise Unprocessable([{"type": "greater_than_equal", "loc": [name], "msg": message}])


def _uuid(value: object) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
