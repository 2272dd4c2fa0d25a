"""A LangSmith that is on for feedback and for nothing else: runs in the test are not traced."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from langsmith import Client

from harness.langsmith_twin import LangSmithTwin, langsmith_twin
from locktender.app import feedback

__all__ = ["langsmith"]


@pytest.fixture
def langsmith(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangSmithTwin]:
    """Give a LangSmith that feedback is sent to, put in its place as users' own tests do it."""
    with langsmith_twin() as twin:
        client = Client(twin.url, api_key="nobody", auto_batch_tracing=False)
        module = SimpleNamespace(Client=lambda: client)
        monkeypatch.setattr(feedback, "ls_client", module)
        monkeypatch.setattr(feedback, "tracing_is_enabled", lambda: True)
        yield twin
        client.close()
