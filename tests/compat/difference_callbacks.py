"""What is answered otherwise than by LangServe of callbacks and feedback, on purpose.

`DIFFERENCES` are seen where LangSmith is off, `WITH_LANGSMITH` where it is on.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from compat.exchange import Answer, Sent

Predicate: TypeAlias = Callable[[Sent, Answer, Answer], bool]

_THEIR_ERROR = b'"error":{"status_code":500,"message":"Internal Server Error","type":"error"}'
_OUR_ERROR = b'"error":{"status":500,"message":"Internal Server Error"}'
_TOOL_ERROR = re.compile(
    rb'"run_id":"[^"]+","parent_run_id":(?:null|"[^"]+"),"tags":\[[^\]]*\],"metadata":null,'
    rb'("error":\{[^}]+\},"kwargs":\{[^}]*\},"type":"on_tool_error")'
)
_END = b"event: end\r\n\r\n"
_WITHOUT_TOKENS = b'"feedback_tokens":[]'


def _events_are_whole(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not (theirs.is_plain_500 and ours.status == 200):
        return False
    return sent.path.startswith(("/cb/", "/chat_cb", "/tool_cb")) and "callback_events" in ours.json


def _errors_are_no_trap(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if theirs.status != 200 or _OUR_ERROR not in ours.body:
        return False
    renamed = ours.body.replace(_OUR_ERROR, _THEIR_ERROR)
    return _same_ids(_TOOL_ERROR.sub(rb"\1", renamed)) == _same_ids(theirs.body) and (
        sent.path.startswith("/cb/")
    )


def _heads_tell_the_truth(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    return sent.method == "HEAD" and (theirs.status, ours.status) == (200, 400)


def _tokens_are_no_condition(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not (_is_of_tokens(sent) and theirs.is_plain_500 and ours.status == 200):
        return False
    if not sent.path.endswith("/stream"):
        return _WITHOUT_TOKENS in ours.body
    return b'"feedback_tokens": []' in ours.body or ours.body == _END or b"error" in ours.body


def _no_chunk_is_lost(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not (_is_of_tokens(sent) and sent.path.endswith("/stream") and ours.status == 200):
        return False
    # What comes of a stream there depends on when its token comes.
    kept = [frame for frame in _frames(theirs.body) if frame.startswith(b"event: data")]
    sent_here = [frame for frame in _frames(ours.body) if frame.startswith(b"event: data")]
    return all(frame in sent_here for frame in kept) and not ours.is_cut


def _links_need_no_feedback(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_link = sent.path == "/ls/link/public_trace_link"
    return is_link and theirs.is_plain_500 and "public_url" in ours.json


def _unknown_runs_are_422(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    told = {"detail": "LangSmith cannot tell which run is meant."}
    return sent.path.startswith("/ls/") and theirs.is_plain_500 and ours.json == told


DIFFERENCES: Mapping[str, Predicate] = {
    "callback events are whole": _events_are_whole,
    "errors in callback events are no trap": _errors_are_no_trap,
    "HEAD tells the truth": _heads_tell_the_truth,
    "feedback tokens are no condition": _tokens_are_no_condition,
}
WITH_LANGSMITH: Mapping[str, Predicate] = {
    "no chunk is lost to a token": _no_chunk_is_lost,
    "a link needs no feedback": _links_need_no_feedback,
    "feedback on no run is 422": _unknown_runs_are_422,
}


def _is_of_tokens(sent: Sent) -> bool:
    return sent.path.startswith(("/ls/token", "/ls/no_token"))


def _frames(body: bytes) -> list[bytes]:
    return body.split(b"\r\n\r\n")


def _same_ids(body: bytes) -> Any:
    """Return an answer with its ids numbered anew: one that is left out moves all that follow."""
    numbers: dict[bytes, int] = {}
    return json.loads(
        re.sub(rb"id-\d+", lambda match: b"n-%d" % numbers.setdefault(match[0], len(numbers)), body)
    )
