"""The pydantic models that describe a route's bodies, and what they are called.

A model of a body has the route's path in its name, as in LangServe.  The models of inputs and
outputs keep the names that their runnables give them, unless another model of that name, with
another schema, was described by the same app before: then the path goes in front.  What is named
before is the caller's to say, so that nothing here depends on what else was ever imported.
Nothing is validated by these models: `description` shows them, and apps may use them.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from itertools import count
from typing import Any, Literal, cast
from uuid import UUID

from pydantic import BaseModel, Field, RootModel, TypeAdapter, create_model
from pydantic.fields import FieldInfo

__all__ = ["Models", "Names", "namespace_of"]

_CONFIGS = "What the route lets a caller set of a run's config, for all inputs or for each."
_KWARGS = "Ignored."
_FILTERS = {
    "include_names": "Only of runs with one of these names.",
    "include_types": "Only of runs of one of these types.",
    "include_tags": "Only of runs with one of these tags.",
    "exclude_names": "Not of runs with one of these names.",
    "exclude_types": "Not of runs of one of these types.",
    "exclude_tags": "Not of runs with one of these tags.",
}


class FeedbackToken(BaseModel):
    """Leave to give feedback on one run."""

    key: str
    token_url: str
    expires_at: datetime


class InvokeResponseMetadata(BaseModel):
    """What is told of one run."""

    run_id: UUID
    feedback_tokens: list[FeedbackToken] = Field(description="One for each key of feedback.")


class BatchResponseMetadata(BaseModel):
    """What is told of each run of a batch."""

    responses: list[InvokeResponseMetadata]
    run_ids: list[UUID]


_COMMON = (FeedbackToken, InvokeResponseMetadata, BatchResponseMetadata)


class Names:
    """Which model has which name under one app."""

    def __init__(self, taken: Mapping[str, type[BaseModel]] | None = None) -> None:
        self._models = {model.__name__: model for model in _COMMON} | dict(taken or {})

    @property
    def taken(self) -> Mapping[str, type[BaseModel]]:
        """The models that have been named."""
        return self._models

    def shared(self, model: type[BaseModel], namespace: str) -> type[BaseModel]:
        """Return `model`, one that is like it, or `model` under a name that is free."""
        for name in _candidates(model.__name__, namespace):
            there = self._models.get(name)
            if there is None:
                kept = model if name == model.__name__ else create_model(name, __base__=model)
                self._models[name] = kept
                return kept
            if there is model or _schemas(there) == _schemas(model):
                return there
        raise AssertionError("There is always another name.")

    def made(self, name: str, **parts: Any) -> type[BaseModel]:
        """Return a new model that is nobody else's."""
        free = next(each for each in _candidates(name) if each not in self._models)
        model: type[BaseModel] = create_model(free, **parts)
        self._models[free] = model
        return model


