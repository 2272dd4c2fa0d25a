"""Models that do what a prompt says, and factories of them.

A prompt of ``visit PORT`` has the model call on the test, which listens there, and stand still
until it is let go; so a test knows which process is in a call, and for how long.
"""

import os
import socket
from collections.abc import Iterator
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import LLM, BaseChatModel, SimpleChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, GenerationChunk
from langchain_core.runnables import Runnable

from locktender.core.errors import QueueFull

__all__ = [
    "SampleChat",
    "SampleEmbeddings",
    "SampleLLM",
    "make_chat",
    "make_embeddings",
    "make_llm",
    "make_nothing",
    "make_plain_chat",
    "make_without_a_word",
    "make_wrongly",
]

LIMIT_S = 60


def visit(port: str) -> str:
    """Call on the test and wait for its word; return this process."""
    with socket.create_connection(("127.0.0.1", int(port)), LIMIT_S) as connection:
        connection.sendall(f"{os.getpid()}\n".encode())
        connection.recv(1)
    return str(os.getpid())


class SampleLLM(LLM):
    """Obeys."""

    n_inside: int = 0
    max_inside: int = 0

    @property
    def _llm_type(self) -> str:
        return "sample"

    def _call(
        self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> str:
        self.n_inside += 1
        self.max_inside = max(self.max_inside, self.n_inside)
        try:
            return self._obey(prompt, stop, kwargs)
        finally:
            self.n_inside -= 1

    def _obey(self, prompt: str, stop: list[str] | None, kwargs: dict[str, Any]) -> str:
        command, _, rest = prompt.partition(" ")
        match command:
            case "visit":
                return visit(rest)
            case "fail":
                raise ValueError(rest)
            case "refuse":
                raise QueueFull(rest, 7.0)
            case "exit":
                raise SystemExit(rest)
            case "crowd":
                return f"{os.getpid()} {self.max_inside}"
            case _:
                return f"{prompt} {stop} {kwargs}"

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        command, _, rest = prompt.partition(" ")
        if command == "drip":
            yield from drip(rest)
            return
        for word in prompt.split(" "):
            yield GenerationChunk(text=word, generation_info={"n": len(word)})
        if command == "fail":
            raise ValueError(rest)


def drip(port: str) -> Iterator[GenerationChunk]:
    """Yield a piece for each byte of the test's, and tell it of the end."""
    with socket.create_connection(("127.0.0.1", int(port)), LIMIT_S) as connection:
        connection.sendall(f"{os.getpid()}\n".encode())
        try:
            while connection.recv(1):
                yield GenerationChunk(text="drop")
        finally:
            connection.sendall(b"closed\n")


class SampleChat(BaseChatModel):
    """Answers with what it was told, a word at a time, and calls the tools that it is given."""

    @property
    def _llm_type(self) -> str:
        return "sample"

    def bind_tools(
        self, tools: Any, *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        names = [tool["function"]["name"] for tool in tools]
        return self.bind(names=names, choice=tool_choice, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        calls: list[Any] = [
            {"name": name, "args": {"choice": kwargs["choice"]}, "id": name}
            for name in kwargs.get("names", ())
        ]
        message = AIMessage(
            str(messages[-1].content),
            tool_calls=calls,
            response_metadata={"types": [message.type for message in messages]},
            usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        )
        generation = ChatGeneration(message=message, generation_info={"stop": stop})
        return ChatResult(generations=[generation], llm_output={"kwargs": kwargs})

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for word in str(messages[-1].content).split():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


class PlainChat(SimpleChatModel):
    """Knows neither streams nor tools."""

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _call(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> str:
        return str(messages[-1].content)


class SampleEmbeddings(Embeddings):
    """Embeds a text as its length, and the number of texts that came with it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[len(text) / 3, float(len(texts))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [len(text) / 3, -1.0]


def make_llm() -> SampleLLM:
    return SampleLLM()


def make_chat() -> BaseChatModel:
    return SampleChat()


def make_plain_chat() -> PlainChat:
    return PlainChat()


def make_embeddings() -> Embeddings:
    return SampleEmbeddings()


def make_nothing() -> SampleLLM:
    message = "no weights here"
    raise FileNotFoundError(message)


def make_wrongly() -> SampleLLM:
    return SampleChat()  # type: ignore[return-value] # this is what is wrong with it


def make_without_a_word():  # type: ignore[no-untyped-def] # noqa: ANN201 - as users write them
    return SampleLLM()
