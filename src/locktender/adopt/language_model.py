"""Stand before the methods of a language model that knows nothing of other callers.

What the model's class does, it does in its owner's thread, one call at a time; text models and
chat models alike.  A class that streams keeps streaming; one that does not is left to LangChain,
which then asks for the whole.  `pipeline_model` has what is known better of Hugging Face pipelines.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any

from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from locktender.adopt.heavy import owner_of
from locktender.adopt.relay import agenerated, astreamed, generated, streamed
from locktender.adopt.swap import plain_class
from locktender.app.completion import cancelled_with
from locktender.app.own_request import own_request, within
from locktender.core.scope import outer_request

__all__ = [
    "GuardedChat",
    "GuardedLLM",
    "LeftCalls",
    "OneRequestBatches",
    "StreamedChat",
    "StreamedLLM",
    "StreamedLlamaChat",
    "text_of",
]

Prompts = Sequence[str] | Sequence[BaseMessage]


class LeftCalls:
    """What is the same for all: a call whose caller leaves."""

    async def agenerate(self, *arguments: Any, **options: Any) -> LLMResult:
        """Answer, unless the caller of the outer request goes.

        It is this task that is cancelled then: LangChain takes a cancellation that comes out of
        `_agenerate` for an answer.
        """
        with cancelled_with(outer_request.get(), asyncio.current_task()):
            result: LLMResult = await plain_class(self).agenerate(self, *arguments, **options)
            return result


class GuardedModel(LeftCalls):
    """The methods of a `BaseLLM` or `BaseChatModel`."""

    def _generate(
        self,
        prompts: Any,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Any:
        plain = partial(self._plain_generate, prompts, stop, kwargs)
        return generated(owner_of(self), plain, run_manager, text_of(prompts))

    async def _agenerate(
        self,
        prompts: Any,
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Any:
        plain = partial(self._plain_generate, prompts, stop, kwargs)
        return await agenerated(owner_of(self), plain, run_manager, text_of(prompts))

    def _plain_generate(
        self, prompts: Prompts, stop: Any, kwargs: dict[str, Any], run_manager: Any
    ) -> Any:
        return plain_class(self)._generate(
            self, prompts, stop=stop, run_manager=run_manager, **kwargs
        )


class StreamedModel(GuardedModel):
    """The methods of one that streams."""

    def _stream(
        self,
        prompt: str | Sequence[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        plain = partial(self._plain_stream, prompt, stop, kwargs)
        return streamed(owner_of(self), plain, run_manager, text_of(prompt))

    def _astream(
        self,
        prompt: str | Sequence[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        plain = partial(self._plain_stream, prompt, stop, kwargs)
        return astreamed(owner_of(self), plain, run_manager, text_of(prompt))

    def _plain_stream(
        self,
        prompt: str | Sequence[BaseMessage],
        stop: Any,
        kwargs: dict[str, Any],
        run_manager: Any,
    ) -> Any:
        return plain_class(self)._stream(self, prompt, stop=stop, run_manager=run_manager, **kwargs)


class OneRequestBatches:
    """The batches of a model, whose inputs LangChain may call the model with all at once.

    They are one request, so that those beyond the gate's room wait instead of being refused.
    """

    def batch(self, *arguments: Any, **options: Any) -> Any:
        """Answer all inputs."""
        with own_request() as outer, within(outer):
            return plain_class(self).batch(self, *arguments, **options)

    async def abatch(self, *arguments: Any, **options: Any) -> Any:
        """Answer all inputs."""
        with own_request() as outer, within(outer):
            return await plain_class(self).abatch(self, *arguments, **options)

    def batch_as_completed(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """Do as `batch`, but give each answer with its index as soon as it is there."""
        answers = plain_class(self).batch_as_completed(self, *arguments, **options)
        with own_request() as outer:
            while True:
                with within(outer):
                    answer = next(answers, None)
                if answer is None:
                    return
                yield answer

    async def abatch_as_completed(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        """Do as `abatch`, but give each answer with its index as soon as it is there."""
        answers = plain_class(self).abatch_as_completed(self, *arguments, **options)
        with own_request() as outer:
            while True:
                with within(outer):
                    answer = await anext(answers, None)
                if answer is None:
                    return
                yield answer


class GuardedLLM(OneRequestBatches, GuardedModel):
    """The methods of a text model."""


class StreamedLLM(OneRequestBatches, StreamedModel):
    """The methods of a text model that streams."""


class GuardedChat(OneRequestBatches, GuardedModel):
    """The methods of a chat model."""


class StreamedChat(OneRequestBatches, StreamedModel):
    """The methods of a chat model that streams."""


class StreamedLlamaChat(StreamedChat):
    """Those of a `ChatLlamaCpp`, which forgets `stop` when it makes a whole of its stream."""

    def _plain_generate(
        self, prompts: Any, stop: Any, kwargs: dict[str, Any], run_manager: Any
    ) -> Any:
        if not getattr(self, "streaming", False):
            # Not `super()`: the methods are put into a class that is made of others.
            return StreamedChat._plain_generate(self, prompts, stop, kwargs, run_manager)
        return generate_from_stream(self._plain_stream(prompts, stop, kwargs, run_manager))


def text_of(prompts: str | Prompts) -> str:
    """Return what a call is charged for."""
    if isinstance(prompts, str):
        return prompts
    return "\n".join(
        str(prompt.content) if isinstance(prompt, BaseMessage) else prompt for prompt in prompts
    )
