"""The requests to the outside of a server: configs in paths, handlers, the page, what is not there.

The routes are `captured_app`'s and `routes_app`'s.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from compat.exchange import RUN_ID, Sent, post
from locktender.wire.lzstring import compress_to_encoded_uri_component

POSTED = ("invoke", "stream", "batch")
SCHEMAS = ("input_schema", "output_schema", "config_schema")
MODELS = (
    *("InvokeRequest", "BatchRequest", "StreamRequest", "StreamLogRequest"),
    *("StreamEventsRequest", "InvokeResponse", "BatchResponse"),
)
_CAPTURED = "N4Igxg9gdgZglgcwK4CcCGAjANgUxALgAJQAXHAWwAcs0yDCQMBPHYgdwAsIBfEb7oA"
_WISH = {"tags": ["b", "x"], "metadata": {"b": 1, "m": "body"}, "recursion_limit": 7}
_HASHED: tuple[Any, ...] = (
    {},
    {"tags": ["h", "x"], "metadata": {"h": 1, "m": "hash"}, "max_concurrency": 3},
    {"run_id": RUN_ID, "tags": None},
    {"tags": ["é€😀"], "unknown": 1, "run_name": "x"},
    {"configurable": {"a": "H", "b": "H"}},
    {"configurable": {"a": 5}},
    {"configurable": {}},
    {"tags": 5},
    {"run_id": "nope"},
)
# What is no config: no text of lz-string's, no JSON, no object.
_NO_CONFIGS = ("zzzz", "1234", "NoRgukA", "Q", "NoXSA", "HYVwNmQ", "%C3%A9", "a%20b", "A", "$$")


def hashed(config: Any) -> str:
    return compress_to_encoded_uri_component(json.dumps(config))


def requests() -> Iterator[Sent]:
    yield from _captured()
    yield from _configs_in_paths()
    yield from _handlers()
    yield from _pages()
    yield from _what_is_not_there()


def _captured() -> Iterator[Sent]:
    """The recorded exchanges with a config in the path, in their order."""
    path = f"/conf/c/{_CAPTURED}"
    yield Sent(f"{path}/input_schema", method="GET")
    yield post(f"{path}/invoke", {"input": {"who": "z"}})
    yield Sent(f"{path}/config_schema", method="GET")
    yield Sent(f"{path}/output_schema", method="GET")
    yield Sent("/conf/c/zzzz/input_schema", method="GET")
    yield post("/conf/c/1234/invoke", {"input": {"name": "z"}})
    yield Sent("/conf/c/NoRgukA/input_schema", method="GET")
    yield Sent("/add_one_keys/config_schema", method="GET")


def _configs_in_paths() -> Iterator[Sent]:
    for path, config in itertools.product(("/telling", "/tags", "/fields_keys"), _HASHED):
        below = f"{path}/c/{hashed(config)}"
        for name in (*POSTED, "stream_events"):
            yield post(f"{below}/{name}", {"input": 1, "inputs": [1, 2]})
            yield post(f"{below}/{name}", {"input": 1, "inputs": [1, 2], "config": _WISH})
        fields = {"configurable": {"b": "Z"}}
        yield post(f"{below}/invoke", {"input": 1, "config": fields})
        yield post(f"{below}/batch", {"inputs": [1, 2], "config": [_WISH, {}]})
        yield post(f"{below}/batch", {"inputs": [1, 2], "config": [_WISH]})
        yield post(f"{below}/invoke", {"input": "bad"})
        for schema in SCHEMAS:
            yield Sent(f"{below}/{schema}", method="GET")
    for config_hash, name in itertools.product(_NO_CONFIGS, (*POSTED, "stream_log")):
        yield post(f"/telling/c/{config_hash}/{name}", {"input": 1, "inputs": [1]})
    for config_hash, schema in itertools.product(_NO_CONFIGS, SCHEMAS):
        yield Sent(f"/telling/c/{config_hash}/{schema}", method="GET")
    for body in (b"", b"{}", b'"x"', b'{"input":"bad"}', b'{"input":1,"config":5}'):
        yield post("/telling/c/zzzz/invoke", body)
    some = hashed({"tags": ["h"]})
    for more in ("x", "%20", "%24"):  # what follows the end
        yield post(f"/telling/c/{some}{more}/invoke", {"input": 1})
    yield post(f"/telling/invoke?config_hash={some}", {"input": 1})
    yield post(f"/outer/v9/telling/c/{some}/invoke", {"input": 1})
    yield post(f"/mounted/in/c/{some}/invoke", {"input": 1})
    yield post(f"/c/{some}/invoke", {"input": 1})
    yield post(f"/of/bob/c/{some}/stream", {"input": 1})
    yield post(f"/mod/c/{some}/invoke", {"input": 1})
    yield post(f"/boom/c/{some}/invoke", {"input": 1})


def _handlers() -> Iterator[Sent]:
    wishes: tuple[Any, ...] = ({}, _WISH, {"configurable": {"a": "C", "b": "C"}}, {"tags": 5})
    for path, wish in itertools.product(("/api", "/api/telling"), wishes):
        config_hash = hashed({"tags": ["h"], "metadata": {"m": "hash"}})
        for name in POSTED:
            body = {"input": 1, "inputs": [1, 2], "config": wish}
            yield post(f"{path}/{name}", body)
            yield post(f"{path}/c/{config_hash}/{name}", body)
        yield post(f"{path}/batch", {"inputs": [1, 2], "config": [wish, {}]})
        yield post(f"{path}/astream_events", {"input": 1, "config": wish})
    for path in ("/api", "/api/telling"):
        yield post(f"{path}/c/zzzz/invoke", {"input": 1})
        yield post(f"{path}/invoke", {"input": "bad"})
        for schema in SCHEMAS:
            yield Sent(f"{path}/{schema}", method="GET")
        for name in MODELS:
            yield Sent(f"{path}/model/{name}", method="GET")


def _pages() -> Iterator[Sent]:
    config = hashed({"configurable": {"a": "x"}})
    for path in (
        *("/add_one", "/chatpg", "/page", "/outer/v9/telling", "/mounted/in", "/of/bob", ""),
        *("/api", "/hash_page", "/hash_page/c/zz", "/page/c/zz", f"/telling/c/{config}"),
        *("/telling/c/zzzz", f"/telling/c/{hashed({'configurable': {'a': 5}})}", "/nowhere"),
    ):
        yield Sent(f"{path}/playground/", method="GET")
    for path in ("/add_one", "/outer/v9/telling", "/mounted/in", "/api", "", "/nowhere", "/only"):
        yield Sent(f"{path}/playground", method="GET")
    for name in (
        *("index.html", "nope.js", "assets", "assets/", "assets/nope.js", "%2e%2e/routes.py"),
        *("/etc/passwd", "..%2f..%2fserver.py", "a/../../../server.py", "%00"),
    ):
        yield Sent(f"/add_one/playground/{name}", method="GET")
    for method in ("HEAD", "POST", "OPTIONS", "PUT"):
        yield Sent("/add_one/playground/", method=method)
    for headers in ({}, {"x-token": "t"}):
        yield Sent("/guarded/playground/", method="GET", headers=headers)
        yield Sent("/guarded/playground/nope.js", method="GET", headers=headers)


def _what_is_not_there() -> Iterator[Sent]:
    for path in ("/server.py", "/chatpg/chat_playground/", "/", "/add_one", "/add_one/", "/c"):
        yield Sent(path, method="GET")
    for method, path in itertools.product(("GET", "OPTIONS", "HEAD"), ("/add_one/invoke",)):
        yield Sent(path, method=method)
    some = hashed({"tags": ["h"]})
    for path, name in itertools.product(("/no_hash", "/only_hash", "/page"), POSTED):
        yield post(f"{path}/{name}", {"input": 1, "inputs": [1]})
        yield post(f"{path}/c/{some}/{name}", {"input": 1, "inputs": [1]})
    for path in ("/no_hash", "/only_hash", "/page", "/hash_page"):
        yield Sent(f"{path}/c/{some}/input_schema", method="GET")
        yield Sent(f"{path}/c/{some}/playground/", method="GET")
        yield Sent(f"{path}/playground/", method="GET")
    for path in ("/telling/c//invoke", "/telling/c/invoke", "/telling/c/a/b/invoke"):
        yield post(path, {"input": 1})
    for method in ("GET", "HEAD", "OPTIONS"):
        yield Sent(f"/telling/c/{some}/invoke", method=method)
