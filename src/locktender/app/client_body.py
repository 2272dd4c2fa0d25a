"""Write what a `RemoteRunnable` sends: a body's bytes, and the headers of a stream.

A config crosses the wire as JSON: callbacks stay here, and of `configurable` goes what JSON knows,
because programs keep their own objects there.  Everything else is sent, and the server picks what
its route allows.  How an input is written is the serializer's business; `InputSerializer` is what
a client has when its user gives none.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from langchain_core.runnables import RunnableConfig

from locktender.app.extension import ExtensionSerializer
from locktender.app.serialization import Serializer, WellKnownSerializer

__all__ = [
    "FILTERS",
    "JSON_HEADERS",
    "STREAM_HEADERS",
    "InputSerializer",
    "batch_body",
    "invoke_body",
]

JSON_HEADERS = {"Content-Type": "application/json"}
STREAM_HEADERS = {
    **JSON_HEADERS,
    "Accept": "text/event-stream",
    "Cache-Control": "no-store",
}
# Of stream_log and stream_events: which of the server's runs are told of.
FILTERS = (
    *("include_names", "include_types", "include_tags"),
    *("exclude_names", "exclude_types", "exclude_tags"),
)
_CARRIED = (set, frozenset, bytes, bytearray, memoryview, Decimal, timedelta)
_SCALARS = (str, int, float, bool, type(None))


class InputSerializer(WellKnownSerializer):
    """Writes as a server does, but for what the runnable would get as something else.

    Extensions carry it as what it is, so that nobody needs to guess.
    """

    @staticmethod
    def stand_in(value: object) -> object:
        if isinstance(value, _CARRIED):
            raise TypeError(f"A {type(value).__name__} is sent only with `extensions=True`.")
        return WellKnownSerializer.stand_in(value)


def invoke_body(
    serializer: Serializer,
    value: Any,
    config: RunnableConfig,
    kwargs: Mapping[str, Any],
    filters: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the body of an invoke or a stream.

    Raises: what the serializer does for an input that it cannot write; TypeError or ValueError for
    a config, or keyword arguments, that are no JSON.
    """
    body = b'{"input":%b,"config":%b,"kwargs":%b' % (
        serializer.dumps(value),
        _json(_sent(config)),
        _arguments(serializer, kwargs),
    )
    return body + (b"," + _json(filters)[1:] if filters else b"}")


def batch_body(
    serializer: Serializer,
    inputs: Sequence[Any],
    configs: Sequence[RunnableConfig],
    kwargs: Mapping[str, Any],
) -> bytes:
    """Return the body of a batch.  Raises: as `invoke_body`."""
    return b'{"inputs":%b,"config":%b,"kwargs":%b}' % (
        serializer.dumps(inputs),
        _json([_sent(config) for config in configs]),
        _arguments(serializer, kwargs),
    )


def _arguments(serializer: Serializer, kwargs: Mapping[str, Any]) -> bytes:
    # Without our extensions nobody reads them, and they are what LangServe's client sends.
    is_extended = isinstance(serializer, ExtensionSerializer)
    return serializer.dumps(dict(kwargs)) if is_extended else _json(dict(kwargs))


def _sent(config: RunnableConfig) -> dict[str, Any]:
    fields: dict[str, Any] = {key: value for key, value in config.items() if key != "callbacks"}
    if "configurable" in fields:
        fields["configurable"] = _known_to_json(fields["configurable"])
    if isinstance(fields.get("run_id"), uuid.UUID):
        fields["run_id"] = str(fields["run_id"])
    return fields


def _known_to_json(value: Any) -> Any:
    """Return `value` without the members, at any depth, that JSON does not know."""
    if isinstance(value, Mapping):
        return {
            key: _known_to_json(member)
            for key, member in value.items()
            if isinstance(key, str) and _is_known(member)
        }
    if isinstance(value, list | tuple):
        return [_known_to_json(member) for member in value if _is_known(member)]
    return value


def _is_known(value: object) -> bool:
    return isinstance(value, (*_SCALARS, dict, list, tuple))


def _json(value: Any) -> bytes:
    # Python's own: a config may hold whole numbers that orjson refuses, and LangServe takes them.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()
