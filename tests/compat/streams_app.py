"""Routes whose runs have much to tell: what `/stream_log` and `/stream_events` are compared on."""

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM, FakeStreamingListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.runnables.utils import AddableDict
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

ALL_KEYS = ["configurable", "tags", "metadata", "run_id", "max_concurrency", "recursion_limit"]


class ScriptedModel(GenericFakeChatModel):
    """Calls a tool when nobody has, and says so when somebody has."""

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=_reply(messages))])

    def _stream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> Iterator[ChatGenerationChunk]:
        reply = _reply(messages)
        for call in reply.tool_calls:
            for part in (
                tool_call_chunk(name=call["name"], args='{"a":2,', id=call["id"], index=0),
                tool_call_chunk(args='"b":3}', index=0),
            ):
                yield ChatGenerationChunk(
                    message=AIMessageChunk(content="", tool_call_chunks=[part], id="call")
                )
        for word in str(reply.content).split():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word, id="words"))

    def bind_tools(self, tools: Any, **_: Any) -> Any:  # noqa: ARG002 - LangChain's signature
        return self


def _reply(messages: list[BaseMessage]) -> AIMessage:
    if messages[-1].type == "tool":
        return AIMessage(content=f"it is {messages[-1].content}", id="words")
    call = {"name": "times", "args": {"a": 2, "b": 3}, "id": "call-1"}
    return AIMessage(content="", tool_calls=[call], id="call")


@tool
def times(a: int, b: int) -> int:
    """Multiply."""
    return a * b


@tool
def broken(a: int) -> int:
    """Fail."""
    raise ValueError(a)


def model_saying(text: str) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=itertools.cycle([AIMessage(content=text)]))


def add_one(x: int) -> int:
    return x + 1


async def double(x: int) -> int:
    return 2 * x


def boom(x: Any) -> Any:
    raise ValueError(x)


