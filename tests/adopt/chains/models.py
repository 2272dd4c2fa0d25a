"""The models of the sample chains: unsafe ones to be planted, and safe ones that look like them."""

from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_huggingface import ChatHuggingFace, HuggingFaceEmbeddings, HuggingFacePipeline
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

__all__ = [
    "LATE",
    "SHARED",
    "UNNAMED",
    "AsyncEcho",
    "Echo",
    "EchoChat",
    "EchoEmbeddings",
    "chat_over",
    "embeddings",
    "pipeline",
    "remote",
]


class _Pipeline:
    """What stands for a transformers pipeline, where nothing is run."""

    task = "text-generation"


class Echo(LLM):
    """A text model without asynchronous methods of its own."""

    inner: Any = None

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _call(self, prompt: str, *_arguments: Any, **_options: Any) -> str:
        return prompt


class AsyncEcho(Echo):
    """A text model with one."""

    async def _acall(self, prompt: str, *_arguments: Any, **_options: Any) -> str:
        return prompt


class EchoChat(BaseChatModel):
    """A chat model without asynchronous methods of its own."""

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(self, *_arguments: Any, **_options: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("echo"))])


class EchoEmbeddings(Embeddings):
    """Embeddings without asynchronous methods of their own."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(len(text))]


def pipeline() -> Any:
    return HuggingFacePipeline(pipeline=_Pipeline(), model_id="stand-in")


def chat_over(llm: object) -> Any:
    return ChatHuggingFace.model_construct(llm=llm)  # whose constructor would load a tokenizer


def embeddings() -> Any:
    return HuggingFaceEmbeddings.model_construct(model_name="stand-in")


def remote() -> Any:
    return ChatOpenAI(api_key=SecretStr("none"), base_url="http://127.0.0.1:9")


SHARED = Echo()
LATE = Echo()
UNNAMED = Echo()
