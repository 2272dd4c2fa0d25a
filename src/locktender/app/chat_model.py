"""Be a LangChain chat model that reaches a locktender model service over its wire.

Holds settings and nothing that is open: connections belong to event loops (`session`), exchanges to
calls (`completion`), so that the model may be copied, bound, configured and pickled.  What the
outer request carries (its id, deadline, tenant, trace and cancellation) is passed on with every
call.  A refusal of the service is raised as the typed error that it was there; a call whose outer
request was cancelled ends in `asyncio.CancelledError`, in whatever thread it waits.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable
from langchain_core.utils import from_env, secret_from_env
from pydantic import ConfigDict, Field, SecretStr, field_validator

from locktender.app.background import background
from locktender.app.chat_batch import BatchedChatModel
from locktender.app.chat_body import chat_messages, chat_settings, not_supported
from locktender.app.completion import cancelled_with, complete, stream, tokenize
from locktender.app.model_call import CHAT, TOKENIZE, Call
from locktender.app.token_count import count_chat
from locktender.core.errors import InvalidRequest
from locktender.core.scope import outer_request
from locktender.wire.header import parse_id
from locktender.wire.openai_answer import Answer

__all__ = ["ChatLocktender"]

_URL = "http://127.0.0.1:8001/v1"
# What may differ from call to call, and stands in the body under the same name.
_SETTINGS = ("temperature", "top_p", "seed", "max_tokens", "stop")
# What LangChain and its users pass to ask for what is done anyway.
_GRANTED = {"stream", "stream_usage"}
_COUNT_S = 60.0  # for tokens to be counted, where the model has no limit of its own


_key = secret_from_env("LOCKTENDER_API_KEY", default=None)


class ChatLocktender(BatchedChatModel):
    """A model of a locktender model service.

    Every answer carries its usage, its finish reason and the name of its model.  Room is asked once
    for each outer request, or batch: its first call is refused if there is none, and the others
    wait for theirs instead of being refused.  Settings that have no field here are `bind`'s, or
    stand in `model_kwargs`; the service refuses those that the model's engine does not obey.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = "smollm2"
    base_url: str = Field(default_factory=from_env("LOCKTENDER_BASE_URL", default=_URL))
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None  # new tokens
    stop: list[str] | str | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, gt=0)  # of one call; None: as the model allows
    api_key: SecretStr | None = Field(default_factory=_key)
    tenant: str | None = None  # whom calls are made for, where the outer request does not say

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, base_url: str) -> str:
        if not base_url.startswith(("http://", "https://")):
            message = "must begin with http:// or https://"
            raise ValueError(message)
        if base_url.rstrip("/").endswith(CHAT):
            message = f"must end before `{CHAT}`, which is put to it"
            raise ValueError(message)
        if "@" in base_url:
            message = "must hold no user name or password: it goes into logs; use `api_key`"
            raise ValueError(message)
        return base_url

    @field_validator("model_kwargs")
    @classmethod
    def _is_known(cls, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        for name in model_kwargs:
            if name in ("model", "timeout_s", *_SETTINGS):
                message = f"must not hold `{name}`, which is a field of its own"
                raise ValueError(message)
        try:
            return chat_settings(model_kwargs)
        except InvalidRequest as error:
            raise ValueError(error.message) from error

    @field_validator("tenant")
    @classmethod
    def _is_id(cls, tenant: str | None) -> str | None:
        if tenant is not None and parse_id(tenant) is None:
            message = "must be 1 to 128 visible ASCII characters"
            raise ValueError(message)
        return tenant

    @property
    def _llm_type(self) -> str:
        return "locktender"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """What the text of an answer depends on."""
        names = ("model", "base_url", "model_kwargs", *_SETTINGS)
        return {name: getattr(self, name) for name in names}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:  # noqa: ARG002 - LangChain's signature
        """Raise InvalidRequest."""
        raise not_supported("tools")

    def get_token_ids(self, text: str) -> list[int]:
        """Return the tokens of `text` by itself, of the served model's own tokenizer."""
        if self.custom_get_token_ids is not None or not text:
            return super().get_token_ids(text) if text else []
        return self._tokens({"prompt": text, "add_special_tokens": False})

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Return what these messages cost the served model, as an answer's usage says it."""
        if tools:
            raise not_supported("tools")
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(messages)
        return count_chat(self._tokens, chat_messages(messages))

    def _tokens(self, asked: Mapping[str, Any]) -> list[int]:
        call = self._call((), None, {})
        timeout_s = call.timeout_s or _COUNT_S
        return background.run(
            tokenize(replace(call, body=asked, path=TOKENIZE, timeout_s=timeout_s))
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> ChatResult:
        return _result(background.run(complete(self._call(messages, stop, kwargs))))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> ChatResult:
        return _result(await complete(self._call(messages, stop, kwargs)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        pieces = background.iterate(stream(self._call(messages, stop, kwargs)))
        with closing(pieces):
            for piece in pieces:
                yield _chunk(piece)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(stream(self._call(messages, stop, kwargs))) as pieces:
            async for piece in pieces:
                yield _chunk(piece)

    async def agenerate(
        self, messages: list[list[BaseMessage]], *arguments: Any, **options: Any
    ) -> LLMResult:
        """Answer each of `messages`, unless the caller of the outer request goes.

        It is this task that is cancelled then: LangChain takes a cancellation that comes out of
        `_agenerate` for an answer.
        """
        with cancelled_with(outer_request.get(), asyncio.current_task()):
            return await super().agenerate(messages, *arguments, **options)

    def _call(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> Call:
        """Put together what is sent.  Raises: InvalidRequest."""
        bound = {name: value for name, value in kwargs.items() if name not in _GRANTED}
        given = {**self.model_kwargs, **bound}
        if stop is not None:
            given["stop"] = stop
        settings = {name: given.pop(name, getattr(self, name)) for name in _SETTINGS}
        model, timeout_s = given.pop("model", self.model), given.pop("timeout_s", self.timeout_s)
        named = {name: value for name, value in settings.items() if value is not None}
        body = {**chat_settings(given), **named}
        return Call(
            base_url=self.base_url,
            model=model,
            body={"messages": chat_messages(messages), **body},
            timeout_s=timeout_s,
            outer=outer_request.get(),
            tenant=self.tenant,
            api_key=self.api_key.get_secret_value() if self.api_key else None,
            max_concurrency=self.max_concurrency,
        )


def _result(answer: Answer) -> ChatResult:
    message = AIMessage(content=answer.text, usage_metadata=_usage(answer))
    return ChatResult(generations=[ChatGeneration(message=message, generation_info=_facts(answer))])


def _chunk(piece: str | Answer) -> ChatGenerationChunk:
    if isinstance(piece, str):
        return ChatGenerationChunk(message=AIMessageChunk(content=piece))
    last = AIMessageChunk(content=piece.text, usage_metadata=_usage(piece), chunk_position="last")
    return ChatGenerationChunk(message=last, generation_info=_facts(piece))


def _usage(answer: Answer) -> UsageMetadata | None:
    usage = answer.usage
    if usage is None:
        return None
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


def _facts(answer: Answer) -> dict[str, str]:
    """Return what becomes the message's `response_metadata`."""
    return {"finish_reason": answer.finish_reason, "model_name": answer.model, "id": answer.id}
