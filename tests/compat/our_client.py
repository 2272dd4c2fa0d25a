"""The calls that LangServe's Python client and ours are compared on.

    python our_client.py PACKAGE BASE_URL

Makes all of them by the `RemoteRunnable` of PACKAGE, in an interpreter that has it, and prints one
JSON object: what each call gave, or the error that it raised.  What differs from run to run (ids,
times) is masked.
"""

import asyncio
import contextlib
import functools
import gc
import importlib
import json
import logging
import re
import ssl
import sys
import uuid
import warnings
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeAlias

import httpx
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_core.runnables.history import RunnableWithMessageHistory
from pydantic import BaseModel

Remote: TypeAlias = Callable[..., Any]
Call: TypeAlias = tuple[str, Callable[[], Any]]

TIMEOUT_S = 30
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(\+00:00)?")
QUESTION = {"question": "why"}
BYE = {"configurable": {"template": "bye {name}"}, "tags": ["t"], "metadata": {"m": 1}}


class Heard(BaseCallbackHandler):
    """What callbacks are told of the remote's own run, and of those that hang below it."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
        told = {key: more.get(key) for key in ("name", "tags", "metadata")}
        self.events.append(["start", serialized is None, inputs, told])

    def on_chain_end(self, outputs: Any, **_: Any) -> None:
        self.events.append(["end", outputs])

    def on_chain_error(self, error: BaseException, **_: Any) -> None:
        self.events.append(["error", error])


def shown(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return [type(value).__name__, shown(value.model_dump())]
    if isinstance(value, BaseException):
        return shown_error(value)
    if isinstance(value, Mapping):
        kind = [] if type(value) is dict else [type(value).__name__]
        return [*kind, {str(key): shown(item) for key, item in value.items()}]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(shown, value)]
    if hasattr(value, "ops"):
        return [type(value).__name__, shown(value.ops), shown(getattr(value, "state", None))]
    return value if isinstance(value, int | float | str | None) else repr(value)


def shown_error(error: BaseException) -> Any:
    fields: dict[str, Any] = {"kinds": [kind.__name__ for kind in type(error).__mro__]}
    fields["text"] = str(error)
    if isinstance(error, httpx.HTTPStatusError):
        fields["status"] = error.response.status_code
        try:
            fields["body"] = error.response.text
        except httpx.ResponseNotRead:  # LangServe does not read the body of a refused stream
            fields["body"] = None
    return {"error": fields}


async def gathered(items: AsyncIterable[Any]) -> list[Any]:
    return [item async for item in items]


async def until_error(items: AsyncIterable[Any]) -> Any:
    found = []
    try:
        async for item in items:
            found.append(item)  # noqa: PERF401 - what came before an error counts
    except httpx.HTTPStatusError as error:
        return [found, error]
    return found


def read_until_error(items: Any) -> Any:
    found = []
    try:
        for item in items:
            found.append(item)  # noqa: PERF402 - as above
    except httpx.HTTPStatusError as error:
        return [found, error]
    return found


def run(make: Callable[[], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        return await make()

    return asyncio.run(go())


def methods(remote: Remote) -> Iterator[Call]:
    """Every method, over routes of all kinds."""
    inputs: dict[str, list[Any]] = {
        "/add_one": [1, 2],
        "": [4],
        "/chat": [QUESTION, {"question": "who"}],
        "/str": [QUESTION],
        "/model": ["hello", [HumanMessage("hi"), {"type": "ai", "content": "ho"}]],
        "/ret": ["q"],
        "/conf": [{"name": "x"}],
        "/cprompt": [{"q": "x"}],
        "/count": [3],
        "/tup": [(1, "a")],
        "/opt": [None],
        "/cut": [{"bar": 1}],
        "/types": [*("dt", "uuid", "person", "doc", "none", "gen", "pv", "toolcall", "tuple")],
        "/gen_none": [1],
    }
    for path, values in inputs.items():
        yield from every_method(remote, path, values)


def every_method(remote: Remote, path: str, values: list[Any]) -> Iterator[Call]:
    first = values[0]
    yield f"{path} invoke", lambda: [remote(path).invoke(each) for each in values]
    yield f"{path} batch", lambda: remote(path).batch(values)
    yield f"{path} stream", lambda: list(remote(path).stream(first))
    yield f"{path} ainvoke", lambda: run(lambda: remote(path).ainvoke(first))
    yield f"{path} abatch", lambda: run(lambda: remote(path).abatch(values))
    yield f"{path} astream", lambda: run(lambda: gathered(remote(path).astream(first)))


def logs(remote: Remote) -> Iterator[Call]:
    """The two streams that tell of a run's inside."""
    paths = {"/add_one": 1, "/chat": QUESTION, "/str": QUESTION, "/model": "hello", "/ret": "q"}
    for path, value in paths.items():
        yield from both_logs(remote, path, value, {})
    filters: list[dict[str, Any]] = [
        {"include_names": ["ChatPromptTemplate"]},
        {"include_types": ["chat_model"], "exclude_tags": ["no"]},
        {"exclude_types": ["prompt"], "exclude_names": ["/str"]},
        {"include_tags": ["seq:step:2"]},
    ]
    for some in filters:
        yield from both_logs(remote, "/str", QUESTION, some)
    yield "whole log", lambda: run(lambda: summed(remote("/str").astream_log(QUESTION)))
    yield "no diff", lambda: run(lambda: gathered(remote("/add_one").astream_log(1, diff=False)))


