"""Both packages, serving the same app."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compat.server import langserve_python, serving


@pytest.fixture(scope="session")
def peer_python() -> Path:
    """LangServe's interpreter; made once, then it is in the user's cache."""
    return langserve_python()


@pytest.fixture(scope="session")
def peer_port(peer_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port at which LangServe serves."""
    with serving(peer_python, "langserve", tmp_path_factory.mktemp("peer") / "log") as port:
        yield port


@pytest.fixture(scope="session")
def our_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What our server prints."""
    return tmp_path_factory.mktemp("ours") / "log"


@pytest.fixture(scope="session")
def our_port(our_log: Path) -> Iterator[int]:
    """The port at which we serve."""
    with serving(sys.executable, "locktender", our_log) as port:
        yield port
