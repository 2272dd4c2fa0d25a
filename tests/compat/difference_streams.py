"""What `/stream_log` and `/stream_events` answer otherwise than LangServe, on purpose."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonpatch

from compat.exchange import Answer, Sent

# Where steps run side by side.  LangServe's own order changes from one request to the next.
_PARALLEL = re.compile(r"^/(s|v1)/(parallel|each)/")
_NUMBERED = re.compile(r"\bid-\d+\b")
_END = b"event: end\r\n\r\n"
_FAILED = b'event: error\r\ndata: {"status_code": 500, "message": "Internal Server Error"}\r\n\r\n'


def _a_list_of_names_holds(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not sent.path.startswith("/allow/") or theirs.status != ours.status:
        return False
    is_known = sent.path.startswith(("/allow/named/", "/allow/path/"))
    is_told = ours.body.endswith(_END) and ours.body.startswith(b"event: data")
    return theirs.is_cut and (is_told if is_known else ours.body == _END)


def _parallel_steps_have_no_order(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not _PARALLEL.match(sent.path) or theirs.headers != ours.headers:
        return False
    fold = _log if sent.path.endswith("stream_log") else _events
    return bool(fold(theirs.body) == fold(ours.body))


def _a_tool_that_fails_is_told_of(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    told = theirs.body.removesuffix(_FAILED)
    is_cut_there = theirs.is_cut and told != theirs.body and ours.body.startswith(told)
    begins = ours.body[len(told) :].startswith(b'event: data\r\ndata: {"event":"on_tool_error"')
    return is_cut_there and begins and sent.path.endswith("/stream_events")


def _an_http_exception_keeps_its_status(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_there = sent.path.startswith("/teapot/") and sent.path.endswith("/stream")
    return is_there and theirs.is_cut and ours.status == 418 and b'{"detail":"teapot' in ours.body


DIFFERENCES: Mapping[str, Callable[[Sent, Answer, Answer], bool]] = {
    "a list of names holds for every runnable": _a_list_of_names_holds,
    "a tool that fails is told of": _a_tool_that_fails_is_told_of,
    "an HTTPException keeps its status in a stream": _an_http_exception_keeps_its_status,
    "steps side by side have no order": _parallel_steps_have_no_order,
}


def _log(body: bytes) -> Any:
    """Return the state that the patches build, with everything that came side by side sorted."""
    patches = list(_frames(body))
    state = jsonpatch.apply_patch(None, [op for patch in patches for op in patch["ops"]])
    told = {key: value for key, value in state.items() if key not in {"logs", "streamed_output"}}
    inner, chunks = _sorted(state["logs"].values()), _sorted(state["streamed_output"])
    return told, inner, chunks, len(patches)


def _events(body: bytes) -> Any:
    first, *between = _frames(body)
    return first, _sorted(between)


def _frames(body: bytes) -> Iterator[Any]:
    # Ids were numbered in their order.
    text = _NUMBERED.sub("id", body.removesuffix(_END).decode())
    for frame in filter(None, text.split("\r\n\r\n")):
        yield json.loads(frame.removeprefix("event: data\r\ndata: "))


def _sorted(values: Any) -> list[str]:
    return sorted(json.dumps(value, sort_keys=True) for value in values)
