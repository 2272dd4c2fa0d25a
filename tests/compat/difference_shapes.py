"""What chains of each make answer otherwise than at LangServe, on purpose.

Whatever LangServe's server fails at, ours must give what the chain gives in process.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from compat.exchange import Answer, Sent
from compat.exchange_shapes import MESSAGE
from harness.shape import INPUTS, in_process
from locktender.app.serialization import WellKnownSerializer

# The key with which LangServe's schema has what takes anything, which no step of theirs reads.
_ROOT = "root"
_OF_MAPS = "RunnableParallel<"
_MAPS = ("/shape/map", "/shape/assign/", "/shape/parallel/", "/shape/each_map/")
_DATA = "event: data\r\ndata: "
_SESSION = ["configurable", "session_id"]


def _nobody_asks_for_root(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if sent.path.startswith(("/s/assign/", "/v1/assign/")):
        return _asks_for_root(theirs) and _has_run(ours)
    if not sent.path.startswith(_MAPS):
        return False
    if sent.path.endswith("/input_schema"):
        return bool(_without_root(theirs.json) == ours.json)
    if ours.status == 422:
        # What else is wrong is told in the same words; without `root` an `assign` asks for a dict.
        others = [each for each in theirs.json["detail"] if each["loc"] != [_ROOT]]
        is_same = [_told(each) for each in others] == [_told(each) for each in ours.json["detail"]]
        return _asks_for_root(theirs) and is_same
    is_failed_batch = theirs.is_plain_500 and sent.path.endswith("/batch")
    return (_asks_for_root(theirs) or is_failed_batch) and _is_as_in_process(sent, ours)


def _keys_without_a_schema_pass(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not sent.path.startswith(("/shape/branch_key/", "/shape/history_key/")):
        return False
    is_less = theirs.status == 200 and b'"more"' not in theirs.body.replace(b"'", b'"')
    return (is_less or _has_failed(theirs)) and _is_as_in_process(sent, ours)


def _an_optional_placeholder_stays_out(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_there = sent.path.startswith(("/shape/prompt/", "/shape/assign_prompt/"))
    left_out = isinstance(_value(sent), dict) and "past" not in _value(sent)
    return is_there and left_out and _has_failed(theirs) and _is_as_in_process(sent, ours)


def _another_part_may_take_it(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not sent.path.startswith(("/shape/fallbacks/", "/shape/history/", "/shape/prompt/")):
        return False
    is_refused = theirs.status == 422 or (theirs.is_plain_500 and sent.path.endswith("/batch"))
    return is_refused and _is_as_in_process(sent, ours)


def _plain_generators_run(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if sent.path.startswith("/odd/generator/stream"):
        return _has_failed(theirs) and _has_run(ours)
    is_there = sent.path.startswith("/shape/plain_generator/")
    return is_there and _has_failed(theirs) and _is_as_in_process(sent, ours)


def _items_of_a_list_are_what_they_are(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_there = sent.path.startswith("/shape/each/") and b"shown_input root=" in theirs.body
    return is_there and theirs.status == 200 and _is_as_in_process(sent, ours)


def _a_missing_session_is_422(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not sent.path.startswith("/shape/history/") or ours.status != 422:
        return False
    is_shared = theirs.status == 200 and b'"configurable": {}' in (sent.body or b"")
    is_named = [each["loc"] for each in ours.json["detail"]] == [_SESSION]
    return is_named and (is_shared or _has_failed(theirs))


def _messages_of_a_history_have_their_class(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not sent.path.startswith("/shape/history/") or not isinstance(_value(sent), list):
        return False
    is_bare = theirs.status == 200 and b"[BaseMessage(" in theirs.body
    is_ours = _has_run(ours) and _output(sent, ours) == f"list {[INPUTS['message']]}"
    return (is_bare or _has_failed(theirs)) and is_ours


def _what_cannot_be_described_is_served(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    # LangServe's `add_routes` raises an error, so that nothing is there.
    return sent.path.startswith("/odd/") and theirs.status == 404 and _has_run(ours)


DIFFERENCES: Mapping[str, Callable[[Sent, Answer, Answer], bool]] = {
    "nobody asks for a root": _nobody_asks_for_root,
    "keys that no schema names pass": _keys_without_a_schema_pass,
    "an optional placeholder that is left out stays out": _an_optional_placeholder_stays_out,
    "what another part takes passes": _another_part_may_take_it,
    "plain generators run": _plain_generators_run,
    "items of a list are what they are": _items_of_a_list_are_what_they_are,
    "a history without its session is 422": _a_missing_session_is_422,
    "messages of a history have their class": _messages_of_a_history_have_their_class,
    "what cannot be described is served": _what_cannot_be_described_is_served,
}


def _asks_for_root(theirs: Answer) -> bool:
    """Whether LangServe refuses for want of a `root`, or of a dict that could have one."""
    if theirs.status != 422:
        return False
    return all(
        (each["type"], each["loc"][-1:]) in (("missing", [_ROOT]), ("missing", ["q"]))
        or (each["type"] == "model_type" and each["ctx"]["class_name"].startswith(_OF_MAPS))
        for each in theirs.json["detail"]
    )


def _without_root(schema: dict[str, Any]) -> dict[str, Any]:
    if "$defs" in schema:
        return {
            **schema,
            "$defs": {key: _without_root(each) for key, each in schema["$defs"].items()},
        }
    fields = {name: each for name, each in schema["properties"].items() if name != _ROOT}
    if fields:
        required = [name for name in schema["required"] if name != _ROOT]
        return {**schema, "properties": fields, "required": required}
    named = {"title": schema["title"]}
    # An `assign` adds to a dict, whatever is in it.
    any_dict = {**named, "type": "object", "additionalProperties": True}
    return any_dict if schema["title"] == f"{_OF_MAPS}n>Input" else named


def _told(error: Mapping[str, Any]) -> Any:
    is_any_dict = error["type"] == "dict_type"
    kind = "model_type" if is_any_dict else error["type"]
    return kind, error["loc"], error["input"]


def _has_failed(theirs: Answer) -> bool:
    return theirs.is_plain_500 or (theirs.is_cut and b"event: error" in theirs.body)


def _has_run(ours: Answer) -> bool:
    return ours.status == 200 and not ours.is_cut and b"event: error" not in ours.body


def _is_as_in_process(sent: Sent, ours: Answer) -> bool:
    return _has_run(ours) and _output(sent, ours) in list(_in_process(sent))


def _in_process(sent: Sent) -> Iterator[Any]:
    """Yield what the chain gives, for a message as JSON has it and for the message itself."""
    head, value = sent.path.split("/")[2], _value(sent)
    for each in (value, INPUTS["message"]) if value == MESSAGE else (value,):
        try:
            yield WellKnownSerializer().dumpd(asyncio.run(in_process(head, each)))
        except Exception:  # noqa: BLE001, S112 - chains raise what they like
            continue


def _value(sent: Sent) -> Any:
    body = json.loads(sent.body or b"{}")
    return body["inputs"][0] if "inputs" in body else body.get("input")


def _output(sent: Sent, ours: Answer) -> Any:
    if sent.path.endswith("/batch"):
        return ours.json["output"][0]
    if not sent.path.endswith("/stream"):
        return ours.json["output"]
    frames = ours.body.decode().split("\r\n\r\n")
    chunks = [json.loads(each.removeprefix(_DATA)) for each in frames if each.startswith(_DATA)]
    # Of a dict each chunk has some keys; whatever else comes here comes as one.
    is_in_parts = len(chunks) > 1 and all(isinstance(chunk, dict) for chunk in chunks)
    return (
        {key: each for chunk in chunks for key, each in chunk.items()} if is_in_parts else chunks[0]
    )
