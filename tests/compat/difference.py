"""What is answered otherwise than by LangServe 0.3.3, on purpose: the only differences allowed.

Each has a row of the same name in docs/compatibility.md, with its reason.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from compat import (
    difference_callbacks,
    difference_graph,
    difference_routes,
    difference_shapes,
    difference_streams,
)
from compat.exchange import Answer, Sent

Predicate: TypeAlias = Callable[[Sent, Answer, Answer], bool]

_FAILED = b'{"detail":"Internal Server Error","message":"Internal Server Error"}'
_UNREADABLE = b'{"detail":["Invalid JSON body"]}'
_PROMPT_TAG = b',"type":"ChatPromptValueConcrete"}'
_LACKING = (b'"set"', b'"bytes"', b'"decimal"')
_CONFIGURABLE = re.compile(rb',?"configurable":{[^{}]*}')
_ROLES = ("human", "ai", "system")
_EXPONENT = re.compile(rb"e([+-])0(\d)")


def find(sent: Sent, theirs: Answer, ours: Answer) -> str | None:
    """Return the name of the listed difference that this is, if it is one."""
    return next((name for name, holds in DIFFERENCES.items() if holds(sent, theirs, ours)), None)


def _errors_are_json(_: Sent, theirs: Answer, ours: Answer) -> bool:
    return theirs.is_plain_500 and ours.status == 500 and ours.body == _FAILED


def _a_stream_ends_cleanly(_: Sent, theirs: Answer, ours: Answer) -> bool:
    same = (theirs.status, theirs.headers, theirs.body) == (ours.status, ours.headers, ours.body)
    return same and theirs.is_cut and not ours.is_cut and b"event: error" in ours.body


def _bad_batch_input_is_named(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    return (
        theirs.is_plain_500
        and ours.status == 422
        and "/batch" in sent.path
        and ours.body != _UNREADABLE
        and all(error["loc"][:1] == ["inputs"] for error in ours.json["detail"])
    )


def _unreadable_body_is_422(_: Sent, theirs: Answer, ours: Answer) -> bool:
    return theirs.is_plain_500 and ours.status == 422 and ours.body == _UNREADABLE


def _unquotable_input_is_422(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    return (
        theirs.is_plain_500
        and ours.status == 422
        and any(word in (sent.body or b"") for word in (b"NaN", b"Infinity", b"1e400", b"\\ud800"))
        and ours.body != _UNREADABLE
        and bool(ours.json["detail"][0]["url"])
    )


def _null_config_is_none(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    return theirs.is_plain_500 and ours.status == 200 and b'"config":null' in (sent.body or b"")


def _short_messages_are_read(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    has_short_form = any(map(_is_short, _lists(sent)))
    return theirs.status in {422, 500} and ours.status == 200 and has_short_form


def _no_message_is_422(_: Sent, theirs: Answer, ours: Answer) -> bool:
    if not (theirs.is_plain_500 and ours.status == 422 and ours.body != _UNREADABLE):
        return False
    message = "Input should be what the input schema of this runnable describes"
    return [error["msg"] for error in ours.json["detail"]] == [message]


def _outputs_are_whole(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if ours.status != 200 or theirs.status not in {200, 500} or "/stream" in sent.path:
        return False
    is_at = ("/out/", "/root_out", "/wrong_out", "/extra_out", "/sub_out", "/gen_none")
    if not sent.path.startswith(is_at):
        return False
    return theirs.is_plain_500 or len(ours.body) > len(theirs.body)


def _prompt_values_have_a_type(_: Sent, theirs: Answer, ours: Answer) -> bool:
    return _PROMPT_TAG in ours.body and ours.body.replace(_PROMPT_TAG, b"}") == theirs.body


def _exponents_are_short(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_shorter = _EXPONENT.sub(rb"e\1\2", theirs.body) == ours.body != theirs.body
    return is_shorter and "/stream" not in sent.path


def _a_modifier_has_its_way_in_batch(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_there = sent.path in {"/cfg_mod/batch", "/mod/batch"}
    return is_there and theirs.status == ours.status == 200


def _names_have_no_prefix(_: Sent, theirs: Answer, ours: Answer) -> bool:
    same_headers = dict(theirs.headers).keys() == dict(ours.headers).keys()
    is_alike = theirs.status == ours.status and same_headers
    return is_alike and re.sub(rb"\w+Configurable\b", b"Configurable", theirs.body) == ours.body


def _a_breaking_config_is_422(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if b"{broken" not in (sent.body or b"") or ours.status != 422:
        return False
    told = [{**each, "input": None} for each in ours.json["detail"]]
    if theirs.is_plain_500:
        return True
    return [{**each, "input": None} for each in theirs.json["detail"]] == told


def _what_json_lacks_is_written(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_named = any(kind in (sent.body or b"") for kind in _LACKING)
    is_asked = is_named or sent.path.startswith(("/mixed/", "/s/odd", "/v1/odd"))
    is_whole = ours.status == 200 and not ours.is_cut and b"event: error" not in ours.body
    return is_asked and is_whole and (theirs.is_plain_500 or theirs.is_cut)


def _undeclared_keys_pass(_: Sent, theirs: Answer, ours: Answer) -> bool:
    if not theirs.status == ours.status == 200:
        return False
    is_more = len(ours.body) > len(theirs.body) and b'"configurable"' in ours.body
    return is_more and _without_configurable(theirs) == _without_configurable(ours)


def _without_configurable(answer: Answer) -> bytes:
    return _CONFIGURABLE.sub(b"", answer.body)


DIFFERENCES: Mapping[str, Predicate] = {
    "errors are JSON": _errors_are_json,
    "undeclared keys of configurable pass": _undeclared_keys_pass,
    "a stream ends cleanly after its error": _a_stream_ends_cleanly,
    "a bad input of a batch is named": _bad_batch_input_is_named,
    "a body that is no text or too deep is 422": _unreadable_body_is_422,
    "an input that JSON cannot quote is 422": _unquotable_input_is_422,
    "a null config is no config": _null_config_is_none,
    "short forms of messages are read": _short_messages_are_read,
    "what is no message is 422": _no_message_is_422,
    "a config that breaks the runnable is 422": _a_breaking_config_is_422,
    "outputs are sent whole": _outputs_are_whole,
    "what JSON lacks is written": _what_json_lacks_is_written,
    "prompt values have a type": _prompt_values_have_a_type,
    "exponents have no leading zero": _exponents_are_short,
    "a modifier has its way in batch": _a_modifier_has_its_way_in_batch,
    "names in messages have no prefix": _names_have_no_prefix,
    **difference_streams.DIFFERENCES,
    **difference_routes.DIFFERENCES,
    **difference_callbacks.DIFFERENCES,
    **difference_graph.DIFFERENCES,
    **difference_shapes.DIFFERENCES,
}


def _lists(sent: Sent) -> list[Any]:
    body = json.loads(sent.body or b"{}")
    found: list[Any] = []
    waiting = [body.get("input"), *body.get("inputs", [])]
    while waiting:
        here = waiting.pop()
        found.append(here)
        waiting.extend(here if isinstance(here, list) else ())
        waiting.extend(here.values() if isinstance(here, dict) else ())
    return found


def _is_short(value: Any) -> bool:
    if isinstance(value, dict):
        return "role" in value
    return isinstance(value, list) and len(value) == 2 and value[0] in _ROLES