def both_logs(remote: Remote, path: str, value: Any, some: dict[str, Any]) -> Iterator[Call]:
    yield (
        f"{path} log {some}",
        lambda: run(lambda: gathered(remote(path).astream_log(value, **some))),
    )
    yield (
        f"{path} events {some}",
        lambda: run(lambda: gathered(remote(path).astream_events(value, version="v2", **some))),
    )


async def summed(patches: AsyncIterable[Any]) -> Any:
    found = await gathered(patches)
    total = found[0]
    for patch in found[1:]:
        total = total + patch
    return total


def refusals(remote: Remote) -> Iterator[Call]:
    """What goes wrong, at either side."""
    bad: dict[str, Any] = {
        "/boom": 1,
        "/add_one": "no number",
        "/teapot": 1,
        "/guarded": 1,
        "/nowhere": 1,
        "/without": 1,
        "/only": "no number",
        "/valid": {"n": -1},
        "/wrong_out": 1,
        "/mixed": 1,
    }
    for path, value in bad.items():
        yield from bad_calls(remote, path, value)
    for path in ("/gen_err", "/teapot_late"):
        yield from bad_calls(remote, path, 1)
    yield "bad filter", lambda: run(lambda: gathered(remote("/str").astream_log(1, include_tags=1)))
    yield "a set", lambda: remote("/add_one").invoke({1})
    yield "a key that is no text", lambda: remote("/add_one").invoke({1: 2})
    yield "odd metadata", lambda: remote("/add_one").invoke(1, {"metadata": {"x": object()}})
    yield "too few configs", lambda: remote("/add_one").batch([1, 2], [{}])
    yield "nobody there", lambda: remote("/x", base="http://127.0.0.1:1").invoke(1)
    yield "nobody there to stream", lambda: list(remote("/x", base="http://127.0.0.1:1").stream(1))


def bad_calls(remote: Remote, path: str, value: Any) -> Iterator[Call]:
    both = [value, value]
    yield f"{path} bad invoke", lambda: remote(path).invoke(value)
    yield f"{path} bad batch", lambda: remote(path).batch(both)
    yield f"{path} returned", lambda: remote(path).batch(both, return_exceptions=True)
    yield f"{path} bad stream", lambda: read_until_error(remote(path).stream(value))
    yield f"{path} bad ainvoke", lambda: run(lambda: remote(path).ainvoke(value))
    yield f"{path} bad abatch", lambda: run(lambda: remote(path).abatch(both))
    yield f"{path} bad astream", lambda: run(lambda: until_error(remote(path).astream(value)))
    yield f"{path} bad log", lambda: run(lambda: until_error(remote(path).astream_log(value)))
    yield f"{path} bad events", lambda: run(lambda: until_error(remote(path).astream_events(value)))


