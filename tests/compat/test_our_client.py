"""Our Python client does what LangServe's does, at LangServe's server and at ours.

Both make the same calls (`our_client.py`), each in its own interpreter, LangServe's as a black box.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeAlias, cast

import anyio
import anyio.to_thread
import pytest

from compat.leave_app import LEAVE_S
from compat.server import search_path
from locktender import RemoteRunnable

CLIENT = Path(__file__).with_name("our_client.py")
CALLS_S = 600
# Differences of the servers that docs/compatibility.md lists, and `test_exchange` compares.
LISTED = {
    "assign",  # outputs are sent whole
    "seen by /mod in a batch",  # a modifier has its way in batch
    # Keys of `configurable` that nobody has declared reach the run.
    *("objects", "unknown keys"),
    *(
        f"seen by {path}{how}"
        for path in ("/cfg", "/fields_keys")
        for how in ("", " in a batch", " in a stream")
    ),
}

Found: TypeAlias = dict[str, Any]
Ask: TypeAlias = Callable[[str, int], Found]


@pytest.fixture(scope="module")
def ask(peer_python: Path) -> Ask:
    """Give a function that returns what a package's client finds at a port; each is run once."""
    asked: dict[tuple[str, int], Found] = {}

    def found(package: str, port: int) -> Found:
        if (package, port) not in asked:
            asked[package, port] = _found(package, port, peer_python)
        return asked[package, port]

    return found


@pytest.mark.timeout(900)  # the first run installs LangServe
def test_our_client_finds_at_langserve_what_its_own_client_does(ask: Ask, peer_port: int) -> None:
    theirs, ours = ask("langserve", peer_port), ask("locktender", peer_port)
    assert _differences(theirs, ours) == {}
    assert len(ours) > 250
    print(f"compared {len(ours)} calls at LangServe's server")  # noqa: T201 - the suite is asked how many


@pytest.mark.timeout(900)  # as above
def test_our_client_finds_at_our_server_what_langserve_s_client_does(
    ask: Ask, our_port: int
) -> None:
    theirs, ours = ask("langserve", our_port), ask("locktender", our_port)
    assert _differences(theirs, ours) == {}
    print(f"compared {len(ours)} calls at our server")  # noqa: T201 - as above


@pytest.mark.timeout(900)  # as above
def test_our_client_finds_the_same_at_both_servers_wherever_no_error_is(
    ask: Ask, peer_port: int, our_port: int
) -> None:
    theirs, ours = ask("locktender", peer_port), ask("locktender", our_port)
    differing = {
        name
        for name in theirs
        if theirs[name] != ours[name] and not (_has_error(theirs[name]) or _has_error(ours[name]))
        if not _is_typed_prompt(theirs[name], ours[name])
    }
    assert differing <= LISTED


@pytest.fixture(params=["peer_port", "our_port"])
def base(request: pytest.FixtureRequest) -> str:
    """Where each of the two servers is."""
    return f"http://127.0.0.1:{request.getfixturevalue(request.param)}"


@pytest.mark.timeout(900)  # as above
def test_the_server_sees_at_once_that_a_stream_was_left(base: str) -> None:
    remote: RemoteRunnable[str, str] = RemoteRunnable(f"{base}/wait", timeout=LEAVE_S)
    closed = cast("Generator[str]", remote.stream("closed"))
    assert next(closed) == "begun"
    closed.close()
    assert _has_left(base, "closed")
    for chunk in remote.stream("broken off"):
        assert chunk == "begun"
        break
    assert _has_left(base, "broken off")


@pytest.mark.timeout(900)  # as above
async def test_the_server_sees_at_once_that_an_asynchronous_stream_was_left(base: str) -> None:
    remote: RemoteRunnable[str, str] = RemoteRunnable(f"{base}/wait", timeout=LEAVE_S)
    closed = cast("AsyncGenerator[str]", remote.astream("aclosed"))
    assert await anext(closed) == "begun"
    await closed.aclose()
    assert await anyio.to_thread.run_sync(_has_left, base, "aclosed")
    async for chunk in remote.astream("broken off async"):
        assert chunk == "begun"
        break
    assert await anyio.to_thread.run_sync(_has_left, base, "broken off async")
    async with anyio.create_task_group() as tasks:
        begun = anyio.Event()
        tasks.start_soon(_read_on, remote, begun)
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(_has_left, base, "cancelled")


@pytest.mark.timeout(900)  # as above
def test_one_remote_serves_one_loop_after_the_other(base: str) -> None:
    # LangServe's client fails here: its connections belong to the first loop.
    remote: RemoteRunnable[int, int] = RemoteRunnable(f"{base}/add_one", timeout=LEAVE_S)
    assert [asyncio.run(remote.ainvoke(n)) for n in range(3)] == [1, 2, 3]
    assert asyncio.run(remote.abatch([1, 2])) == [2, 3]


async def _read_on(remote: RemoteRunnable[str, str], begun: anyio.Event) -> None:
    async for _ in remote.astream("cancelled"):
        begun.set()


def _has_left(base: str, name: str) -> bool:
    remote: RemoteRunnable[str, bool] = RemoteRunnable(f"{base}/left", timeout=2 * LEAVE_S)
    return remote.invoke(name)


def _found(package: str, port: int, peer_python: Path) -> Found:
    python = peer_python if package == "langserve" else sys.executable
    finished = subprocess.run(
        [python, CLIENT, package, f"http://127.0.0.1:{port}"],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": search_path(package), "LANGSMITH_TRACING": "false"},
        text=True,
        timeout=CALLS_S,
    )
    assert finished.returncode == 0, finished.stderr
    found: Found = json.loads(finished.stdout.splitlines()[-1])
    return found


def _differences(theirs: Found, ours: Found) -> dict[str, tuple[Any, Any]]:
    assert theirs.keys() == ours.keys()
    return {
        name: (theirs[name], ours[name])
        for name in theirs
        if not _is_alike(theirs[name], ours[name])
    }


def _is_alike(theirs: Any, ours: Any) -> bool:
    """Whether both say the same; of errors, what a caller of LangServe's could have relied on."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if theirs.keys() == ours.keys() == {"error"}:
            return _is_alike_error(theirs["error"], ours["error"])
        return theirs.keys() == ours.keys() and all(
            _is_alike(theirs[key], ours[key]) for key in theirs
        )
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(_is_alike, theirs, ours))
    return bool(theirs == ours)


def _is_alike_error(theirs: Found, ours: Found) -> bool:
    kind = theirs["kinds"][0]
    if kind not in ours["kinds"] or theirs.get("status") != ours.get("status"):
        return False
    if kind in {"NotImplementedError", "TypeError"}:
        return True  # of our own words
    if theirs.get("body", "") is None:  # The body of a refused stream is read, and told.
        return bool(ours["text"] == f"{theirs['text']} for {ours['body']}")
    return bool(theirs["text"] == ours["text"] and theirs.get("body") == ours.get("body"))


def _is_typed_prompt(theirs: Any, ours: Any) -> bool:
    """Whether ours has a prompt value where theirs has lost its type."""
    name = "ChatPromptValueConcrete"
    return name in json.dumps(ours) and name not in json.dumps(theirs)


def _has_error(value: Any) -> bool:
    return any(key == "error" for key in _keys(value))


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if _is_list(value) else ():
        yield from _keys(item)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
