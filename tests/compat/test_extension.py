"""Our client with extensions at a LangServe server: what it had without them, and nothing else."""

from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from locktender import RemoteRunnable


def remote_at(port: int, path: str) -> Any:
    return RemoteRunnable(f"http://127.0.0.1:{port}{path}", extensions=True)


@pytest.mark.timeout(900)  # the first run installs LangServe
async def test_langserve_is_spoken_to_in_its_own_language(peer_port: int) -> None:
    remote = remote_at(peer_port, "/add_one")
    assert remote.invoke(1) == 2
    assert await remote.abatch([1, 2]) == [2, 3]
    assert [chunk async for chunk in remote.astream(1)] == [2]
    talk = remote_at(peer_port, "/graph/talk").invoke({"messages": [HumanMessage("hi")]})
    assert talk["messages"][1].content == "HumanMessage hi"
    assert remote_at(peer_port, "/in/pair").invoke((1, {"x": 2})) == remote_at(
        peer_port, "/in/pair"
    ).invoke([1, {"x": 2}])


@pytest.mark.timeout(900)
async def test_what_langserve_would_pass_over_is_not_sent(peer_port: int) -> None:
    remote = remote_at(peer_port, "/add_one")
    with pytest.raises(NotImplementedError, match="stop"):
        remote.invoke(1, stop=["x"])
    with pytest.raises(NotImplementedError, match="stop"):
        async for _ in remote.astream(1, stop=["x"]):
            pass
    with pytest.raises(TypeError):
        remote_at(peer_port, "/in/any").invoke(b"bytes")


async def test_ours_carries_more(our_port: int) -> None:
    value = {"pair": (1, b"bytes"), "set": {1}}
    told = await remote_at(our_port, "/in/any").ainvoke(value)
    assert told == {"pair": ["tuple", "int:1", "bytes:b'bytes'"], "set": "set:{1}"}