def configs(remote: Remote) -> Iterator[Call]:
    """What crosses of a config, and what does not."""
    seen = {**BYE, "recursion_limit": 7, "max_concurrency": 3, "run_name": "mine"}
    objects = {"configurable": {"session": object(), "history": [object()], "k": {"o": object()}}}
    yield "configured", lambda: remote("/conf").invoke({"name": "x"}, BYE)
    yield "configured batch", lambda: remote("/conf").batch([{"name": "x"}] * 2, [BYE, {}])
    yield "configured stream", lambda: list(remote("/conf").stream({"name": "x"}, BYE))
    yield "disallowed", lambda: remote("/conf_no").invoke({"name": "x"}, BYE)
    for path in ("/cfg", "/keys", "/mod", "/fields_keys"):
        yield from seen_by(remote, path, seen)
    yield "objects", lambda: remote("/cfg").invoke(1, objects)
    yield "a run id", lambda: remote("/keys").invoke(1, {"run_id": uuid.UUID(int=7)})
    yield (
        "a run id as text",
        lambda: list(remote("/keys").stream(1, {"run_id": str(uuid.UUID(int=7))})),
    )
    yield "unknown keys", lambda: remote("/cfg").invoke(1, {"foo": 1})
    yield (
        "hash",
        lambda: remote(
            "/conf/c/N4Igxg9gdgZglgcwK4CcCGAjANgUxALgAJQAXHAWwAcs0yDCQMBPHYgdwAsIBfEb7oA"
        ).invoke({"who": "x"}),
    )


def seen_by(remote: Remote, path: str, config: dict[str, Any]) -> Iterator[Call]:
    yield f"seen by {path}", lambda: remote(path).invoke(1, config)
    yield f"seen by {path} in a batch", lambda: remote(path).batch([1, 2], config)
    yield f"seen by {path} in a stream", lambda: list(remote(path).stream(1, config))


def compositions(remote: Remote) -> Iterator[Call]:
    """A remote within LangChain's own runnables, and its own lesser methods."""

    def one(path: str = "/add_one") -> Any:
        return remote(path)

    yield "pipe", lambda: (one() | (lambda x: x * 2)).invoke(3)
    yield "pipe batch", lambda: (one() | (lambda x: x * 2)).batch([3, 4])
    yield "pipe stream", lambda: list((one("/str") | (lambda x: x.upper())).stream(QUESTION))
    yield "pipes", lambda: (one() | one() | RunnableLambda(str)).invoke(1)
    yield "async pipe", lambda: run(lambda: (one() | one()).ainvoke(1))
    yield "with_config", lambda: one("/keys").with_config({"tags": ["z"]}).invoke(1)
    yield "with_retry", lambda: one().with_retry(stop_after_attempt=2).invoke(1)
    yield "with_fallbacks", lambda: one("/boom").with_fallbacks([one()]).invoke(1)
    yield "with_types", lambda: one().with_types(input_type=int).invoke(1)
    yield "parallel", lambda: RunnableParallel(a=one(), b=one() | one()).invoke(1)
    yield "async parallel", lambda: run(lambda: RunnableParallel(a=one(), b=one()).ainvoke(1))
    yield "map", lambda: one().map().invoke([1, 2])
    yield "pick", lambda: list(one("/extra_out").pick("b").stream(1))
    yield "assign", lambda: one("/extra_out").assign(c=lambda x: x["a"]).invoke(1)
    yield "transform", lambda: list(one().transform(iter([1, 2])))
    yield "completed", lambda: sorted(one().batch_as_completed([1, 2, 3]))
    yield "bound invoke", lambda: one().bind(stop=1).invoke(1)
    yield "bound stream", lambda: list(one().bind(stop=1).stream(1))
    yield "kwargs", lambda: one().batch([], k=1)
    yield "no inputs", lambda: [one().batch([]), run(lambda: one().abatch([]))]
    yield (
        "within a lambda",
        lambda: RunnableLambda(lambda x: remote("/add_one").invoke(x)).invoke(1),
    )
    yield (
        "events of a chain",
        lambda: run(lambda: gathered(chain(one("/str")).astream_events(QUESTION, version="v2"))),
    )
    yield "log of a chain", lambda: run(lambda: gathered(chain(one("/str")).astream_log(QUESTION)))
    yield "history", lambda: with_history(one("/model"))
    yield (
        "schema",
        lambda: [
            one().get_name(),
            one().get_input_schema().model_json_schema(),
            one().config_schema().model_json_schema(),
        ],
    )


