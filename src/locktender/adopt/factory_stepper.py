"""Run a LangChain model in an engine process: what `model.child` steps for a factory's replica.

The model is made, and called, in one thread of its own, one call at a time, while `step` passes on
what has come: a call that takes minutes keeps the heartbeat going.  A call that was cancelled ends
at its next chunk.  Calls and answers cross as lines of JSON, written and read here for both sides,
so that what crosses can only ever be data.  `factory` stands at the other end.
"""

import json
import logging
import threading
import time
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)

from locktender.core.errors import ConfigError, EngineFailed, InvalidRequest
from locktender.core.request import Delta, FinishReason, GenerationRequest, TextInput
from locktender.model.engine import EngineSpec, Limits, Output

__all__ = ["KINDS", "FactoryStepper", "read_generation", "read_vector", "write_messages"]

_log = logging.getLogger("locktender.engine")

KINDS: Mapping[str, type] = {"chat": BaseChatModel, "embeddings": Embeddings, "llm": BaseLLM}
_AMPLE_TOKENS = 1 << 40  # what is counted here is calls
_POLL_S = 0.05  # between looks at the socket while the model has nothing to tell
_LINGER_S = 30.0  # that a cancelled call may take to end before the process is given up
_CLOSE_S = 1.0  # for the thread to end when nothing runs in it


def write_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Return messages as JSON has them, their own values unchecked."""
    return messages_to_dict(messages)


def write_generation(one: Generation) -> dict[str, Any]:
    """Return a generation, or a chunk of one, as JSON has it."""
    written: dict[str, Any] = {"info": one.generation_info}
    if isinstance(one, ChatGeneration):
        (written["message"],) = messages_to_dict([one.message])
    else:
        written["text"] = one.text
    return written


def read_generation(written: Mapping[str, Any], *, is_chunk: bool = False) -> Any:
    """Return the generation that `written` stands for."""
    info = written["info"]
    if "text" in written:
        return (GenerationChunk if is_chunk else Generation)(
            text=written["text"], generation_info=info
        )
    (message,) = messages_from_dict([written["message"]])
    if not is_chunk:
        return ChatGeneration(message=message, generation_info=info)
    if isinstance(message, AIMessage) and not isinstance(message, AIMessageChunk):
        message = AIMessageChunk(**message.model_dump(exclude={"type"}))
    return ChatGenerationChunk(message=message, generation_info=info)


def write_vector(vector: Sequence[float]) -> str:
    """Return the floats of an embedding, exactly, in half the room of their digits."""
    return b64encode(array("d", vector).tobytes()).decode("ascii")


def read_vector(written: str) -> list[float]:
    """Return the floats that `written` stands for."""
    return array("d", b64decode(written)).tolist()


@dataclass(slots=True, eq=False)
class _Call:
    """A call that the thread has not done with."""

    key: int
    asked: Mapping[str, Any]
    cancelled_at: float | None = None


class FactoryStepper:
    """One instance of a factory's model.

    The source of its spec is the factory, ``module:name`` or ``file.py:name``; its options are
    `kind`, one of `KINDS`, and `linger_s`.  Raises: ConfigError for a factory that gives no model.
    """

    limits = Limits(max_running=1, context_tokens=_AMPLE_TOKENS, kv_tokens=_AMPLE_TOKENS)

    def __init__(self, spec: EngineSpec) -> None:
        self._linger_s = float(spec.option("linger_s", _LINGER_S))
        self._unfinished: dict[int, _Call] = {}
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        # From the thread: an output of a call, or None when the thread has done with it.
        self._outputs: SimpleQueue[tuple[_Call, Output | None]] = SimpleQueue()
        made: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._live, args=(spec, made), name="model", daemon=True
        )
        self._thread.start()
        made.result()

    def add(self, key: int, request: GenerationRequest) -> None:
        if not isinstance(request.input, TextInput):
            message = "A factory's model takes calls that are text."
            raise InvalidRequest(message)
        call = _Call(key, json.loads(request.input.text))
        self._unfinished[key] = call
        # While one that was cancelled comes to its end, this one waits in the queue.
        self._calls.put(call)

    def cancel(self, key: int) -> None:
        call = self._unfinished.get(key)
        if call is not None and call.cancelled_at is None:
            call.cancelled_at = time.monotonic()

    def step(self) -> Sequence[tuple[int, Output]]:
        came = []
        with suppress(Empty):
            came.append(self._outputs.get(timeout=_POLL_S))
            while True:
                came.append(self._outputs.get_nowait())
        outputs: list[tuple[int, Output]] = []
        for call, output in came:
            if output is None:
                del self._unfinished[call.key]
            elif call.cancelled_at is None:
                outputs.append((call.key, output))
        self._check_lingering()
        return outputs

    def has_work(self) -> bool:
        return bool(self._unfinished)

    def close(self) -> None:
        for key in self._unfinished:
            self.cancel(key)
        self._calls.put(None)
        self._thread.join(_CLOSE_S)

    def _check_lingering(self) -> None:
        """Raises: EngineFailed, which ends the process, for a call that holds up the next ones."""
        now = time.monotonic()
        for call in self._unfinished.values():
            if call.cancelled_at is not None and now - call.cancelled_at > self._linger_s:
                message = f"The model did not end a call within {self._linger_s:g} s of its cancel."
                raise EngineFailed(message)

    def _live(self, spec: EngineSpec, made: Future[None]) -> None:
        try:
            answer = _answerer(spec)
        except BaseException as error:  # noqa: BLE001 - a boundary: `__init__` waits for it
            made.set_exception(error)
            return
        made.set_result(None)
        while (call := self._calls.get()) is not None:
            self._run(call, answer)
            self._outputs.put((call, None))

    def _run(self, call: _Call, answer: "_Answerer") -> None:
        if call.cancelled_at is not None:
            return
        # The first output says that the call was taken; tokens are not known of every model.
        self._outputs.put((call, Delta(prompt_tokens=0)))
        lines = answer(call.asked)
        try:
            for line in lines:
                if call.cancelled_at is not None:
                    return
                written = json.dumps(line, default=_plain, separators=(",", ":"))
                self._outputs.put((call, Delta(written + "\n", n_tokens=1)))
            self._outputs.put((call, Delta(finish_reason=FinishReason.STOP)))
        except BaseException as error:  # noqa: BLE001 - a boundary: whatever it is belongs to the caller
            _log.exception("the model failed at a call")
            self._outputs.put((call, _crossing(error)))
        finally:
            lines.close()


# Gives the lines of the answer to a call.
_Answerer = Callable[[Mapping[str, Any]], Any]


def _answerer(spec: EngineSpec) -> _Answerer:
    """Make the model.  Raises: ConfigError."""
    factory = _load_factory(spec.source)
    try:
        model = factory()
    except Exception as error:
        message = f"The factory {spec.source} failed: {_described(error)}"
        raise ConfigError(message) from error
    kind = str(spec.option("kind", ""))
    if not isinstance(model, KINDS[kind]):
        found = type(model).__name__
        message = f"The factory {spec.source} made a {found}, which is no {KINDS[kind].__name__}."
        raise ConfigError(message)
    answers = _embedded if kind == "embeddings" else _streamed_or_generated
    return lambda asked: answers(model, asked)
