"""Answer the inputs of a batch as one request, of which only the first asks for room.

The batches of LangChain's chat models, each run as the calls of one outer request (`own_request`),
with a bound on how many there are at once.  Above it, `chat_model` says how one input is answered.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from pydantic import Field

from locktender.app.own_request import own_request, within

__all__ = ["BatchedChatModel"]


class BatchedChatModel(BaseChatModel):
    """A chat model whose batches are requests."""

    # Calls of one outer request, or one batch, at once.
    max_concurrency: int = Field(default=64, ge=1)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer all `inputs` as one request, of which only the first asks for room."""
        with own_request() as outer, within(outer):
            return super().batch(
                inputs,
                _bounded(config, len(inputs), self.max_concurrency),
                return_exceptions=return_exceptions,
                **kwargs,
            )

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer all `inputs` as one request, of which only the first asks for room."""
        with own_request() as outer, within(outer):
            return await super().abatch(
                inputs,
                _bounded(config, len(inputs), self.max_concurrency),
                return_exceptions=return_exceptions,
                **kwargs,
            )

    def batch_as_completed(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        """Do as `batch`, but give each answer with its index as soon as it is there."""
        configs = _bounded(config, len(inputs), self.max_concurrency)
        answers = super().batch_as_completed(inputs, configs, **kwargs)
        with own_request() as outer:
            while True:
                with within(outer):
                    answer = next(answers, None)
                if answer is None:
                    return
                yield answer

    async def abatch_as_completed(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[tuple[int, Any]]:
        """Do as `abatch`, but give each answer with its index as soon as it is there."""
        configs = _bounded(config, len(inputs), self.max_concurrency)
        answers = super().abatch_as_completed(inputs, configs, **kwargs)
        with own_request() as outer:
            while True:
                with within(outer):
                    answer = await anext(answers, None)
                if answer is None:
                    return
                yield answer


def _bounded(
    config: RunnableConfig | Sequence[RunnableConfig] | None, n_inputs: int, n_calls: int
) -> list[RunnableConfig]:
    """Have a batch begin no more runs than it may have calls, and use as many threads.

    LangChain's defaults are all inputs at once, and a handful of threads.
    """
    return [
        {**one, "max_concurrency": one.get("max_concurrency") or n_calls}
        for one in get_config_list(config, n_inputs)
    ]