def chain(remote: Runnable[Any, Any]) -> Runnable[Any, Any]:
    before: Runnable[Any, Any] = RunnableLambda(lambda x: x).with_config(run_name="before")
    return before | remote | RunnableLambda(str.upper).with_config(run_name="after")


def with_history(remote: Runnable[Any, Any]) -> Any:
    stored = InMemoryChatMessageHistory()
    chat = RunnableWithMessageHistory(remote, lambda session_id: stored)  # noqa: ARG005 - LangChain's name
    config: Any = {"configurable": {"session_id": "s"}}
    first = chat.invoke([HumanMessage("one")], config)
    second = chat.invoke([HumanMessage("two")], config)
    return [first, second, [message.content for message in stored.messages]]


def callbacks(remote: Remote) -> Iterator[Call]:
    """What the caller's callbacks hear."""
    paths = {"/add_one": 1, "/str": QUESTION, "/chat": QUESTION, "/boom": 1, "/count": 3}
    for path, value in {**paths, "/gen_none": 1, "/gen_err": 1}.items():
        yield from heard_of(remote, path, value)


def heard_of(remote: Remote, path: str, value: Any) -> Iterator[Call]:
    calls: dict[str, Callable[[dict[str, Any]], Any]] = {
        "invoke": lambda config: remote(path).invoke(value, config),
        "batch": lambda config: remote(path).batch([value, value], config),
        "stream": lambda config: list(remote(path).stream(value, config)),
        "ainvoke": lambda config: run(lambda: remote(path).ainvoke(value, config)),
        "abatch": lambda config: run(lambda: remote(path).abatch([value], config)),
        "astream": lambda config: run(lambda: gathered(remote(path).astream(value, config))),
        "log": lambda config: run(lambda: gathered(remote(path).astream_log(value, config))),
        "events": lambda config: run(lambda: gathered(remote(path).astream_events(value, config))),
    }
    for name, call in calls.items():
        yield f"heard of {name} of {path}", functools.partial(heard, call)


def heard(call: Callable[[dict[str, Any]], Any]) -> Any:
    handler = Heard()
    with contextlib.suppress(httpx.HTTPStatusError):
        call({"callbacks": [handler], "tags": ["t"], "run_name": "mine"})
    return handler.events


def masked(text: str, base: str) -> str:
    return TIME.sub("TIME", ID.sub("ID", text.replace(base, "BASE")))


def found(call: Callable[[], Any]) -> Any:
    try:
        return shown(call())
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is compared
        return shown_error(error)


if __name__ == "__main__":
    sys.tracebacklimit = 1  # a failure here must not print LangServe's source
    warnings.simplefilter("ignore")
    logging.disable()
    # LangServe's client closes itself by a pool of threads, and one that the collector finds while
    # another pool begins a thread would wait for itself.
    gc.disable()
    package, url = sys.argv[1:]
    kind = importlib.import_module(package).RemoteRunnable
    shared = ssl.create_default_context()  # to make one takes longer than most calls

    def remote(path: str, *, base: str = url, timeout: float = TIMEOUT_S) -> Any:
        return kind(f"{base}{path}", timeout=timeout, verify=shared)

    parts = (methods, logs, refusals, configs, compositions, callbacks)
    calls = {name: call for part in parts for name, call in part(remote)}
    print(masked(json.dumps({name: found(call) for name, call in calls.items()}), url))  # noqa: T201 - it is what the test reads
