"""A chat model that answers as a test says, with tool calls and usage, streamed word by word."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable

USAGE = UsageMetadata(input_tokens=3, output_tokens=2, total_tokens=5)


class ScriptedModel(BaseChatModel):
    """Answers with what `script` makes of the messages."""

    script: Callable[[Sequence[BaseMessage]], AIMessage]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, *_: Any, **__: Any) -> Runnable[Any, AIMessage]:
        """Need no tools: the script knows them."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.script(messages))])

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return self._generate(messages)

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, run_manager: Any = None, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(self.script(messages)):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


def _chunks(answer: AIMessage) -> Iterator[ChatGenerationChunk]:
    for word in answer.text.split(" "):
        yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} ", id="answer"))
    last = AIMessageChunk(
        content="",
        id="answer",
        tool_calls=answer.tool_calls,
        usage_metadata=answer.usage_metadata,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)
