"""Write and read what a run's callbacks were told, as it stands in an answer.

Holds the shape of an event: which kinds there are, what each carries, and in which order it is
written.  What a run was given and what it gave are JSON here; which objects that stands for is
`app.callback_replay`'s business.  A service's events are not trusted: one of another shape is no
event, and is left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson

__all__ = ["PAYLOADS", "CallbackEvent", "event_json", "parse_events"]

_STEPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "chain": {"start": ("serialized", "inputs"), "end": ("outputs",), "error": ("error",)},
    "chat_model": {"start": ("serialized", "messages")},  # which ends as an `llm`
    "llm": {"start": ("serialized", "prompts"), "end": ("response",), "error": ("error",)},
    "tool": {"start": ("serialized", "input_str"), "end": ("output",), "error": ("error",)},
    "retriever": {"start": ("serialized", "query"), "end": ("documents",), "error": ("error",)},
    "agent": {"action": ("action",), "finish": ("finish",)},
}
_KINDS: Mapping[str, tuple[str, str]] = {
    f"on_{family}_{step}": (family, step) for family, steps in _STEPS.items() for step in steps
}
# What each kind of event carries, in the order in which a callback takes it.
PAYLOADS: Mapping[str, tuple[str, ...]] = {
    kind: _STEPS[family][step] for kind, (family, step) in _KINDS.items()
}
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_EVENTS = 10_000  # of one run; whoever sends more wants something else than to be traced


@dataclass(frozen=True, slots=True)
class CallbackEvent:
    """One call of a callback; `payload` and `kwargs` are parsed JSON."""

    kind: str  # the callback's name
    family: str  # of what a run is of: chain, chat_model, llm, tool, retriever, agent
    step: str  # start, end, error; an agent's are within its run: action, finish
    run_id: str  # an id in its usual form
    parent_run_id: str | None
    tags: list[str] | None
    metadata: dict[str, Any] | None
    payload: Mapping[str, Any]
    kwargs: Mapping[str, Any]


def event_json(
    kind: str, payload: Mapping[str, bytes], told: Mapping[str, Any], kwargs: bytes
) -> bytes:
    """Return an event as LangServe writes it; `payload` and `kwargs` are JSON already.

    `told` has `run_id`, `parent_run_id`, `tags` and `metadata`, each as JSON or missing.
    """
    fields = {
        name: told.get(name, b"null") for name in ("run_id", "parent_run_id", "tags", "metadata")
    }
    fields |= payload
    fields |= {"kwargs": kwargs, "type": orjson.dumps(kind)}
    return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in fields.items())


def parse_events(told: object) -> list[CallbackEvent]:
    """Return the events of one run, without what is none and what is beyond all measure."""
    if not isinstance(told, list):
        return []
    return [event for event in map(_parsed, told[:_MAX_EVENTS]) if event is not None]


def _parsed(told: object) -> CallbackEvent | None:
    if not isinstance(told, dict):
        return None
    kind, tags, metadata = told.get("type"), told.get("tags"), told.get("metadata")
    kwargs = told.get("kwargs") or {}
    if not isinstance(kind, str) or kind not in PAYLOADS or not isinstance(kwargs, dict):
        return None
    if not isinstance(metadata, dict | None) or not (tags is None or _is_list_of_text(tags)):
        return None
    names = PAYLOADS[kind]
    payload = {name: told.get(name) for name in names}
    if any(name not in told for name in names if name != "serialized"):
        return None  # what many runnables do not have
    run_id, parent_run_id = told.get("run_id"), told.get("parent_run_id")
    if not _is_id(run_id) or not (parent_run_id is None or _is_id(parent_run_id)):
        return None
    return CallbackEvent(
        kind, *_KINDS[kind], run_id, parent_run_id, tags, metadata, payload, kwargs
    )


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
