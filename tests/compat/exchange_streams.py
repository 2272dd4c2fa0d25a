"""The requests to `/stream_log` and `/stream_events`: every run that has something to tell.

The routes are `streams_app`'s and those that `exchange` asks for their outputs.
"""

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

from compat.exchange import RUN_ID, Sent, post

ENDPOINTS = ("stream_log", "stream_events")
_ASKED = {"messages": [{"type": "human", "content": "2 times 3?"}]}
INPUTS: Mapping[str, tuple[Any, ...]] = {
    "chat": ({"q": "hi"}, {"q": 5}, {}),
    "str": ({"q": "hi"},),
    "json": ({"q": "hi"},),
    "model": ("hi", [{"type": "human", "content": "hi"}]),
    "llm": ({"q": "x"},),
    "llm_whole": ({"q": "x"},),
    "prompt": ({"q": "x"},),
    "parallel": (1, 2, 3),
    "assign": ("abc",),
    "repeated": (1,),
    "nested": (1, "x"),
    "names": (1,),
    "tool": ({"a": 2, "b": 3}, "x"),
    "tool_chain": ({"a": 2, "b": 3}, {"a": "x"}),
    "tool_broken": (1,),
    "retriever": ("q", "fail"),
    "only_retriever": ("q", "fail"),
    "counting": (0, 1, 3),
    "adding": (1, 4),
    "listing": (1, 3),
    "changing": (2,),
    "nothing": (1,),
    "words": ("x", {"a": 1}),
    "collected": ("x",),
    "breaking": ("x",),
    "boom": (1,),
    "fallback": (1,),
    "retry": (1,),
    "odd": (1,),
    "odd_inside": (1,),
    "batching": ([], [1, 2, 3]),
    "calling": (1,),
    "streaming": (1,),
    "telling": (1,),
    "routing": (1, 2),
    "branch": (1, 2),
    "each": (1,),
    "bound": (1,),
    "conf": ({"q": "x"},),
    "graph": ({"n": 0, "messages": []}, {"n": 0, "messages": [{"type": "human", "content": "x"}]}),
    "agent": (_ASKED,),
}
_FILTERED = ("chat", "str", "json", "llm", "repeated", "nested", "tool_chain", "retriever", "words")
_NAMES = (
    *("ChatPromptTemplate", "GenericFakeChatModel", "StrOutputParser", "add_one", "double", "in"),
    *("/s/chat", "/s/repeated", "times", "Shelf", "ask", "model", "tools", "words", "nobody"),
)
_TYPES = (*("llm", "chat_model", "prompt", "parser", "chain", "tool", "retriever", "nobody"),)
_TAGS = ("seq:step:1", "seq:step:2", "t", "mine", "graph:step:1", "nobody")
_WRONG: tuple[Any, ...] = (5, "abc", {"a": 1}, [1], [None, "a", True], [["a"]], True, 1.5)


def requests(paths: Mapping[str, Any], kinds: tuple[str, ...]) -> Iterator[Sent]:
    """Yield them; `paths` are routes and an input for each, `kinds` what `/types` knows."""
    for name in ENDPOINTS:
        for path, value in paths.items():
            yield post(f"{path}/{name}", {"input": value})
            yield post(f"{path}/{name}", {"input": [["neither", 5]]})
        for kind in kinds:
            yield post(f"/types/{name}", {"input": kind})
    yield from _told()
    yield from _filters()
    yield from _wrong()
    yield from _configs()
    yield from _lists()


def _told() -> Iterator[Sent]:
    for path, inputs in INPUTS.items():
        for value in inputs:
            for name in ENDPOINTS:
                yield post(f"/s/{path}/{name}", {"input": value})
            yield post(f"/v1/{path}/stream_events", {"input": value})


def _filters() -> Iterator[Sent]:
    """Lists of all six kinds, one at a time and as the dice have it."""
    each = {"names": _NAMES, "types": _TYPES, "tags": _TAGS}
    for path, name, how in itertools.product(("str", "nested"), ENDPOINTS, ("include", "exclude")):
        for kind, words in each.items():
            for word in words:
                yield _filtered(path, name, {f"{how}_{kind}": [word]})
            yield _filtered(path, name, {f"{how}_{kind}": []})
            yield _filtered(path, name, {f"{how}_{kind}": None})
    dice = random.Random(6)
    for path in (*_FILTERED, "graph", "agent") * 4:
        chosen = {
            f"{how}_{kind}": dice.sample(words, dice.randint(0, 3))
            for (kind, words), how in itertools.product(each.items(), ("include", "exclude"))
            if dice.random() < 0.4
        }
        for name in ENDPOINTS:
            yield _filtered(path, name, chosen)
        yield _filtered(path, "stream_events", chosen, root="/v1")


def _filtered(path: str, name: str, chosen: Mapping[str, Any], root: str = "/s") -> Sent:
    return post(f"{root}/{path}/{name}", {"input": INPUTS[path][0], **chosen})


def _wrong() -> Iterator[Sent]:
    """Filters that are none, beside what else may be wrong."""
    lists = ("include_names", "include_types", "include_tags", "exclude_names", "exclude_tags")
    for name, key, value in itertools.product(ENDPOINTS, lists, _WRONG):
        yield post(f"/s/nested/{name}", {"input": 1, key: value})
    for name in ENDPOINTS:
        yield post(f"/s/nested/{name}", {"input": 1, **dict.fromkeys(lists, 5)})
        yield post(f"/s/nested/{name}", {"input": "x", "include_tags": 5})
        yield post(f"/s/nested/{name}", {"input": 1, "config": {"tags": 5}, "include_tags": 5})
        yield post(f"/s/nested/{name}", {"config": 5, "include_tags": 5})
        for body in (b"", b"null", b"[1]", b"{}", b'{"input":1,"config":null}', b"{"):
            yield post(f"/s/nested/{name}", body)
        more = {"diff": False, "with_streamed_output_list": False, "version": "v1", "kwargs": [5]}
        yield post(f"/s/nested/{name}", {"input": 1, **more})
        yield Sent(f"/s/nested/{name}", method="GET")
        for how in ("change", "fail", "refuse", "nothing"):
            yield post(f"/mod/{name}", {"input": 1}, x_how=how)


def _configs() -> Iterator[Sent]:
    wishes: tuple[dict[str, Any], ...] = (
        {"tags": ["mine"], "metadata": {"m": 1, "__m": 2}},
        {"run_id": RUN_ID, "run_name": "x"},
        {"recursion_limit": 3, "max_concurrency": 1},
        {"configurable": {"template": "tell {q}"}},
    )
    paths = ("chat", "nested", "bound", "conf", "graph", "parallel", "agent")
    for path, wish in itertools.product(paths, wishes):
        for name in ENDPOINTS:
            yield post(f"/s/{path}/{name}", {"input": INPUTS[path][0], "config": wish})
        yield post(f"/v1/{path}/stream_events", {"input": INPUTS[path][0], "config": wish})
    for name in ENDPOINTS:
        yield post(f"/s/chat/{name}", {"input": {"q": 1}}, user_agent="somebody/1.0")


def _lists() -> Iterator[Sent]:
    """Routes whose runs are told of by name."""
    paths = ("known", "other", "plain", "nameless", "path", "nobody", "named")
    for path, name, value in itertools.product(paths, ENDPOINTS, (1, "x")):
        yield post(f"/allow/{path}/{name}", {"input": value})
