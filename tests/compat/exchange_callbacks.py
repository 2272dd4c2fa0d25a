"""Requests to the routes of `callbacks_app`: callback events, feedback, tokens, links to traces."""

from collections.abc import Iterator
from typing import Any

from compat.callbacks_app import VALUES
from compat.exchange import RUN_ID, Sent, post

_INPUTS: dict[str, Any] = {
    "add": 1,
    "seq": 1,
    "named": 1,
    "boom": 1,
    "fallback": 1,
    "each": 1,
    "prompt": {"q": "hi"},
    "text_prompt": {"q": "hi"},
    "retriever": "q",
    "retriever_fallback": "bad",
    "tool": {"a": "x"},
    "tool_fallback": {"a": "bad"},
    "custom": 1,
    "chat": {"q": "hi"},
    "chat_calls": "hi",
    "chat_fallback": "hi",
    "llm": "hi",
    "agent": 1,
    **{f"value_{name}": 1 for name in VALUES},
}
_OFF = ("/ls/off", "/ls/both", "/ls/feedback", "/ls/link", "/ls/named", "/ls/unnamed")
_ROUTES = (*_OFF, "/ls/disabled", "/ls/token", "/ls/no_token")
_JSON = {"content-type": "application/json"}
_FEEDBACK: tuple[Any, ...] = (
    {"run_id": RUN_ID, "key": "k"},
    {"run_id": RUN_ID, "key": "k", "score": 1, "value": "v", "comment": "c"},
    {"run_id": RUN_ID, "key": "k", "score": True, "value": {"a": 1}, "correction": {}, "more": 1},
    {"run_id": RUN_ID, "key": "k", "score": "1", "value": True},
    {"run_id": RUN_ID, "key": "k", "score": "x", "value": [1], "comment": 5},
    {"run_id": None, "key": "k"},
    {"run_id": "x", "key": "k"},
    {"run_id": RUN_ID, "key": 5},
    {"run_id": RUN_ID},
    {"key": "k"},
    {},
    [],
    None,
    b"bad",
    b"",
)
_TOKENS: tuple[Any, ...] = (
    {"token_or_url": RUN_ID, "score": 1},
    {"token_or_url": RUN_ID, "score": 1.5, "metadata": {"m": 1, "from_langserve": False}},
    {"token_or_url": RUN_ID, "value": {"a": 1}, "comment": "c", "correction": {"a": 1}},
    {"token_or_url": f"http://127.0.0.1:1/feedback/tokens/{RUN_ID}", "score": True, "more": 1},
    {"token_or_url": 5},
    {"token_or_url": RUN_ID, "metadata": 5, "correction": "x", "score": "x"},
    {"token_or_url": "x"},
    {},
    b"bad",
)


def requests() -> Iterator[Sent]:
    """Yield what is sent where LangSmith is off."""
    yield from _events()
    yield from feedback()


def _events() -> Iterator[Sent]:
    for name, value in _INPUTS.items():
        yield post(f"/cb/{name}/invoke", {"input": value})
        yield post(f"/cb/{name}/batch", {"inputs": [value]})
        yield post(f"/cb/{name}/stream", {"input": value})
    for kind in ("int", "dict", "none"):
        yield post("/cb/tool_any/invoke", {"input": {"kind": kind}})
    call = {"name": "look", "args": {"at": "x"}, "id": "1", "type": "tool_call"}
    yield post("/cb/tool_message/invoke", {"input": call})
    wishes: tuple[Any, ...] = (
        {"run_id": RUN_ID, "tags": ["t"], "metadata": {"m": 1, "__m": 2}},
        [{"tags": ["a"]}, {"run_id": RUN_ID}],
    )
    yield post("/cb/seq/invoke", {"input": 1, "config": wishes[0]})
    for wish in wishes:
        yield post("/cb/add/batch", {"inputs": [1, 2], "config": wish})
    yield post("/cb/add/batch", {"inputs": []})
    yield post("/cb/boom/batch", {"inputs": [1, 2]})
    yield post("/cb/add/invoke", {"input": "x"})


def feedback() -> Iterator[Sent]:
    """Yield what has to do with LangSmith, be it on or off."""
    for route in _ROUTES:
        yield post(f"{route}/feedback", _FEEDBACK[0], content_type="application/json")
        yield Sent(f"{route}/public_trace_link", b'{"run_id":"%b"}' % RUN_ID.encode(), "PUT", _JSON)
        yield post(f"{route}/token_feedback", _TOKENS[0], content_type="application/json")
        for method in ("HEAD", "GET", "OPTIONS", "DELETE"):
            for name in ("feedback", "public_trace_link", "token_feedback"):
                yield Sent(f"{route}/{name}", method=method)
    for body in _FEEDBACK:
        yield post("/ls/both/feedback", body, content_type="application/json")
        yield Sent("/ls/both/public_trace_link", post("", body).body, "PUT", _JSON)
    for body in _TOKENS:
        yield post("/ls/token/token_feedback", body, content_type="application/json")
    yield post("/ls/both/feedback", _FEEDBACK[0])  # without a content type it is no JSON
    yield post("/ls/both/feedback", _FEEDBACK[0], content_type="text/plain")
    yield from _tokens()


def _tokens() -> Iterator[Sent]:
    for route in ("token", "token_boom", "no_token"):
        yield post(f"/ls/{route}/invoke", {"input": 1})
        yield post(f"/ls/{route}/batch", {"inputs": [1]})
        yield post(f"/ls/{route}/batch", {"inputs": []})
        yield post(f"/ls/{route}/stream", {"input": 1})
    yield post("/ls/token/batch", {"inputs": [1, 2], "config": {"run_id": RUN_ID}})
    yield post("/ls/token/invoke", {"input": 1, "config": {"run_id": RUN_ID}})
    yield post("/ls/token/invoke", {"input": "x"})
    for n in (0, 1, 3, -1):
        yield post("/ls/token_count/stream", {"input": n})
