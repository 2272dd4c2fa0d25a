"""Patches are LangChain's class as long as there is one, and add up to the same log."""

from typing import Any, cast

import pytest
from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.log_stream import RunLog, RunLogPatch

from harness.app_server import Serve
from locktender import RemoteRunnable, add_routes
from locktender.app.client_log import OwnPatch, find_patch_kind, patch_of, sum_patches
from locktender.core.errors import PeerError

START = {"op": "replace", "path": "", "value": {"streamed_output": [], "final_output": None}}
ADDED = [
    [
        {"op": "add", "path": "/streamed_output/-", "value": n},
        {"op": "replace", "path": "/final_output", "value": n},
    ]
    for n in range(3)
]


def test_a_patch_is_langchain_s() -> None:
    assert find_patch_kind() is RunLogPatch
    assert patch_of({"ops": [START]}, find_patch_kind()) == RunLogPatch(START)


def test_without_langchain_s_class_there_is_one_of_ours() -> None:
    for home in ("no_such_module", "json"):
        assert find_patch_kind(home) is OwnPatch
    one, other = OwnPatch(START), OwnPatch(*ADDED[0])
    assert (one + other).ops == [START, *ADDED[0]]
    assert sum_patches([one, other]) == one + other != one
    assert repr(OwnPatch({"op": "x"})) == "RunLogPatch({'op': 'x'})"


@pytest.mark.parametrize("event", [1, [], {}, {"ops": 1}, None])
def test_an_event_without_operations_is_a_breach(event: Any) -> None:
    with pytest.raises(ValueError, match="operations") as caught:
        patch_of(event, RunLogPatch)
    assert isinstance(caught.value, PeerError)


def test_the_sum_is_what_langchain_makes_of_the_patches_one_by_one() -> None:
    patches = [RunLogPatch(START), *(RunLogPatch(*ops) for ops in ADDED)]
    one_by_one: Any = patches[0]
    for patch in patches[1:]:
        one_by_one = one_by_one + patch
    total = sum_patches(patches)
    assert isinstance(total, RunLog)
    assert (total.ops, total.state) == (one_by_one.ops, one_by_one.state)
    assert total.state == {"streamed_output": [0, 1, 2], "final_output": 2}


def test_few_patches_need_no_sum() -> None:
    assert sum_patches([]) is None
    assert sum_patches([RunLogPatch(START)]) == RunLogPatch(START)


def test_patches_that_cannot_be_applied_are_put_together_as_they_are() -> None:
    nowhere = {"op": "add", "path": "/logs/model/streamed_output/-", "value": 1}
    for op in (nowhere, {"op": "shake"}, 3):
        total = sum_patches([RunLogPatch(START), RunLogPatch(cast("Any", op))])
        assert (type(total), total.ops) == (RunLogPatch, [START, op])


async def test_the_log_of_a_chain_with_a_tool_is_read(serve: Serve) -> None:
    @tool
    def double(number: int) -> int:
        """Return twice the number."""
        return 2 * number

    app = FastAPI()
    add_routes(app, RunnableLambda(lambda number: {"number": number}) | double, path="/run")
    remote: RemoteRunnable[int, int] = RemoteRunnable(f"{await serve(app)}/run")
    total = sum_patches([patch async for patch in remote.astream_log(3)])
    assert total.state["final_output"] == 6
    assert total.state["logs"]["double"]["type"] == "tool"
