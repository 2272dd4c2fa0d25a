"""What graphs answer otherwise than at LangServe, on purpose."""

from collections.abc import Callable, Mapping

from compat.exchange import Answer, Sent


def _a_graph_keeps_its_threads(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not sent.path.startswith("/graph/") or ours.status != 200:
        return False
    if sent.path.endswith("/config_schema"):
        return b'"thread_id"' in ours.body and b'"thread_id"' not in theirs.body
    return b'"thread_id"' in (sent.body or b"") and _has_failed(theirs)


def _a_missing_thread_is_422(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not sent.path.startswith("/graph/kept/") or ours.status != 422:
        return False
    return _has_failed(theirs) and ours.json["detail"][0]["loc"] == ["configurable", "thread_id"]


def _a_graph_takes_a_part(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if not sent.path.startswith("/graph/"):
        return False
    if sent.path.endswith("/batch"):
        return theirs.is_plain_500 and ours.status == 200
    if theirs.status != 422:
        return False
    wrong = [each for each in theirs.json["detail"] if each["type"] != "missing"]
    return ours.status == 422 and ours.json["detail"] == wrong if wrong else ours.status == 200


def _messages_have_their_class(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    return sent.path.startswith("/graph/vague/") and (
        ours.body.replace(b"HumanMessage", b"BaseMessage") == theirs.body
        or (b"BaseMessage" in theirs.body and b"BaseMessage" not in ours.body)
    )


def _has_failed(theirs: Answer) -> bool:
    # Older versions of LangGraph tell that the run begins before they find that they cannot run.
    return theirs.is_plain_500 or (theirs.is_cut and b"event: error" in theirs.body)


DIFFERENCES: Mapping[str, Callable[[Sent, Answer, Answer], bool]] = {
    "a graph keeps its threads": _a_graph_keeps_its_threads,
    "a thread that is missing is 422": _a_missing_thread_is_422,
    "a graph takes a part of its state": _a_graph_takes_a_part,
    "messages of a state have their class": _messages_have_their_class,
}
