"""Things that serve many callers by themselves, though some look as if they did not."""

import asyncio
import functools
import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any, cast

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.language_models import (
    LLM,
    BaseChatModel,
    FakeListChatModel,
    FakeListLLM,
    FakeStreamingListLLM,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSequence,
)
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI, OpenAIEmbeddings
from langgraph.graph import END, START, StateGraph
from pydantic import SecretStr

from adopt.raw import tokenizer
from locktender import ChatLocktender, RemoteRunnable

__all__ = ["SAFE"]

_KEY = SecretStr("none")
_URL = "http://127.0.0.1:9"


def openai() -> Any:
    return ChatOpenAI(api_key=_KEY, base_url=_URL)


def openai_text() -> Any:
    return OpenAI(api_key=_KEY, base_url=_URL)


def openai_with_tools() -> Any:
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    return openai().bind_tools([add])


def openai_with_fallbacks() -> Any:
    return openai().with_fallbacks([openai_text()]).with_retry()


def azure() -> Any:
    return AzureChatOpenAI(api_key=_KEY, azure_endpoint=_URL, api_version="1")


def subclass_of_openai() -> Any:
    class Mine(ChatOpenAI):
        def _generate(self, *arguments: Any, **options: Any) -> ChatResult:
            return super()._generate(*arguments, **options)

        async def _agenerate(self, *arguments: Any, **options: Any) -> ChatResult:
            return await super()._agenerate(*arguments, **options)

    return Mine(api_key=_KEY, base_url=_URL)


def openai_embeddings() -> Any:
    return RunnableLambda(OpenAIEmbeddings(api_key=_KEY, base_url=_URL).embed_query)


def hub_endpoint() -> Any:
    return ChatHuggingFace.model_construct(llm=HuggingFaceEndpoint.model_construct())


def locktender_chat() -> Any:
    return ChatLocktender(model="echo")


def another_server() -> Any:
    return RunnableLambda(str) | RemoteRunnable(_URL)


def fakes() -> Any:
    return FakeListLLM(responses=["a"]) | FakeStreamingListLLM(responses=["b"])


def chat_fakes() -> Any:
    return RunnableParallel(
        a=FakeListChatModel(responses=["a"]), b=GenericFakeChatModel(messages=iter(()))
    )


def fake_that_is_watched() -> Any:
    class Counted(FakeListChatModel):
        def _call(self, *arguments: Any, **options: Any) -> str:
            return super()._call(*arguments, **options)

    return Counted(responses=["a"])


def fake_embeddings() -> Any:
    return InMemoryVectorStore(DeterministicFakeEmbedding(size=4)).as_retriever()


class _Native(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "native"

    def _generate(self, *_arguments: Any, **_options: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("a"))])

    async def _agenerate(self, *arguments: Any, **options: Any) -> ChatResult:
        reader, writer = await asyncio.open_connection("127.0.0.1", 9)
        await reader.read()
        loop = asyncio.get_running_loop()  # what it has read is parsed in a thread
        result: ChatResult = await loop.run_in_executor(None, self._parsed, writer)
        return result

    def _parsed(self, _answer: object) -> ChatResult:
        return ChatResult(generations=[])


class _NativeText(LLM):
    @property
    def _llm_type(self) -> str:
        return "native"

    def _call(self, *_arguments: Any, **_options: Any) -> str:
        return ""

    async def _acall(self, *_arguments: Any, **_options: Any) -> str:
        await asyncio.open_connection("127.0.0.1", 9)
        return ""


class _NativeEmbeddings(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return []

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.gather(*map(self.aembed_query, texts))

    async def aembed_query(self, text: str) -> list[float]:
        await asyncio.open_connection("127.0.0.1", 9)
        return [float(len(text))]


def native_chat() -> Any:
    return _Native()


def native_text() -> Any:
    return _NativeText()


def native_embeddings() -> Any:
    return RunnableLambda(_NativeEmbeddings().embed_query)


def pure_function() -> Any:
    return RunnableLambda(lambda text: re.sub("a", "b", str(text)).upper())


def pure_partial() -> Any:
    return RunnableLambda(functools.partial(lambda n, text: text * n, 2))


def functions_of_the_library() -> Any:
    return RunnablePassthrough.assign(a=itemgetter("b")) | itemgetter("a")


def prompts_and_parsers() -> Any:
    chat = ChatPromptTemplate.from_messages([("system", "{a}"), ("human", "{b}")])
    text = PromptTemplate.from_template("{a}")
    return RunnableSequence(text, StrOutputParser(), chat, JsonOutputParser())


def branch() -> Any:
    return RunnableBranch((lambda text: bool(text), RunnableLambda(str)), RunnableLambda(repr))


def retriever_over_a_server() -> Any:
    class Server(BaseRetriever):
        url: str

        def _get_relevant_documents(
            self, query: str, *, run_manager: CallbackManagerForRetrieverRun
        ) -> list[Document]:
            return [Document(self.url + query)]

    return Server(url=_URL)


def graph() -> Any:
    made: Any = StateGraph(cast("Any", dict))
    made.add_node("ask", openai())
    made.add_edge(START, "ask")
    made.add_edge("ask", END)
    return made.compile()


def bare_tokenizer() -> Any:
    words = tokenizer()
    return RunnableLambda(lambda text: len(words(text)["input_ids"]))


def plain_values() -> Any:
    table = {n: (str(n), [n]) for n in range(1000)}
    return RunnableLambda(lambda text: table[len(text)])


SAFE: list[Callable[[], Any]] = [
    value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__ and not name.startswith("_")
]
