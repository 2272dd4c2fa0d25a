"""What the outside of a server answers otherwise than LangServe's, on purpose."""

from collections.abc import Callable, Mapping

from compat.exchange import Answer, Sent

_HTML = "text/html; charset=utf-8"


def _the_page_is_our_own(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    if "/playground/" not in sent.path or not theirs.status == ours.status == 200:
        return False
    return [dict(each.headers)["content-type"] for each in (theirs, ours)] == [_HTML, _HTML]


def _a_folder_of_the_page_is_not_found(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_there = "/playground/" in sent.path
    return is_there and theirs.is_plain_500 and (ours.status, ours.body) == (404, b"Not Found")


def _a_server_config_counts_in_batch(sent: Sent, theirs: Answer, ours: Answer) -> bool:
    is_there = sent.path.startswith("/api/telling/") and sent.path.endswith("/batch")
    return is_there and theirs.status == ours.status == 200 and b'"tags":["s"]' in ours.body


DIFFERENCES: Mapping[str, Callable[[Sent, Answer, Answer], bool]] = {
    "the page is our own": _the_page_is_our_own,
    "a folder of the page is not found": _a_folder_of_the_page_is_not_found,
    "a server's config counts in batch": _a_server_config_counts_in_batch,
}
