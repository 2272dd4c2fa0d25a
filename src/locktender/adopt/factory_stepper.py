"""Run a LangChain model in an engine process: what `model.child` steps for a factory's replica.

The model is made and called in one thread of its own, one call at a time, while `step` passes on
what has come: a call that takes minutes does not stop the heartbeat.  A call that was cancelled
ends at its next chunk.  Calls and answers cross as lines of JSON, never pickled; their form is
written and read here, for both ends.  `factory` stands at the other one.
"""

import importlib
import importlib.util
import json
import logging
import sys
import threading
import time
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import (
    AIMessageChunk,
    BaseMessageChunk,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)
from langchain_core.runnables import RunnableBinding

from locktender.adopt.chat_prompt import refuse_forged
from locktender.core import errors
from locktender.core.errors import (
    CapacityError,
    ConfigError,
    ContextTooLong,
    EngineFailed,
    InvalidRequest,
    LocktenderError,
)
from locktender.core.request import Delta, FinishReason, GenerationRequest, TextInput
from locktender.model.engine import EngineSpec, Limits, Output

__all__ = [
    "KINDS",
    "FactoryStepper",
    "ModelFault",
    "read_chunk",
    "read_error",
    "read_generation",
    "read_vector",
]

_log = logging.getLogger("locktender.engine")

KINDS: Mapping[str, type] = {"chat": BaseChatModel, "embeddings": Embeddings, "llm": BaseLLM}
_AMPLE_TOKENS = 1 << 40  # what is counted here is calls
_POLL_S = 0.05  # between looks at the socket while the model has nothing to tell
_LINGER_S = 30.0  # that a cancelled call may take to end before the process is given up
_CLOSE_S = 1.0  # for the thread to end when nothing runs in it
_ERRORS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, LocktenderError)
}


class ModelFault(Exception):
    """What a model raised in its process: the name of its class, and its message."""


def write_generation(one: Generation) -> dict[str, Any]:
    """Return a generation, or a chunk of one, for an answer."""
    written: dict[str, Any] = {"info": one.generation_info}
    if isinstance(one, ChatGeneration):
        (written["message"],) = messages_to_dict([one.message])
    else:
        written["text"] = one.text
    return written


def read_generation(written: Mapping[str, Any]) -> Any:
    """Return the generation that `written` stands for."""
    if "text" in written:
        return Generation(text=written["text"], generation_info=written["info"])
    (message,) = messages_from_dict([written["message"]])
    return ChatGeneration(message=message, generation_info=written["info"])


def read_chunk(written: Mapping[str, Any]) -> GenerationChunk | ChatGenerationChunk:
    """Return the chunk that `written` stands for; what was written may be a whole generation."""
    if "text" in written:
        return GenerationChunk(text=written["text"], generation_info=written["info"])
    (message,) = messages_from_dict([written["message"]])
    if not isinstance(message, BaseMessageChunk):
        message = AIMessageChunk(**message.model_dump(exclude={"type"}))
    return ChatGenerationChunk(message=message, generation_info=written["info"])


def write_vector(vector: Sequence[float]) -> str:
    """Return an embedding exactly, and in half the room that its digits would take."""
    return b64encode(array("d", vector).tobytes()).decode("ascii")


def read_vector(written: str) -> list[float]:
    """Return the embedding that `written` stands for."""
    return array("d", b64decode(written)).tolist()


def write_error(error: BaseException) -> LocktenderError:
    """Return the error of a model as one that can cross: frames know a few kinds only."""
    if isinstance(error, InvalidRequest | ContextTooLong):
        return error
    written: dict[str, Any] = {"fault": _described(error)}
    if isinstance(error, LocktenderError):
        retry_after_s = getattr(error, "retry_after_s", None)
        written = {"code": error.code, "message": error.message, "retry_after_s": retry_after_s}
    return EngineFailed(json.dumps(written))


def read_error(error: EngineFailed) -> LocktenderError:
    """Return the error that `error` stands for; `error` itself where it stands for no other."""
    try:
        written = json.loads(error.message)
    except ValueError:
        return error
    if "fault" in written:
        failed = EngineFailed("The model failed at this call.")
        failed.__cause__ = ModelFault(written["fault"])
        return failed
    kind = _ERRORS.get(written["code"], EngineFailed)
    if issubclass(kind, CapacityError):
        return kind(written["message"], written["retry_after_s"])
    return kind(written["message"])


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _plain(value: Any) -> Any:
    """Return what JSON can hold of `value`: a number of numpy or torch is one, for instance."""
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else str(value)


@dataclass(slots=True, eq=False)
class _Call:
    """A call that the thread has not done with."""

    key: int
    asked: Mapping[str, Any]
    cancelled_at: float | None = None