class Models:
    """The models of one route; each is made when it is first asked for.

    A field whose type is a model of the user's has no description: pydantic would write it into
    that model's own schema, which the route shows elsewhere.
    """

    def __init__(
        self,
        schema: Callable[[str], type[BaseModel]],  # by the name of a run's part
        namespace: str,
        names: Names | None = None,
        *,
        has_callback_events: bool = False,
    ) -> None:
        self._schema = schema
        self._namespace = namespace
        self.names = names or Names()
        self._has_callback_events = has_callback_events

    @cached_property
    def invoke_request(self) -> type[BaseModel]:
        """The body of an invoke."""
        return self._request("InvokeRequest")

    @cached_property
    def stream_request(self) -> type[BaseModel]:
        """The body of a stream."""
        return self._request("StreamRequest")

    @cached_property
    def stream_log_request(self) -> type[BaseModel]:
        """The body of a stream of a run's log."""
        return self._request("StreamLogRequest", **_filters())

    @cached_property
    def stream_events_request(self) -> type[BaseModel]:
        """The body of a stream of a run's events."""
        return self._request("StreamEventsRequest", **_filters())

    @cached_property
    def batch_request(self) -> type[BaseModel]:
        """The body of a batch."""
        config = self._config
        return self._made(
            "BatchRequest",
            inputs=(list[self._input], ...),  # type: ignore[name-defined]  # a type, as it runs
            config=(config | list[config], Field(default_factory=config, description=_CONFIGS)),  # type: ignore[valid-type]  # so too
            kwargs=(dict[str, Any], Field(default_factory=dict, description=_KWARGS)),
        )

    @cached_property
    def invoke_response(self) -> type[BaseModel]:
        """The answer to an invoke."""
        return self._made(
            "InvokeResponse",
            output=(self._output, ...),
            metadata=(InvokeResponseMetadata, ...),
            **self._events(list[dict[str, Any]]),
        )

    @cached_property
    def batch_response(self) -> type[BaseModel]:
        """The answer to a batch."""
        output = list[self._output]  # type: ignore[name-defined]  # a type, as it runs
        return self._made(
            "BatchResponse",
            output=(output, Field(description="One for each input, in their order.")),
            metadata=(BatchResponseMetadata, ...),
            **self._events(list[list[dict[str, Any]]]),
        )

    def _request(self, kind: str, **more: Any) -> type[BaseModel]:
        return self._made(
            kind,
            input=(self._input, ...),
            config=(self._config, Field(default_factory=self._config)),
            **more,
            kwargs=(dict[str, Any], Field(default_factory=dict, description=_KWARGS)),
        )

    def _events(self, kind: Any) -> dict[str, Any]:
        described = Field(description="What the run's callbacks were told.")
        return {"callback_events": (kind, described)} if self._has_callback_events else {}

    def _made(self, kind: str, **fields: Any) -> type[BaseModel]:
        return self.names.made(f"{self._namespace}{kind}", **fields)

    @cached_property
    def _input(self) -> type[BaseModel]:
        return self.names.shared(self._describable("input"), self._namespace)

    @cached_property
    def _output(self) -> type[BaseModel]:
        return self.names.shared(self._describable("output"), self._namespace)

    @cached_property
    def _config(self) -> type[BaseModel]:
        config = self._describable("config")
        fields: dict[str, Any] = {}
        configurable = config.model_fields.get("configurable")
        if configurable is not None:  # of which every config has its own, always of one name
            fields["configurable"] = (self._renamed(configurable), configurable)
        name = f"{self._namespace}{config.__name__}"
        return self.names.made(name, __base__=config, **fields)

    def _renamed(self, field: FieldInfo) -> Any:
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return kind
        return self.names.made(f"{self._namespace}{kind.__name__}", __base__=kind)

    def _describable(self, part: str) -> type[BaseModel]:
        try:
            return _describable(self._schema(part))
        except Exception:  # noqa: BLE001 - runnables of users make their schemas as they like
            return _wordless(f"{self._namespace}_{part}")


def namespace_of(path: str) -> str:
    """Return what the names of a path's models begin with."""
    return re.sub(r"[^0-9a-zA-Z]", "_", path.strip("/"))


def _candidates(name: str, namespace: str = "") -> Iterator[str]:
    yield name
    if namespace:
        yield f"{namespace}{name}"
    yield from (f"{namespace}{name}_{n}" for n in count(2))


def _field(description: str) -> Any:
    return Field(None, description=description)


def _filters() -> dict[str, Any]:
    return {name: (list[str] | None, _field(text)) for name, text in _FILTERS.items()}


def _describable(model: type[BaseModel]) -> type[BaseModel]:
    """Return `model`, or one that says nothing, when JSON Schema has no words for it."""
    try:
        _schemas(model)
    except Exception:  # noqa: BLE001 - types of users raise what they like
        return _wordless(model.__name__)
    return model


def _wordless(name: str) -> type[BaseModel]:
    return cast("type[BaseModel]", create_model(name, __base__=RootModel[Any]))


def _schemas(model: type[BaseModel]) -> list[bytes]:
    modes: tuple[Literal["validation", "serialization"], ...] = ("validation", "serialization")
    adapter = TypeAdapter(model)
    shown = [adapter.json_schema(mode=mode) for mode in modes]
    for each in shown:
        each.pop("title", None)  # which is the name
    # What cannot be sent cannot be shown either: NaN as a default, half of a surrogate pair.
    return [json.dumps(each, ensure_ascii=False, allow_nan=False).encode() for each in shown]
