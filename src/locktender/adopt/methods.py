"""Decide which methods are to stand before those of a model.

What is known of Hugging Face pipelines is used for LangChain's own classes, and for subclasses that
leave their methods alone; a class that overrides one of these is asked itself, as any other model.
"""

from collections.abc import Iterable
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, BaseLLM

from locktender.adopt.embedding import GuardedEmbeddings
from locktender.adopt.heavy import pipeline_of
from locktender.adopt.language_model import (
    GuardedChat,
    GuardedLLM,
    StreamedChat,
    StreamedLlamaChat,
    StreamedLLM,
)
from locktender.adopt.pipeline_model import GuardedPipelineChat, GuardedPipelineLLM
from locktender.adopt.swap import plain_class

__all__ = ["methods_for", "runs_as_known"]

_WHOLE = ("_generate", "_agenerate")
_STREAMS = ("_stream", "_astream")
_OF_CHATS = ("_to_chat_prompt", "_to_chat_result", "_to_chatml_format")
_PACKAGES = ("langchain_huggingface.", "langchain_community.", "langchain_core.")


def methods_for(model: object) -> type | None:
    """Return a class with the methods for `model`; None if it is no LangChain model."""
    plain = plain_class(model)
    if isinstance(model, BaseChatModel):
        if runs_as_known(model):
            return GuardedPipelineChat
        if not _has_own(plain, BaseChatModel, _STREAMS):
            return GuardedChat
        return StreamedLlamaChat if _is_named(plain, "ChatLlamaCpp") else StreamedChat
    if isinstance(model, BaseLLM):
        if runs_as_known(model):
            return GuardedPipelineLLM
        return StreamedLLM if _has_own(plain, BaseLLM, _STREAMS) else GuardedLLM
    return GuardedEmbeddings if isinstance(model, Embeddings) else None


def runs_as_known(model: object) -> bool:
    """Whether `model` runs a pipeline in the way of LangChain's own classes."""
    if pipeline_of(model) is None:
        return False
    plain = plain_class(model)
    return all(
        _home(plain, name).startswith(_PACKAGES) for name in (*_WHOLE, *_STREAMS, *_OF_CHATS)
    )


def _has_own(plain: Any, base: type, names: Iterable[str]) -> bool:
    return any(getattr(plain, name) is not getattr(base, name) for name in names)


def _home(plain: Any, name: str) -> str:
    """Return the module of the class that `name` comes from; LangChain's own where none has it."""
    homes = (kind.__module__ for kind in plain.__mro__ if name in vars(kind))
    return f"{next(homes, 'langchain_core')}."


def _is_named(plain: Any, name: str) -> bool:
    return any(kind.__name__ == name for kind in plain.__mro__)
