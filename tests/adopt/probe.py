"""Models that notice whether two callers are inside at once."""

import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from langchain_core.language_models import LLM, BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import ConfigDict, Field
from starlette.testclient import TestClient

from locktender import add_routes

__all__ = [
    "Probe",
    "Probed",
    "ProbedChat",
    "ProbedMoved",
    "crowd",
    "crowd_at_a_route",
]

_WAIT_S = 0.05
_N_WAITS = 3


class Probe:
    """Who comes in first waits for a second, for a moment; later ones no longer do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met = threading.Event()
        self._n_inside = self._n_waits = 0
        self.n_calls = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._n_inside += 1
            self.n_calls += 1
            self.most = max(self.most, self._n_inside)
            if self._n_inside > 1:
                self._met.set()
            self._n_waits += 1
            is_waiting = self._n_waits <= _N_WAITS
        if is_waiting:
            self._met.wait(_WAIT_S)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1

    def __deepcopy__(self, memo: Any) -> "Probe":
        return self


class Probed(LLM):
    """A text model that is probed."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    probe: Probe = Field(default_factory=Probe, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "probed"

    def _call(self, prompt: str, *_arguments: Any, **_options: Any) -> str:
        with self.probe:
            return prompt


class ProbedChat(BaseChatModel):
    """A chat model that is probed."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    probe: Probe = Field(default_factory=Probe, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "probed"

    def _generate(self, messages: Any, *_arguments: Any, **_options: Any) -> ChatResult:
        with self.probe:
            message = AIMessage(str(messages[-1].content))
            return ChatResult(generations=[ChatGeneration(message=message)])


class ProbedMoved(ProbedChat):
    """One whose asynchronous method only moves the call to a thread."""

    async def _agenerate(self, messages: Any, *_arguments: Any, **_options: Any) -> ChatResult:
        import asyncio  # noqa: PLC0415 - as its users write it

        return await asyncio.to_thread(self._generate, messages)


def crowd(call: Any, n_callers: int = 16) -> list[BaseException]:
    """Call from many threads at once; return what was raised."""
    errors: list[BaseException] = []

    def one(n: int) -> None:
        try:
            call(f"text {n}")
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(n_callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def crowd_at_a_route(chain: Any, start: Callable[[], object]) -> list[BaseException]:
    """Serve a chain in an app that calls `start` when it begins, and call it as `crowd` does."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> Any:
        start()
        yield

    app = FastAPI(lifespan=lifespan)
    add_routes(app, chain, path="/x")
    with TestClient(app) as client:

        def call(text: str) -> None:
            client.post("/x/invoke", json={"input": text}).raise_for_status()

        return crowd(call)
