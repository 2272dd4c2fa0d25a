"""The requests that both packages are sent, and how an answer is read and made comparable."""

import http.client
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

RUN_ID = "00000000-0000-0000-0000-0000000000aa"
_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(rb"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
_TIMED = {"date", "server"}
_OURS = {"x-request-id"}  # of each answer of ours, and of none of LangServe's
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Sent:
    """One request."""

    path: str
    body: bytes | None = None
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        body = (self.body or b"").decode("utf-8", "backslashreplace")
        return f"{self.method} {self.path} {body[:200]} {dict(self.headers) or ''}".strip()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, with ids numbered in their order and without what tells the time."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_cut: bool = False  # the connection ended before the body did

    @property
    def is_plain_500(self) -> bool:
        return self.status == 500 and self.body == b"Internal Server Error"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def post(path: str, body: Any, **headers: str) -> Sent:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sent(path, raw, headers=named)


def ask(port: int, sent: Sent) -> Answer:
    """Send a request on a connection of its own and read the answer to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request(sent.method, sent.path, sent.body, dict(sent.headers))
        response = connection.getresponse()
        headers = tuple(
            (name.lower(), value.replace(str(port), "PORT"))
            for name, value in response.getheaders()
            if name.lower() not in _TIMED | _OURS
        )
        try:
            body, is_cut = response.read(), False
        except http.client.IncompleteRead as error:
            body, is_cut = error.partial, True
        return Answer(response.status, headers, _mask(body), is_cut)
    finally:
        connection.close()


def _mask(body: bytes) -> bytes:
    numbers: dict[bytes, int] = {}

    def number(match: re.Match[bytes]) -> bytes:
        # The zeros are ids of the requests, and known.
        if match[0].startswith(b"00000000-"):
            return match[0]
        return b"id-%d" % numbers.setdefault(match[0], len(numbers))

    return _TIME.sub(b"TIME", _ID.sub(number, body))


def requests() -> Iterator[Sent]:
    from compat import (  # noqa: PLC0415 - it is made of what stands here
        exchange_callbacks,
        exchange_graph,
        exchange_routes,
        exchange_shapes,
        exchange_streams,
    )

    yield from _captured()
    yield from _bodies()
    yield from _configs()
    yield from _inputs()
    yield from _outputs()
    yield from _modified()
    yield from _paths()
    yield from exchange_streams.requests(_PATHS, _TYPES)
    yield from exchange_routes.requests()
    yield from exchange_callbacks.requests()
    yield from exchange_graph.requests()
    yield from exchange_shapes.requests()


def _each(path: str, value: Any, **more: Any) -> Iterator[Sent]:
    """Yield the same input to all three of a path's POST endpoints."""
    yield post(f"{path}/invoke", {"input": value, **more})
    yield post(f"{path}/stream", {"input": value, **more})
    yield post(f"{path}/batch", {"inputs": [value], **more})


_PATHS = {
    "/add_one": 1,
    "/add_one_keys": 1,
    "/chat": {"question": "hi"},
    "/str": {"question": "hi"},
    "/model": [{"type": "human", "content": "hi"}],
    "/boom": 1,
    "/gen_err": 1,
    "/gen_none": 1,
    "/root_out": 5,
    "/wrong_out": 5,
    "/extra_out": 5,
    "/sub_out": 5,
    "/tup": [1, "a"],
    "/cut": {"bar": 1},
    "/plain": {"bar": 1, "inner": {"bar": 2}},
    "/conf": {"name": "x"},
    "/conf_no": {"name": "x"},
    "/cfg": 1,
    "/cfg_mod": 1,
    "/valid": {"n": 1},
    "/cprompt": {"q": "hi"},
    "/opt": None,
    "/ret": "q",
    "/tool": {"a": 2, "b": 3},
    "/teapot": 1,
    "/teapot_late": 1,
    "/count": 2,
    "/mixed": 1,
    "/typed": "x",
    "/fields": 1,
    "/keys": 1,
    "/router/add": 1,
    "/of/bob": 1,
    "": 1,
}
_TYPES = (
    *("set", "bytes", "decimal", "nan", "intkeys", "tuple", "dt", "uuid", "person", "doc"),
    *("none", "big", "dictmsg", "gen", "pv", "exc", "toolcall", "multimodal", "unknown"),
)


def _captured() -> Iterator[Sent]:
    """The recorded exchanges of the six endpoints, and the same inputs to every other endpoint."""
    for path, value in _PATHS.items():
        yield from _each(path, value)
        yield from _each(path, [["neither", 5]])  # good for no path
        for schema in ("input_schema", "output_schema", "config_schema"):
            yield Sent(f"{path}/{schema}", method="GET")
    for kind in _TYPES:
        yield from _each("/types", kind)
    yield post("/add_one/batch", {"inputs": [1, 2]})
    yield post("/add_one/batch", {"inputs": []})
    yield post("/boom/batch", {"inputs": [1, 2]})
    yield from _each("/model", "hi")
    yield from _each("/model", [["human", "hi"]])
    yield from _each("/model", [{"role": "user", "content": "hi"}])
    templates: tuple[dict[str, Any], ...] = (
        {"configurable": {"template": "bye {name}"}},
        {"configurable": {"template": 5}},
        {"configurable": {}},
        {"tags": ["a"]},
    )
    for wish in templates:
        yield from _each("/conf", {"name": "x"}, config=wish)
        yield from _each("/conf_no", {"name": "x"}, config=wish)
    yield from _each("/conf", {"who": "x"}, config={"configurable": {"template": "bye {who}"}})
    yield from _each("/conf", {"name": "x"}, config={"configurable": {"template": "{broken"}})
    yield from _each("/valid", {"n": -1})
    yield from _each("/opt", 1)
    wishes = {"tags": ["a"], "metadata": {"m": 1}, "run_name": "x", "max_concurrency": 2}
    yield from _each("/cfg", 1, config={**wishes, "recursion_limit": 3, "configurable": {}})


def _bodies() -> Iterator[Sent]:
    """Bodies that are not what they should be, or only just."""
    deep = b"[" * 300 + b"]" * 300
    for body in (
        *(b"", b"null", b"5", b'"x"', b"[1]", b"{}", b'{"config":5}', b'{"kwargs":[1]}'),
        *(b"bad json []", b'{"input":1}x', b'{"input":1,}', b'{"input":01}', b"\xff", b"[" * 2000),
        *(b'\xef\xbb\xbf{"input":1}', '{"input":1}'.encode("utf-16"), b'{"input":1,"input":2}'),
        *(b'{"input":NaN}', b'{"input":Infinity}', b'{"input":1e400}', b'{"input":"abc"}'),
        *(b'{"input":1180591620717411303424}', b'{"input":1.0}', b'{"input":1.5}'),
        *(b'{"input":true}', b'{"input":"1"}', b'{"input":null}', b'{"input":"\\ud800"}'),
        *(b'{"input":1,"config":null}', b'{"input":1,"config":"x"}', b'{"input":1,"config":[]}'),
        *(b'{"input":1,"kwargs":5,"more":1,"config":{}}', b'{"input":' + deep + b"}"),
        *(b'{"inputs":5}', b'{"inputs":null}', b'{"inputs":{"a":1}}', b'{"inputs":"ab"}'),
        *(b'{"inputs":["a"]}', b'{"inputs":[1,"a"]}', b'{"inputs":[1,2],"config":[{}]}'),
        *(b'{"inputs":[1,2],"config":null}', b'{"inputs":[1,2],"config":5}'),
        *(b'{"inputs":[1,2],"config":[{},5]}', b'{"inputs":[1,"a"],"config":[{}]}'),
        *(b'{"inputs":5,"config":[{}]}', b'{"inputs":[1,2],"config":[]}'),
    ):
        for name in ("invoke", "stream", "batch"):
            yield post(f"/add_one/{name}", body)
    for body in (b"NaN", b'"\\ud800"', b"1180591620717411303424", b'"\\u0000"', b"[1,]", b"[[1]]"):
        yield post("/in/any/invoke", b'{"input":%b}' % body)
        yield post("/in/any/stream", b'{"input":%b}' % body)
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        yield post("/add_one/invoke", {"input": 1}, content_type=content_type)


def _configs() -> Iterator[Sent]:
    """What a caller may wish for, allowed or not."""
    wishes: tuple[dict[str, Any], ...] = (
        {},
        {"tags": None},
        {"tags": 5},
        {"tags": ["b", "a", "b"]},
        {"metadata": {"__useragent": "spoofed", "q": {"r": 1}}},
        {"metadata": None},
        {"max_concurrency": 3, "recursion_limit": "7"},
        {"max_concurrency": None},
        {"recursion_limit": None},
        {"run_id": None},
        {"run_id": RUN_ID},
        {"run_id": "nope"},
        {"run_name": "x", "callbacks": [], "unknown": 1},
        {"runName": "x", "maxConcurrency": 1, "recursionLimit": 3},
        {"configurable": {}},
        {"configurable": None},
        {"configurable": 5},
        {"configurable": {"a": "Z"}},
        {"configurable": {"b": "7", "unknown": 1}},
        {"configurable": {"b": "x"}},
    )
    for path, wish in itertools.product(("/fields", "/fields_keys", "/keys", "/cfg"), wishes):
        yield from _each(path, 1, config=wish)
    for path in ("/fields", "/keys"):
        pairs: tuple[list[Any], ...] = (
            [{}, {"tags": ["b"], "run_id": RUN_ID}],
            [{"configurable": {"a": "Z"}}, {}],
            [{"run_id": RUN_ID}, {"run_id": RUN_ID}],
            [{"tags": 5}, {}],
            [{}, None],
        )
        for pair in pairs:
            yield post(f"{path}/batch", {"inputs": [1, 2], "config": pair})
        yield post(f"{path}/batch", {"inputs": [1, 2, 3], "config": {"run_id": RUN_ID}})
        yield post(f"{path}/batch", {"inputs": [], "config": {"run_id": RUN_ID}})
    yield post("/keys/invoke", {"input": 1}, user_agent="somebody/1.0")


def _inputs() -> Iterator[Sent]:
    """What schemas make of inputs."""
    human = {"type": "human", "content": "hi"}
    nested = {"x": 1, "y": {"x": 2, "messages": [human]}, "messages": [human]}
    a_uuid = str(RUN_ID)
    values: dict[str, tuple[Any, ...]] = {
        "known": ({"q": 1}, {"q": "x"}),
        "nested": (nested, 5, {"x": "a"}, {"x": 1, "z": 5}, {}),
        "list_nested": ([nested], 5, [5]),
        "dict_nested": ({"a": nested},),
        "opt_nested": (nested, None, 5),
        "union": (nested, 5, "q"),
        "open": ({"x": 1, "z": [2]},),
        "aliased": ({"fooBar": 1}, {"foo": 1}, {}),
        "root": ([nested],),
        "fields": ({"u": a_uuid, "d": "2020-01-01T00:00:00Z", "e": "r", "n": nested}, {"z": 1}),
        "message": (human, ["human", "hi"], {"role": "user", "content": "x"}, "hi", 5),
        "messages": (
            *([human], [["human", "hi"]], [["nobody", "hi"]], ["hi"], [5], [{"content": "x"}]),
            *([{"role": "user", "content": "x"}], [{"role": "nobody", "content": "x"}]),
            *([{"type": "zz", "content": "x"}], [{"type": "human"}], [human, ["ai", "ho"]]),
        ),
        "document": ({"page_content": "x"}, {"page_content": "x", "metadata": {"a": 1}}, 5),
        "documents": ([{"page_content": "x", "type": "Document"}],),
        "pair": ([1, nested], [1]),
        "colour": ("r", "q"),
        "datetime": ("2020-01-01", "z"),
        "float": (1, "1", "x"),
        "str": ("a", 1, None),
        "set": ([1, 1],),
        "bytes": ("abc",),
        "any": ({"a": [1, {"b": human}]}, None),
        "dict": ({"a": 1}, 5),
    }
    for name, inputs in values.items():
        for value in inputs:
            yield from _each(f"/in/{name}", value)
        yield Sent(f"/in/{name}/input_schema", method="GET")
        yield Sent(f"/in/{name}/output_schema", method="GET")


def _outputs() -> Iterator[Sent]:
    """What becomes of outputs, whatever their schema says."""
    everything = (
        *("int", "float", "negative_zero", "huge", "tiny", "str", "unicode", "half_pair", "true"),
        *("dict", "empty", "extra", "nested", "list", "calls", "message", "chunk", "iso"),
    )
    some = {
        "int": ("int", "str", "true"),
        "float": ("int", "float", "huge", "str"),
        "str": ("str", "int", "unicode"),
        "bool": ("true", "int"),
        "defaults": ("dict", "empty", "extra", "nested", "int"),
        "nested": ("nested", "empty", "extra"),
        "opt_nested": ("nested", "empty"),
        "dict": ("dict", "extra", "nested"),
        "floats": ("dict", "empty", "extra"),
        "messages": ("calls", "list"),
        "message": ("message", "chunk"),
        "ai": ("message", "chunk"),
        "ints": ("list", "calls"),
        "union": ("int", "str", "true"),
        "datetime": ("iso", "str"),
    }
    for value in everything:
        yield from _each("/out/any", value)
    for name, values in some.items():
        for value in values:
            yield from _each(f"/out/{name}", value)
        yield Sent(f"/out/{name}/output_schema", method="GET")


def _modified() -> Iterator[Sent]:
    for how in ("change", "fail", "refuse", "nothing"):
        for name in ("invoke", "stream"):
            yield post(f"/mod/{name}", {"input": 1}, x_how=how)
            yield post(f"/mod/{name}", {"input": "bad"}, x_how=how)
        yield post("/mod/batch", {"inputs": [1, 2]}, x_how=how)
        yield post("/mod/batch", {"inputs": [1, 2], "config": [{}, {}]}, x_how=how)
    yield post("/cfg_mod/invoke", {"input": 1}, x_user="bob")


def _paths() -> Iterator[Sent]:
    """Routes that are there, guarded or missing, and methods."""
    for headers in ({}, {"x-token": "q"}, {"x-token": "t"}):
        for name in ("invoke", "stream", "batch"):
            yield Sent(f"/guarded/{name}", b'{"input":1,"inputs":[1]}', headers=headers)
        yield Sent("/guarded/input_schema", method="GET", headers=headers)
    for path in ("/only", "/without", "/nowhere", "/add_one/invoke"):
        for name in ("invoke", "stream", "batch"):
            yield Sent(f"{path}/{name}", b'{"input":1,"inputs":[1]}')
        yield Sent(f"{path}/config_schema", method="GET")
    for method in ("GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH"):
        for name in ("invoke", "stream", "batch"):
            yield Sent(f"/add_one/{name}", method=method)
    for method in ("HEAD", "POST", "OPTIONS"):
        yield Sent("/add_one/input_schema", method=method)
    yield post("/add_one/invoke?x=1", {"input": 1})
    yield post("/add_one/invoke/", {"input": 1})
