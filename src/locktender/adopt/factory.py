"""Be a LangChain model whose calls run in processes, each with an instance of its own.

The instances are made there, by a factory of the user's, which must therefore be importable; which
kind of model it gives is read from its annotation, so that none has to be made here.  What is here
are the models that stand for them in a chain.  `factory_crew` has the processes and the gate in
front of them, `factory_stepper` what runs in each and how calls and answers are written.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, get_type_hints

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, BaseMessage, messages_to_dict
from langchain_core.outputs import ChatResult, LLMResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from locktender.adopt.factory_crew import Crew, CrewSettings
from locktender.adopt.factory_stepper import KINDS, read_chunk, read_generation, read_vector
from locktender.app.completion import cancelled_with
from locktender.app.own_request import own_request, within
from locktender.core.errors import ConfigError, InvalidRequest
from locktender.core.scope import outer_request

__all__ = [
    "Bounds",
    "Kind",
    "Replicated",
    "ReplicatedChat",
    "ReplicatedEmbeddings",
    "ReplicatedLLM",
    "replicated",
]

Kind: TypeAlias = Literal["llm", "chat", "embeddings"]
_MAX_TEXTS = 512  # embedded in one call; the answer must fit a frame


class Bounds(TypedDict, total=False):
    """The bounds of the gate in front of the processes."""

    max_waiting: int  # calls, beside those that run: 64
    max_wait_s: float  # for a free process: 60
    timeout_s: float  # of a call, where its caller names no limit: 600
    start_timeout_s: float  # for a model to be made: 300


class ReplicatedModel:
    """The methods of a language model whose calls run in processes."""

    crew: Crew

    @property
    def _llm_type(self) -> str:
        return "locktender-replicated"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"factory": self.crew.settings.source}

    def start(self) -> None:
        """Start the processes now and wait for them.  Raises: ConfigError, EngineStartError."""
        self.crew.start()

    async def agenerate(self, *arguments: Any, **options: Any) -> LLMResult:
        """Answer; the task is cancelled, as LangChain takes a cancelled call for an answer."""
        with cancelled_with(outer_request.get(), asyncio.current_task()):
            result: LLMResult = await super().agenerate(*arguments, **options)  # type: ignore[misc] # LangChain's class comes behind this one
            return result

    def batch(self, *arguments: Any, **options: Any) -> list[Any]:
        """Answer all inputs as one request, of which only the first asks for room."""
        with own_request() as outer, within(outer):
            answers: list[Any] = super().batch(*arguments, **options)  # type: ignore[misc] # as above
            return answers

    async def abatch(self, *arguments: Any, **options: Any) -> list[Any]:
        """Answer all inputs as one request, of which only the first asks for room."""
        with own_request() as outer, within(outer):
            answers: list[Any] = await super().abatch(*arguments, **options)  # type: ignore[misc] # as above
            return answers

    def _generate(
        self,
        prompts: Any,
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> Any:
        asked = _asked("generate", stop, kwargs, **self._subject(prompts))
        return self._result(*self.crew.iterate(asked, is_stream=False))

    async def _agenerate(
        self,
        prompts: Any,
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> Any:
        asked = _asked("generate", stop, kwargs, **self._subject(prompts))
        lines = [line async for line in self.crew.aiterate(asked, is_stream=False)]
        return self._result(*lines)

    def _stream(
        self,
        prompt: Any,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        asked = _asked("stream", stop, kwargs, **self._subject(prompt))
        with closing(self.crew.iterate(asked, is_stream=True)) as lines:
            for line in lines:
                chunk = read_chunk(json.loads(line))
                if run_manager is not None:  # Of a chat model LangChain tells it itself.
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        prompt: Any,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        asked = _asked("stream", stop, kwargs, **self._subject(prompt))
        async with aclosing(self.crew.aiterate(asked, is_stream=True)) as lines:
            async for line in lines:
                chunk = read_chunk(json.loads(line))
                if run_manager is not None:  # As above.
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _subject(self, prompts: Any) -> dict[str, Any]:
        """Return what the call is about, as it is sent."""
        raise NotImplementedError

    def _result(self, line: str) -> Any:
        """Return the answer that `line` stands for."""
        raise NotImplementedError


class ReplicatedLLM(ReplicatedModel, BaseLLM):
    """A text model whose calls run in processes.  The prompts of one batch go to one process."""

    crew: Crew = Field(exclude=True, repr=False)

    def _subject(self, prompts: Sequence[str] | str) -> dict[str, Any]:
        return {"prompts": [prompts] if isinstance(prompts, str) else prompts}

    def _result(self, line: str) -> LLMResult:
        written = json.loads(line)
        rows = [[read_generation(one) for one in row] for row in written["generations"]]
        return LLMResult(generations=rows, llm_output=written["llm_output"])


class ReplicatedChat(ReplicatedModel, BaseChatModel):  # type: ignore[misc] # LangChain calls it with messages, by position
    """A chat model whose calls run in processes.  It takes tools where the factory's model does."""

    crew: Crew = Field(exclude=True, repr=False)

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """Have the factory's model choose among `tools`; its own `bind_tools` is asked there."""
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _subject(self, prompts: Sequence[BaseMessage]) -> dict[str, Any]:
        return {"messages": messages_to_dict(prompts)}

    def _result(self, line: str) -> ChatResult:
        written = json.loads(line)
        (row,) = written["generations"]
        generations = [read_generation(one) for one in row]
        return ChatResult(generations=generations, llm_output=written["llm_output"])


