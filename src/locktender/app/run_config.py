"""Build the config that a runnable runs with, from what the caller wishes and the route allows.

A caller's config is checked against the runnable's own config schema, cut down to the keys that the
route allows, changed by the route's modifier, and then given what no caller can change: the name
and id of the run, and the metadata that say how it came.  Nothing is run here.
"""

import inspect
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from locktender.wire.langserve import Unprocessable, error_details

__all__ = ["PerRequestConfigModifier", "RunConfigs"]

PerRequestConfigModifier: TypeAlias = Callable[
    [dict[str, Any], Request], Awaitable[dict[str, Any] | None] | dict[str, Any] | None
]

# The protocol's version, and not ours: whoever reads it asks what the wire is like.
_PROTOCOL_VERSION = "0.3.3"
_CONFIGURABLE_IS_DISALLOWED = (
    "The config field `configurable` has been disallowed by the server. This can be modified "
    "server side by adding `configurable` to the list of `config_keys` argument in `add_routes`"
)


class RunConfigs:
    """The configs of one route's runs."""

    def __init__(
        self,
        runnable: Runnable[Any, Any],
        run_name: str,
        config_keys: Sequence[str] = ("configurable",),
        modifier: PerRequestConfigModifier | None = None,
    ) -> None:
        self._runnable = runnable
        self._run_name = run_name
        self._config_keys = frozenset(config_keys)
        self._modifier = modifier

    @cached_property
    def schema(self) -> type[BaseModel]:
        """What a caller's config may hold.  Made once: that takes longer than most requests."""
        return self._runnable.config_schema(include=sorted(self._config_keys))

    async def one(self, request: Request, wish: Mapping[str, Any], endpoint: str) -> RunnableConfig:
        """Return the config of a single run.  Raises: Unprocessable, and what the modifier does."""
        return self._fixed(await self._allowed(request, wish), request, endpoint)

    async def many(
        self,
        request: Request,
        wish: Mapping[str, Any] | list[Mapping[str, Any]],
        n_inputs: int,
    ) -> list[RunnableConfig]:
        """Return the configs of a batch's runs, each with an id of its own.

        Raises: Unprocessable, and what the modifier does.
        """
        if not isinstance(wish, list):
            shared = await self._allowed(request, wish)
            others = {key: value for key, value in shared.items() if key != "run_id"}
            configs = [shared, *([others] * (n_inputs - 1))][:n_inputs]
        elif len(wish) != n_inputs:
            message = f"Number of configs ({len(wish)}) must match number of inputs ({n_inputs})"
            raise Unprocessable(message)
        else:
            configs = [await self._allowed(request, each) for each in wish]
        return [self._fixed(config, request, "batch") for config in configs]

    async def _allowed(self, request: Request, wish: Mapping[str, Any]) -> dict[str, Any]:
        config = self._checked(wish) if wish else {}
        if self._modifier is None:
            return config
        changed = self._modifier(config, request)
        if inspect.isawaitable(changed):
            changed = await changed
        return changed or {}

    def _checked(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        try:
            config = self.schema.model_validate(wish).model_dump()
        except ValidationError as error:
            raise Unprocessable(error_details(error)) from error
        if config.get("configurable") and "configurable" not in self._config_keys:
            raise Unprocessable(_CONFIGURABLE_IS_DISALLOWED)
        allowed = {
            key: value
            for key, value in config.items()
            if key in self._config_keys and value is not None
        }
        return dict(merge_configs(cast("RunnableConfig", allowed)))

    def _fixed(self, config: Mapping[str, Any], request: Request, endpoint: str) -> RunnableConfig:
        metadata = {
            **(config.get("metadata") or {}),
            "__useragent": request.headers.get("user-agent"),
            "__langserve_version": _PROTOCOL_VERSION,
            "__langserve_endpoint": endpoint,
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


def _uuid(value: object) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
