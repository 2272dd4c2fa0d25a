"""The OpenAPI document says what LangServe's says, is valid, and what it allows is answered."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from compat import document_app, fuzz
from compat.server import serving, starting
from harness.telling import Tell

N_CASES = 500  # `checks/test_document.py` sends more
# Models of LangServe's that we have no use for, and the other way round, by a part of their names:
# those of callback events, and of what a graph's config may hold.
THEIR_OWN = (
    *("On", "RootModel_Union", "Error", "LLMResult", "Generation", "ChatGeneration", "RunInfo"),
    *("BaseMessage", "langserve__"),
)
OUR_OWN = ("Configurable", "locktender__")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tried server prints."""
    return tmp_path_factory.mktemp("tried") / "log"


@pytest.fixture(scope="module")
def tried_port(log: Path) -> Iterator[int]:
    """The port at which the described app is served."""
    with serving(sys.executable, "locktender", log, app="compat.document_app") as port:
        yield port


@pytest.fixture(scope="module")
def described_ports(
    peer_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, int]]:
    """The ports of both packages; LangServe's schemas are others once it was asked for this."""
    folder = tmp_path_factory.mktemp("described")
    with (
        starting(peer_python, "langserve", folder / "theirs") as theirs,
        starting(sys.executable, "locktender", folder / "ours") as ours,
    ):
        yield theirs(), ours()


def operations(document: Any) -> dict[tuple[str, str], Any]:
    return {
        (path, method): (operation["operationId"], operation.get("tags"), operation["summary"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


@pytest.mark.timeout(900)  # the first run installs LangServe
def test_a_route_s_schemas_are_not_changed_by_the_document(
    described_ports: tuple[int, int],
) -> None:
    url = f"http://127.0.0.1:{described_ports[1]}"
    names = [f"/in/nested/{part}_schema" for part in ("input", "output", "config")]
    before = [httpx.get(f"{url}{name}").content for name in names]
    httpx.get(f"{url}/openapi.json", timeout=120).raise_for_status()
    assert [httpx.get(f"{url}{name}").content for name in names] == before


@pytest.mark.timeout(900)  # as above
def test_paths_ids_tags_and_models_have_langserve_s_names(
    described_ports: tuple[int, int],
) -> None:
    theirs, ours = (
        httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=120).json()
        for port in described_ports
    )
    assert operations(ours) == operations(theirs)
    assert ours["tags"] == [
        {**tag, "description": ours["tags"][n]["description"]} if "description" in tag else tag
        for n, tag in enumerate(theirs["tags"])
    ]
    their_models, our_models = (set(each["components"]["schemas"]) for each in (theirs, ours))
    assert [name for name in their_models - our_models if not name.startswith(THEIR_OWN)] == []
    assert [name for name in our_models - their_models if not _is_ours(name)] == []


def test_the_document_is_valid() -> None:
    document = json.loads(json.dumps(document_app.app.openapi(), allow_nan=False))
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_the_page_of_the_document_is_there(tried_port: int) -> None:
    answer = httpx.get(f"http://127.0.0.1:{tried_port}/docs", timeout=60)
    assert answer.status_code == 200
    assert "/openapi.json" in answer.text


def test_whatever_is_sent_is_answered_and_fails_only_in_the_runnable(
    tried_port: int, log: Path, tell: Tell
) -> None:
    tried = fuzz.try_out(tried_port, n_cases=N_CASES, is_same_each_time=True)
    tell(f"tried {tried.n_cases} requests: {dict(tried.statuses)}")
    n_theirs, others = fuzz.faults_in(log.read_text(encoding="utf-8"))
    assert others == []
    assert tried.n_cases >= N_CASES
    assert len(tried.failed) <= n_theirs


def _is_ours(name: str) -> bool:
    return any(part in name for part in OUR_OWN)