class ReplicatedEmbeddings(Embeddings):
    """An embedding model whose calls run in processes.

    Many texts are embedded in several calls, one after another, which are one request to the gate.
    """

    def __init__(self, crew: Crew) -> None:
        self.crew = crew

    def start(self) -> None:
        """Start the processes now and wait for them.  Raises: ConfigError, EngineStartError."""
        self.crew.start()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed each of `texts`."""
        vectors = []
        with own_request() as outer, within(outer):
            for asked in _askeds(texts):
                vectors += _vectors(*self.crew.iterate(asked, is_stream=False))
        return vectors

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed each of `texts`."""
        vectors = []
        with own_request() as outer, within(outer):
            for asked in _askeds(texts):
                lines = [line async for line in self.crew.aiterate(asked, is_stream=False)]
                vectors += _vectors(*lines)
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Embed `text`."""
        asked = _asked("embed_query", None, {}, texts=[text])
        (vector,) = _vectors(*self.crew.iterate(asked, is_stream=False))
        return vector

    async def aembed_query(self, text: str) -> list[float]:
        """Embed `text`."""
        asked = _asked("embed_query", None, {}, texts=[text])
        lines = [line async for line in self.crew.aiterate(asked, is_stream=False)]
        (vector,) = _vectors(*lines)
        return vector


Replicated: TypeAlias = ReplicatedLLM | ReplicatedChat | ReplicatedEmbeddings


def replicated(
    factory: Callable[[], object],
    *,
    replicas: int,
    kind: Kind | None = None,
    **bounds: Unpack[Bounds],
) -> Replicated:
    """Return a model whose calls run in `replicas` processes, each with what `factory` gives there.

    No process is started before the first call, or `start` of what is returned; they end when it is
    collected.  Raises: ConfigError if `factory` cannot be found by another process, if it does not
    say what it returns and `kind` does not either, or for bounds that cannot work.
    """
    settings = CrewSettings(_source_of(factory), kind or _kind_of(factory), replicas, **bounds)
    crew = Crew(settings)
    match settings.kind:
        case "llm":
            return ReplicatedLLM(crew=crew)
        case "chat":
            return ReplicatedChat(crew=crew)
        case "embeddings":
            return ReplicatedEmbeddings(crew)
        case unknown:
            message = f"There is no kind of model {unknown!r}: use one of {', '.join(KINDS)}."
            raise ConfigError(message)


def _source_of(factory: Callable[[], object]) -> str:
    """Return where another process finds `factory`.  Raises: ConfigError."""
    name = getattr(factory, "__qualname__", "")
    module = sys.modules.get(getattr(factory, "__module__", None) or "")
    try:
        is_there = module is not None and attrgetter(name)(module) == factory
    except AttributeError:
        is_there = False
    if module is None or not is_there:
        called = name or type(factory).__name__
        message = (
            f"The factory {called!r} cannot be found by another process: it must be a function "
            "or a class at the top of a module, and no lambda."
        )
        raise ConfigError(message)
    return f"{_place_of(module)}:{name}"


def _place_of(module: ModuleType) -> str:
    """Return the name of a package's module, or the file of any other."""
    spec = module.__spec__
    if module.__package__:
        return spec.name if spec is not None else module.__name__  # not "__main__" of `python -m`
    file = getattr(module, "__file__", None)
    if file is not None and file.endswith(".py") and Path(file).is_file():
        return str(Path(file).absolute())
    if module.__name__ != "__main__":
        return module.__name__
    message = "A factory cannot be defined in an interactive session: put it into a module."
    raise ConfigError(message)


def _kind_of(factory: Callable[[], object]) -> str:
    """Return what kind of model `factory` says that it gives.  Raises: ConfigError."""
    made: object = factory
    if not isinstance(factory, type):
        try:
            made = get_type_hints(factory).get("return")
        except (NameError, TypeError):  # It names what only a type checker imports.
            made = None
    for kind, plain in KINDS.items():
        if isinstance(made, type) and issubclass(made, plain):
            return kind
    message = (
        f"The factory {factory.__qualname__!r} does not say what it returns: annotate it with a "
        "class of model, or pass `kind`."
    )
    raise ConfigError(message)


def _asked(call: str, stop: Sequence[str] | None, kwargs: Mapping[str, Any], **subject: Any) -> str:
    """Return a call as it is sent.  Raises: InvalidRequest for what JSON cannot hold."""
    try:
        for name, value in kwargs.items():
            if not _is_plain(value):
                message = f"`{name}` cannot be sent to another process: it is not plain JSON."
                raise InvalidRequest(message, name)
        return json.dumps({"call": call, **subject, "stop": stop, "kwargs": kwargs})
    except (TypeError, ValueError, RecursionError) as error:
        (name,) = subject
        message = f"The {name} cannot be sent to another process: {error}."
        raise InvalidRequest(message, name) from error


def _askeds(texts: Sequence[str]) -> Iterator[str]:
    for at in range(0, len(texts), _MAX_TEXTS):
        yield _asked("embed_documents", None, {}, texts=texts[at : at + _MAX_TEXTS])


def _is_plain(value: object) -> bool:
    match value:
        case dict():
            return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
        case list() | tuple():
            return all(map(_is_plain, value))
        case _:
            return value is None or isinstance(value, str | int | float | bool)


def _vectors(line: str) -> list[list[float]]:
    return [read_vector(vector) for vector in json.loads(line)["vectors"]]
