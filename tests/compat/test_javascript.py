"""LangChain's JavaScript client works against us over a real socket, as against LangServe."""

import json
from typing import Any

import pytest

from compat.js.client import found_by_client, program

pytestmark = pytest.mark.timeout(900)  # the first run installs LangServe, and the client

HELLO = "Hello big world"
PLAIN = "500 Error: Internal Server Error"
OURS = '500 Error: {"detail":"Internal Server Error","message":"Internal Server Error"}'
EVENT = '{"status_code": 500, "message": "Internal Server Error"}'
# What the client throws otherwise; each has its row in docs/compatibility.md.
DIFFERENCES = {
    ("errors", "invoke"): "errors are JSON",
    ("errors", "batch"): "errors are JSON",
    ("errors", "badBatch"): "a bad input of a batch is named",
    ("empty", "invoke"): "outputs are sent whole",
    ("empty", "batch"): "outputs are sent whole",
}


@pytest.fixture(scope="module")
def found(our_port: int) -> dict[str, Any]:
    """What the client gets of us."""
    return found_by_client(our_port)


def given(found: dict[str, Any], group: str, call: str) -> Any:
    told = found[group][call]
    assert "gave" in told, told
    return told["gave"]


def thrown(found: dict[str, Any], call: str) -> str:
    message: str = found["errors"][call]["message"]
    return message


def test_numbers_come_back_from_every_call(found: dict[str, Any]) -> None:
    assert found["numbers"] == {
        "invoke": {"gave": 2},
        "batch": {"gave": [2, 3]},
        "stream": {"gave": [2]},
    }


def test_messages_come_back_as_messages(found: dict[str, Any]) -> None:
    assert given(found, "messages", "invoke") == ["AIMessage", HELLO]
    assert given(found, "messages", "batch") == [["AIMessage", HELLO]] * 2
    chunks = given(found, "messages", "stream")
    assert {kind for kind, _ in chunks} == {"AIMessageChunk"}
    assert "".join(text for _, text in chunks) == HELLO


def test_prompts_and_documents_come_back_as_themselves(found: dict[str, Any]) -> None:
    assert given(found, "prompts", "invoke")[0] == "ChatPromptValue"
    assert given(found, "documents", "invoke") == [["Document", "q"]]


def test_a_failure_is_thrown_without_its_text(found: dict[str, Any]) -> None:
    assert thrown(found, "invoke") == thrown(found, "batch") == OURS
    for call in ("stream", "late", "log", "events"):
        assert thrown(found, call) == EVENT
    assert "secret" not in json.dumps(found["errors"])


def test_a_run_without_an_output_gives_none(found: dict[str, Any]) -> None:
    assert given(found, "empty", "invoke") is None
    assert given(found, "empty", "batch") == [None, None]


def test_a_refusal_is_thrown_with_its_status(found: dict[str, Any]) -> None:
    assert thrown(found, "badInput").startswith('422 Error: {"detail":[{"type":"int_parsing"')
    assert thrown(found, "badBatch").startswith("422 Error: ")
    assert "status code 422" in thrown(found, "badStream")
    assert thrown(found, "refusal") == '418 Error: {"detail":"teapot 1"}'


def test_a_config_in_camel_case_is_read_where_it_is_known(found: dict[str, Any]) -> None:
    config = given(found, "configured", "camelCaseAllowed")["config"]
    assert (config["tags"], config["metadata"]["m"]) == (["t"], 1)
    assert config["recursion_limit"] == 25
    assert [output["a"] for output in given(found, "configured", "batch")] == ["changed", "A"]
    assert given(found, "configured", "kwargs") == [2, 3]


def test_a_caller_that_leaves_ends_its_run(found: dict[str, Any]) -> None:
    assert found["early"] == {
        "chunk": "begun",
        "threw": "AbortError",
        "hasLeft": True,
        "hasTimedOut": True,
    }


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("includeTypes", {"GenericFakeChatModel"}),
        ("includeNames", {"ChatPromptTemplate"}),
        ("includeTags", {"GenericFakeChatModel"}),
        ("excludeTypes", {"/chat", "GenericFakeChatModel"}),
        ("excludeNames", {"/chat", "ChatPromptTemplate"}),
        ("everything", {"/chat", "ChatPromptTemplate", "GenericFakeChatModel"}),
    ],
)
def test_events_are_filtered(found: dict[str, Any], filters: str, names: set[str]) -> None:
    watched = found["watched"][filters]
    assert {event["name"] for event in watched["events"]["gave"]} == names
    assert watched["log"]["gave"][0]["ops"][0]["value"]["final_output"][1] == HELLO


def test_the_client_finds_the_same_at_langserve(found: dict[str, Any], peer_port: int) -> None:
    # After a 500 it closes, and a call that takes the connection just then would fail.
    theirs = found_by_client(peer_port, "close")
    for group, call in DIFFERENCES:
        assert theirs[group].pop(call)["message"] == PLAIN
    ours = {
        group: {call: told for call, told in calls.items() if (group, call) not in DIFFERENCES}
        for group, calls in found.items()
    }
    assert ours == theirs


def test_without_node_it_is_said_what_is_missing() -> None:
    with pytest.raises(AssertionError, match="install Node 18 or later, with `no-such-node`"):
        program("no-such-node")
