"""LangServe's own client, by whose callbacks our server's runs are heard of."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

CLIENT = Path(__file__).with_name("callback_client.py")
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def found(peer_python: Path, our_port: int) -> dict[str, Any]:
    return found_by_client(peer_python, our_port)


def found_by_client(python: Path, port: int) -> dict[str, Any]:
    finished = subprocess.run(
        [str(python), str(CLIENT), f"http://127.0.0.1:{port}"],
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    told: dict[str, Any] = json.loads(finished.stdout)
    return told


def names(told: dict[str, Any]) -> list[str]:
    return [name for name, _ in told["heard"]]


@pytest.mark.timeout(900)  # the first run installs LangServe
def test_it_hears_of_models_and_what_they_answered(found: dict[str, Any]) -> None:
    assert names(found["llm"]) == ["on_llm_start", "on_llm_end"]
    assert names(found["chat_calls"]) == ["on_chat_model_start", "on_llm_end"]
    assert "'name': 'f'" in found["chat_calls"]["heard"][-1][1]
    assert names(found["chat"])[-3:] == ["on_chat_model_start", "on_llm_end", "on_chain_end"]


@pytest.mark.timeout(900)  # as above
def test_it_hears_what_a_tool_gave_text_or_not(found: dict[str, Any]) -> None:
    assert found["tool"]["heard"][-1] == ["on_tool_end", "'x!'"]
    assert found["tool_any"]["heard"][-1] == ["on_tool_end", "{'a': [1]}"]


@pytest.mark.timeout(900)  # as above
def test_an_error_that_a_run_got_over_does_not_fail_its_call(found: dict[str, Any]) -> None:
    assert found["fallback"]["output"] == "2"
    assert found["tool_fallback"]["output"] == "'calm'"
    assert "on_chain_error" not in names(found["fallback"])


@pytest.mark.timeout(900)  # as above
def test_it_hears_of_values_that_json_does_not_know(found: dict[str, Any]) -> None:
    assert ["on_chain_end", "'<object>'"] in found["value_object"]["heard"]


@pytest.mark.timeout(900)  # as above
def test_it_hears_the_same_of_a_pure_chain_from_langserve_and_fails_at_the_rest_there(
    found: dict[str, Any], peer_python: Path, peer_port: int
) -> None:
    theirs = found_by_client(peer_python, peer_port)
    assert found["seq"] == theirs["seq"]
    assert found["tool"] == theirs["tool"]
    assert theirs["fallback"]["output"] == "TypeError"
    assert theirs["chat"]["output"] == "HTTPStatusError"