async def counting(inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
    async for n in inputs:
        for k in range(n):
            yield {"k": k, f"k{k}": [k]}


async def adding(inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
    async for n in inputs:
        for k in range(n):
            yield AddableDict({"k": k, f"k/{k}": [], "text": "ab", "list": [k, {"k": k}]})


async def listing(inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
    async for n in inputs:
        for k in range(n):
            yield [k, {"k": k}]


async def changing(inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
    async for n in inputs:
        yield n
        yield n
        yield "s"
        yield "t"
        yield None
        yield n


async def nothing(inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
    async for _ in inputs:
        yield None


async def words(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
    async for each in inputs:
        for word in f"one two {each}".split():
            yield word


async def breaking(inputs: AsyncIterator[str]) -> AsyncIterator[str]:
    n = 0
    async for word in inputs:
        n += 1
        if n > 2:
            raise ValueError(word)
        yield word


async def odd(inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for _ in inputs:
        yield 1
        yield {1, 2}


async def batching(xs: list[int], config: RunnableConfig) -> list[int]:
    return (
        await RunnableLambda(double)
        .with_config(run_name="inner")
        .abatch(xs, {**config, "max_concurrency": 1})
    )


def calling(x: int, config: RunnableConfig) -> int:
    return int((RunnableLambda(add_one) | RunnableLambda(add_one)).invoke(x, config))


def streaming(x: int, config: RunnableConfig) -> str:
    chain = RunnableGenerator(syllables) | StrOutputParser()
    return "".join(chain.stream(x, config))


def syllables(inputs: Iterator[Any]) -> Iterator[str]:
    for each in inputs:
        yield from ("a", "b", str(each))


async def telling(x: int, config: RunnableConfig) -> int:
    await adispatch_custom_event("progress", {"x": x}, config=config)
    await adispatch_custom_event("odd", [x], config=config)
    return x


def routing(x: int) -> Runnable[int, int]:
    return RunnableLambda(add_one) if x % 2 else RunnableLambda(double)


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:  # noqa: ARG002 - LangChain's signature
        if query == "fail":
            raise ValueError(query)
        return [Document(page_content=query, id="d1", metadata={"n": 1})]


class State(TypedDict):
    n: int
    messages: Annotated[list[AnyMessage], add_messages]


def graph() -> Any:
    builder = StateGraph(State)
    chain = ChatPromptTemplate.from_template("{n}") | model_saying("from a node")

    async def ask(state: State, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await chain.ainvoke({"n": state["n"]}, config)]}

    builder.add_node("add", lambda state: {"n": state["n"] + 1})
    builder.add_node("ask", ask)
    builder.add_edge(START, "add")
    builder.add_edge("add", "ask")
    builder.add_conditional_edges("ask", lambda state: "add" if state["n"] < 2 else END)
    return builder.compile()


def runnables() -> Iterator[tuple[str, Runnable[Any, Any]]]:
    """Yield what is served, by its path."""
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{q}")])
    one, two = RunnableLambda(add_one), RunnableLambda(double)
    yield "chat", prompt | model_saying("Hello big world")
    yield "str", prompt | model_saying("Hello big world") | StrOutputParser()
    yield "json", prompt | model_saying('{"a": [1, {"b": "x y"}], "c": 2.5 }') | JsonOutputParser()
    yield "model", model_saying("a b")
    yield "llm", PromptTemplate.from_template("{q}") | FakeStreamingListLLM(responses=["abc"])
    yield "llm_whole", PromptTemplate.from_template("{q}") | FakeListLLM(responses=["abc"])
    yield "prompt", prompt
    yield "parallel", RunnableParallel(a=one | two, b=two | one, c=RunnablePassthrough())
    yield "assign", RunnableParallel(x=RunnablePassthrough()) | RunnablePassthrough.assign(y=len)
    yield "repeated", one | one | one | two
    yield "nested", (one | (two | one).with_config(run_name="in", tags=["t"], metadata={"m": 1}))
    yield "names", one.with_config(run_name="a/b") | two.with_config(run_name="~c") | one
    yield "tool", times
    yield "tool_chain", RunnablePassthrough() | times | one
    yield "tool_broken", one | {"a": RunnablePassthrough()} | broken
    yield "retriever", RunnablePassthrough() | Shelf() | len
    yield "only_retriever", Shelf()
    yield "counting", RunnableGenerator(counting)
    yield "adding", RunnableGenerator(adding)
    yield "listing", RunnableGenerator(listing)
    yield "changing", RunnableGenerator(changing)
    yield "nothing", RunnableGenerator(nothing)
    yield "words", RunnableGenerator(words) | StrOutputParser()
    yield "collected", RunnableGenerator(words) | RunnableLambda(str.upper)
    yield "breaking", RunnableGenerator(words) | RunnableGenerator(breaking) | StrOutputParser()
    yield "boom", one | RunnableLambda(boom) | two
    yield "fallback", one | RunnableLambda(boom).with_fallbacks([two])
    yield (
        "retry",
        one
        | RunnableLambda(boom)
        .with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
        .with_fallbacks([two]),
    )
    yield "odd", RunnableGenerator(odd)
    yield "odd_inside", one | (lambda x: {x}) | len
    yield "batching", RunnableLambda(batching)
    yield "calling", RunnableLambda(calling)
    yield "streaming", RunnableLambda(streaming)
    yield "telling", RunnableLambda(telling) | one
    yield "routing", RunnableLambda(routing) | one
    yield "branch", RunnableBranch((lambda x: x > 1, one), two)
    yield "each", one | (lambda x: [x, x]) | one.map()
    yield "bound", (one | two).with_config(tags=["b"], metadata={"m": 2, "__hidden": 3})
    yield (
        "conf",
        PromptTemplate.from_template("say {q}").configurable_fields(
            template=ConfigurableField(id="template")
        )
        | model_saying("x y"),
    )
    yield "graph", graph()
    yield "agent", create_agent(ScriptedModel(messages=iter([])), [times])


def add(app: Any, add_routes: Any) -> None:
    for name, runnable in runnables():
        add_routes(app, runnable, path=f"/s/{name}", config_keys=ALL_KEYS)
        add_routes(app, runnable, path=f"/v1/{name}", astream_events_version="v1")
    one = RunnableLambda(add_one)
    allow = {"stream_log_name_allow_list": ["known"]}
    add_routes(app, one.with_config(run_name="known"), path="/allow/known", **allow)
    add_routes(app, one.with_config(run_name="other"), path="/allow/other", **allow)
    add_routes(app, one, path="/allow/plain", **allow)
    add_routes(app, one.with_config(tags=["x"]), path="/allow/nameless", **allow)
    add_routes(app, one, path="/allow/path", stream_log_name_allow_list=["/allow/path", "add_one"])
    add_routes(app, one, path="/allow/nobody", stream_log_name_allow_list=[])
    named = RunnableLambda(add_one, name="known")
    add_routes(app, named, path="/allow/named", **allow)
