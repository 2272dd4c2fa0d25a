"""LangServe's own Python client works against us over a real socket, as against LangServe."""

import json
import os
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from compat.server import search_path
from harness.shape import AS_JSON, DECLARED, HEADS, INPUTS, in_process, plain

CLIENT = Path(__file__).with_name("remote_client.py")
CALLS = {"invoke", "batch", "stream", "ainvoke", "abatch", "astream"}
HELLO = "Hello big world"


def found_by_client(python: Path, port: int) -> dict[str, Any]:
    finished = subprocess.run(
        [python, CLIENT, f"http://127.0.0.1:{port}"],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": search_path("langserve"), "LANGSMITH_TRACING": "false"},
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def found(peer_python: Path, our_port: int) -> dict[str, Any]:
    """What LangServe's client gets of us."""
    return found_by_client(peer_python, our_port)


@pytest.mark.timeout(900)  # the first run installs LangServe
def test_numbers_come_back_from_every_call(found: dict[str, Any]) -> None:
    assert found["numbers"] == {
        **dict.fromkeys(("invoke", "ainvoke"), 2),
        "batch": [2, 3],
        "abatch": [2, 3],
        "stream": [2],
        "astream": [2],
    }


@pytest.mark.timeout(900)  # as above
def test_messages_come_back_as_messages(found: dict[str, Any]) -> None:
    messages = found["messages"]
    assert messages.keys() == CALLS
    assert messages["invoke"] == messages["ainvoke"] == ["AIMessage", HELLO]
    assert messages["batch"] == messages["abatch"] == [["AIMessage", HELLO]] * 2
    assert messages["stream"] == messages["astream"]
    assert {kind for kind, _ in messages["stream"]} == {"AIMessageChunk"}
    assert "".join(text for _, text in messages["stream"]) == HELLO


@pytest.mark.timeout(900)  # as above
def test_strings_are_streamed_in_pieces(found: dict[str, Any]) -> None:
    assert found["strings"]["stream"] == ["Hello", " ", "big", " ", "world"]


@pytest.mark.timeout(900)  # as above
def test_an_error_is_raised_with_its_status_and_without_its_text(found: dict[str, Any]) -> None:
    errors = found["errors"]
    failed = ("invoke", "ainvoke", "batch", "stream", "astream", "late")
    assert {name: errors[name]["status"] for name in failed} == dict.fromkeys(failed, 500)
    assert all("Internal Server Error" in errors[name]["text"] for name in failed)
    assert (errors["bad input"]["status"], errors["bad input of a stream"]["status"]) == (422, 422)
    assert errors["refusal"]["status"] == 418
    assert "secret" not in json.dumps(errors)


@pytest.mark.timeout(900)  # as above
def test_a_client_s_config_arrives(found: dict[str, Any]) -> None:
    assert found["configured"] == {
        "invoke": "bye x",
        "batch": ["bye x"],
        "prompt": "ChatPromptValueConcrete",
        "sequence": "say x",
    }


@pytest.mark.timeout(900)  # as above
async def test_chains_of_each_make_give_it_what_they_give_in_process(found: dict[str, Any]) -> None:
    here = {(head, kind): await _in_process(head, kind) for head, kind in product(HEADS, INPUTS)}
    there = {(head, kind): found["shapes"][f"{head} {kind}"] for head, kind in here}
    differing = {shape for shape in here if here[shape] not in (None, there[shape])}
    assert len(there) >= 60
    listed = DECLARED.keys() | AS_JSON.keys()
    assert differing <= listed
    if os.environ.get("TEST_VERSIONS") != "floors":  # Those fail at some of them in process, too.
        assert differing == listed


@pytest.mark.timeout(900)  # as above
def test_the_client_finds_the_same_at_langserve(
    found: dict[str, Any], peer_python: Path, peer_port: int
) -> None:
    theirs = found_by_client(peer_python, peer_port)
    # What shapes give is compared by `test_exchange`; of a failure only the form differs: theirs is
    # plain text.
    for name in ("invoke", "ainvoke", "batch"):
        found["errors"][name].pop("text")
        theirs["errors"][name].pop("text")
    assert {**found, "shapes": None} == {**theirs, "shapes": None}


async def _in_process(head: str, kind: str) -> Any:
    """Return what a chain gives, or None for what it fails at, which may fail over HTTP, too."""
    try:
        return plain(await in_process(head, INPUTS[kind]))
    except Exception:  # noqa: BLE001 - chains raise what they like
        return None