# Gives the lines of the answer to what was asked.
_Answerer = Callable[[Mapping[str, Any]], Generator[dict[str, Any], None, None]]


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
        # From the thread: an output of a call, or None when it has done with the call.
        self._outputs: SimpleQueue[tuple[_Call, Output | None]] = SimpleQueue()
        made: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._live, args=(spec, made), name="model", daemon=True
        )
        self._thread.start()
        made.result()

    def add(self, key: int, request: GenerationRequest) -> None:
        if not isinstance(request.input, TextInput):
            message = "A factory's model takes calls as text only."
            raise InvalidRequest(message)
        call = self._unfinished[key] = _Call(key, json.loads(request.input.text))
        self._calls.put(call)  # Behind one that was cancelled and has not come to its end.

    def cancel(self, key: int) -> None:
        call = self._unfinished.get(key)
        if call is not None and call.cancelled_at is None:
            call.cancelled_at = time.monotonic()

    def step(self) -> Sequence[tuple[int, Output]]:
        outputs: list[tuple[int, Output]] = []
        for call, output in self._came():
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

    def _came(self) -> Iterator[tuple[_Call, Output | None]]:
        """Give what the thread has put out, after a short wait for it."""
        with suppress(Empty):
            yield self._outputs.get(timeout=_POLL_S)
            while True:
                yield self._outputs.get_nowait()

    def _check_lingering(self) -> None:
        """Raises: EngineFailed, the end of the process, if a call holds up those behind it."""
        now = time.monotonic()
        for call in self._unfinished.values():
            if call.cancelled_at is not None and now - call.cancelled_at > self._linger_s:
                message = f"A call was cancelled and did not end within {self._linger_s:g} s."
                raise EngineFailed(message)

    def _live(self, spec: EngineSpec, made: Future[None]) -> None:
        try:
            answer = _answerer(spec)
        except ConfigError as error:
            made.set_exception(error)
            return
        except BaseException as error:  # noqa: BLE001 - a boundary: a user's module may even exit
            _log.exception("the factory %s failed", spec.source)
            message = f"The factory {spec.source} failed: {_described(error)}"
            made.set_exception(ConfigError(message))
            return
        made.set_result(None)
        while (call := self._calls.get()) is not None:
            if call.cancelled_at is None:
                self._run(call, answer)
            self._outputs.put((call, None))
            del call  # Else what it asked would be kept until the next one.

    def _run(self, call: _Call, answer: _Answerer) -> None:
        # The first output says that the call was taken; its tokens are known to the model only.
        self._outputs.put((call, Delta(prompt_tokens=0)))
        try:
            with closing(answer(call.asked)) as lines:
                for line in lines:
                    if call.cancelled_at is not None:
                        return
                    text = json.dumps(line, default=_plain, separators=(",", ":"))
                    self._outputs.put((call, Delta(text + "\n", n_tokens=1)))
        except BaseException as error:  # noqa: BLE001 - a boundary: whatever it is belongs to the caller
            _log.exception("the model failed at a call")
            self._outputs.put((call, write_error(error)))
        else:
            self._outputs.put((call, Delta(finish_reason=FinishReason.STOP)))


def _answerer(spec: EngineSpec) -> _Answerer:
    """Make the model.  Raises: ConfigError, and whatever the factory raises."""
    model = _load_factory(spec.source)()
    kind = KINDS[str(spec.option("kind", ""))]
    if not isinstance(model, kind):
        message = f"The factory {spec.source} made a {type(model).__name__}, no {kind.__name__}."
        raise ConfigError(message)
    if isinstance(model, Embeddings):
        return partial(_embedded, model)
    return partial(_spoken, model)


def _load_factory(source: str) -> Callable[[], object]:
    place, _, name = source.rpartition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    factory: Callable[[], object] = attrgetter(name)(module)
    return factory


def _load_file(path: Path) -> ModuleType:
    # Under its own name, so that what lies beside it finds this very module; but a file that is
    # called like a module which is loaded already must not take its place.
    name = path.stem if path.stem not in sys.modules else f"factory_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        message = f"The file {path.name} is no Python module."
        raise ConfigError(message)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _embedded(model: Embeddings, asked: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
    texts = asked["texts"]
    if asked["call"] == "embed_query":
        vectors = [model.embed_query(text) for text in texts]
    else:
        vectors = model.embed_documents(texts)
    yield {"vectors": [write_vector(vector) for vector in vectors]}


def _spoken(model: Any, asked: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
    """Give the chunks of a model that streams, or else its whole answer as one."""
    model, kwargs = _with_tools(model, dict(asked["kwargs"]))
    options = {"stop": asked["stop"], **kwargs}
    is_chat = isinstance(model, BaseChatModel)
    is_stream = asked["call"] == "stream"
    prompts = messages_from_dict(asked["messages"]) if is_chat else asked["prompts"]
    if is_chat:
        refuse_forged(model, prompts)
    if is_stream and _can_stream(model):
        chunks = model._stream(prompts if is_chat else prompts[0], **options)  # noqa: SLF001 - the model is a part of this one
        with closing(chunks) if hasattr(chunks, "close") else nullcontext():
            yield from map(write_generation, chunks)
        return
    result = model._generate(prompts, **options)  # noqa: SLF001 - as above
    rows = [result.generations] if is_chat else result.generations
    if is_stream:
        yield write_generation(rows[0][0])
        return
    written = [[write_generation(one) for one in row] for row in rows]
    yield {"generations": written, "llm_output": result.llm_output}


def _can_stream(model: BaseChatModel | BaseLLM) -> bool:
    plain = BaseChatModel if isinstance(model, BaseChatModel) else BaseLLM
    return type(model)._stream is not plain._stream  # noqa: SLF001 - how LangChain finds out, too


def _with_tools(model: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the model and the arguments that its own `bind_tools` makes of `kwargs`."""
    if not kwargs.get("tools") or not isinstance(model, BaseChatModel):
        return model, kwargs
    try:
        bound = model.bind_tools(**kwargs)
    except NotImplementedError as error:
        message = f"The model {type(model).__name__} takes no tools."
        raise InvalidRequest(message, "tools") from error
    if not isinstance(bound, RunnableBinding):
        message = f"The tools of a {type(model).__name__} cannot be used from another process."
        raise InvalidRequest(message, "tools")
    return bound.bound, dict(bound.kwargs)
