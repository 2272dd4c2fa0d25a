"""A guarded model looks the same, is called by one at a time, and keeps its callbacks."""

import asyncio
import copy
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import LLM, BaseChatModel, BaseLLM, FakeListLLM
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
)
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from pydantic import ConfigDict, Field

from locktender import guard
from locktender.adopt.guard import guard_all
from locktender.adopt.heavy import owner_of
from locktender.adopt.swap import plain_class
from locktender.core.errors import ConfigError, QueueFull

LIMIT_S = 30


class Crossing:
    """Counts who is inside, and whether anybody met anybody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self.n_calls = self.n_met = 0
        self.threads: set[str] = set()

    def __enter__(self) -> None:
        with self._lock:
            self._n_inside += 1
            self.n_calls += 1
            self.n_met += self._n_inside > 1
            self.threads.add(threading.current_thread().name)
        # Gives way, so that whoever may come in does.
        threading.Event().wait(0.001)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1

    def __deepcopy__(self, memo: Any) -> "Crossing":
        return self


class Text(BaseLLM):
    """A text model as people write them: synchronous, with one state for all callers."""

    temperature: float = 0.0
    crossing: Crossing = Field(default_factory=Crossing, exclude=True)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @property
    def _llm_type(self) -> str:
        return "text"

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        with self.crossing:
            return LLMResult(
                generations=[[Generation(text=f"{one}|{self.temperature}")] for one in prompts]
            )


class StreamedText(Text):
    """One that streams, and tells the callback manager itself."""

    def _stream(
        self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        with self.crossing:
            for word in prompt.split():
                chunk = GenerationChunk(text=f"{word} ")
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk


class Chat(BaseChatModel):
    """A chat model of that kind."""

    crossing: Crossing = Field(default_factory=Crossing, exclude=True)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @property
    def _llm_type(self) -> str:
        return "chat"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self.crossing:
            if messages[-1].content == "fail":
                message = "the model's own"
                raise ZeroDivisionError(message)
            answer = AIMessage(f"to {messages[-1].content}")
            return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self.crossing:
            for word in ("to ", str(messages[-1].content)):
                yield ChatGenerationChunk(message=AIMessageChunk(content=word))


class Vectors(Embeddings):
    """An embedding model of that kind."""

    def __init__(self) -> None:
        self.crossing = Crossing()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        with self.crossing:
            return [[float(len(text))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class Wrapper(BaseChatModel):
    """A chat model that calls another one."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "wrapper"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self.inner.invoke(messages)
        return ChatResult(generations=[ChatGeneration(message=answer)])


def crowd(call: Any, inputs: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(call, inputs))


def test_a_bare_model_is_called_by_many_at_once() -> None:
    model = Text()
    crowd(model.invoke, [str(n) for n in range(16)])
    assert model.crossing.n_met > 0


@pytest.mark.parametrize("kind", [Text, StreamedText, Chat])
def test_threads_take_turns(kind: type[Text] | type[Chat]) -> None:
    model = guard(kind())
    answers = crowd(lambda n: str(StrOutputParser().invoke(model.invoke(n))), list("abcdefgh"))
    assert [name in answer for name, answer in zip("abcdefgh", answers, strict=True)] == [True] * 8
    crowd(lambda n: list(model.stream(n)), list("abcdefgh"))
    assert model.crossing.n_met == 0
    assert len(model.crossing.threads) == 1


@pytest.mark.parametrize("kind", [Text, StreamedText, Chat])
async def test_coroutines_take_turns(kind: type[Text] | type[Chat]) -> None:
    model = guard(kind())

    async def stream(n: int) -> str:
        return "".join([str(StrOutputParser().invoke(one)) async for one in model.astream(f"{n}")])

    with anyio.fail_after(LIMIT_S):
        answers = await asyncio.gather(
            *(model.ainvoke(str(n)) for n in range(12)), *(stream(n) for n in range(12))
        )
    assert len(answers) == 24
    assert model.crossing.n_met == 0


def test_embeddings_take_turns() -> None:
    model = guard(Vectors())
    assert crowd(model.embed_query, ["a", "bb", "ccc"]) == [[1.0], [2.0], [3.0]]

    async def embed() -> Any:
        return await asyncio.gather(
            model.aembed_query("a"), model.aembed_documents(["bb"]), model.aembed_query("c")
        )

    assert asyncio.run(embed()) == [[1.0], [[2.0]], [1.0]]
    assert model.crossing.n_met == 0
    assert model.embed_documents(["a", "bb"]) == [[1.0], [2.0]]


def test_a_guarded_model_looks_as_before() -> None:
    bare = StreamedText(temperature=0.5)
    model = guard(bare.model_copy())
    assert isinstance(model, StreamedText)
    assert (type(model).__name__, type(model).__module__) == ("StreamedText", __name__)
    assert repr(model) == repr(bare)
    assert model.get_name() == bare.get_name()
    assert model.lc_id() == bare.lc_id()
    assert dumpd(model) == dumpd(bare)
    assert model.model_dump() == bare.model_dump()
    assert model.get_input_jsonschema() == bare.get_input_jsonschema()
    assert guard(model) is model


@pytest.mark.parametrize(
    "copied",
    [
        lambda model: model.model_copy(update={"temperature": 0.9}),
        copy.copy,
        lambda model: model.bind(stop=["x"]).bound,
        lambda model: model.with_config(tags=["t"]).bound,
    ],
)
def test_a_copy_is_guarded_by_the_same_owner(copied: Any) -> None:
    model = guard(Text())
    assert plain_class(copied(model)) is Text
    assert type(copied(model)) is type(model)
    assert owner_of(copied(model)) is owner_of(model)


def test_configured_fields_are_seen_and_guarded() -> None:
    model = guard(Text())
    chain = model.configurable_fields(temperature=ConfigurableField(id="t"))
    answers = crowd(
        lambda t: chain.invoke("a", {"configurable": {"t": t}}), [n / 10 for n in range(10)]
    )
    assert answers == [f"a|{n / 10}" for n in range(10)]
    assert model.crossing.n_met == 0


def test_streams_stay_streams_and_what_does_not_stream_stays_whole() -> None:
    assert list(guard(StreamedText()).stream("a b c")) == list(StreamedText().stream("a b c"))
    assert list(guard(Text()).stream("a b c")) == list(Text().stream("a b c"))
    assert len(list(guard(Chat()).stream("a"))) == len(list(Chat().stream("a")))


class Heard(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.heard.append((token, threading.current_thread().name))


class AsyncHeard(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    async def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.heard.append((token, threading.current_thread().name))


async def test_callbacks_run_on_the_side_of_the_caller() -> None:
    here = threading.current_thread().name
    heard, async_heard = Heard(), AsyncHeard()
    model = guard(StreamedText())
    assert list(model.stream("a b", {"callbacks": [heard]})) == ["a ", "b "]
    assert heard.heard == [("a ", here), ("b ", here)]
    assert [one async for one in model.astream("a b", {"callbacks": [async_heard]})]
    assert async_heard.heard == [("a ", here), ("b ", here)]


def test_a_callback_may_call_the_same_model() -> None:
    model, answers = guard(StreamedText()), list[str]()

    class Asks(BaseCallbackHandler):
        def on_llm_new_token(self, token: Any, **_: Any) -> None:
            answers.append(model.invoke(token))

    assert list(model.stream("a b", {"callbacks": [Asks()]})) == ["a ", "b "]
    assert answers == ["a |0.0", "b |0.0"]


async def test_events_of_a_guarded_model_are_those_of_the_bare_one() -> None:
    def told(events: list[Any]) -> list[tuple[str, str, str]]:
        return [
            (event["event"], event["name"], str(event["data"].get("chunk"))) for event in events
        ]

    prompt = PromptTemplate.from_template("{x} b")
    bare = prompt | StreamedText() | StrOutputParser()
    guarded = prompt | guard(StreamedText()) | StrOutputParser()
    expected = [event async for event in bare.astream_events({"x": "a"}, version="v2")]
    events = [event async for event in guarded.astream_events({"x": "a"}, version="v2")]
    assert told(events) == told(expected)


async def test_an_error_of_the_model_reaches_its_caller_as_it_is() -> None:
    model = guard(Chat())
    with pytest.raises(ZeroDivisionError, match="the model's own"):
        model.invoke("fail")
    with pytest.raises(ZeroDivisionError):
        await model.ainvoke("fail")
    answers = await model.abatch(["a", "fail", "b"], return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == [
        "AIMessage",
        "ZeroDivisionError",
        "AIMessage",
    ]


@pytest.mark.parametrize("kind", [Text, Chat])
async def test_a_batch_waits_for_itself(kind: type[Text] | type[Chat]) -> None:
    model = guard(kind(), max_waiting=2)
    inputs: list[Any] = [str(n) for n in range(100)]
    assert len(await model.abatch(inputs)) == 100
    assert len(model.batch(inputs[:40])) == 40


async def test_more_than_may_wait_are_refused() -> None:
    model = guard(Chat(), max_waiting=2)
    answers = await asyncio.gather(
        *(model.ainvoke(str(n)) for n in range(60)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, QueueFull)]
    assert refused
    assert len(refused) + sum(isinstance(answer, AIMessage) for answer in answers) == 60


async def test_a_model_inside_a_model_does_not_wait_for_itself() -> None:
    inner = Chat()
    chain: Runnable[Any, str] = guard(Wrapper(inner=inner) | StrOutputParser())
    with anyio.fail_after(LIMIT_S):
        answers = await asyncio.gather(*(chain.ainvoke(str(n)) for n in range(16)))
    assert answers == [f"to {n}" for n in range(16)]
    assert inner.crossing.n_met == 0


async def test_a_full_executor_keeps_nobody_from_a_guarded_model() -> None:
    model, is_over = guard(Chat()), threading.Event()
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(2)
    loop.set_default_executor(pool)
    blocked = [loop.run_in_executor(None, is_over.wait, LIMIT_S) for _ in range(8)]
    with anyio.fail_after(LIMIT_S):
        assert (await model.ainvoke("a")).content == "to a"
        assert [one.content async for one in model.astream("a") if one.content]
    is_over.set()
    await asyncio.gather(*blocked)


async def test_a_synchronous_call_inside_a_coroutine_does_not_block_for_ever() -> None:
    model = guard(Chat())
    chain: Runnable[Any, Any] = RunnableLambda(lambda text: model.invoke(text).content)

    async def call_here(n: int) -> Any:
        return model.invoke(str(n)).content  # on the loop's own thread

    with anyio.fail_after(LIMIT_S):
        assert [await call_here(1), await call_here(2)] == ["to 1", "to 2"]
        assert await asyncio.gather(*(chain.ainvoke(str(n)) for n in range(12)))


async def test_who_leaves_a_stream_frees_the_model() -> None:
    model = guard(StreamedText())
    with anyio.fail_after(LIMIT_S):
        stream = model.astream("a b c d")
        assert await anext(stream) == "a "
        assert isinstance(stream, AsyncIterator)
        await stream.aclose()  # type: ignore[attr-defined] # it is a generator
        assert await model.ainvoke("a") == "a|0.0"


def test_what_is_safe_is_left_alone() -> None:
    safe = FakeListLLM(responses=["a"])
    guard_all(safe | StrOutputParser())
    assert type(safe) is FakeListLLM
    with pytest.raises(ConfigError, match="nothing to guard"):
        guard(safe)


def test_each_class_can_be_chosen_for(caplog: pytest.LogCaptureFixture) -> None:
    text, chat = Text(), Chat()
    with caplog.at_level("INFO", logger="locktender"):
        guard_all([text, chat], {"Text": "off"})
        guard_all([text, chat], {"Text": "off"})
    assert type(text) is Text
    assert type(chat) is not Chat
    assert [record.levelname for record in caplog.records if "Text" in record.message] == [
        "WARNING",
        "WARNING",
    ]
    assert len([one for one in caplog.records if "Chat" in one.message]) == 1


def test_bounds_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError):
        guard(Text(), max_waiting=-1)


def test_an_llm_of_the_simple_kind_is_guarded() -> None:
    crossing = Crossing()

    class Simple(LLM):
        @property
        def _llm_type(self) -> str:
            return "simple"

        def _call(
            self,
            prompt: str,
            stop: list[str] | None = None,
            run_manager: Any = None,
            **kwargs: Any,
        ) -> str:
            with crossing:
                return prompt.upper()

    model = guard(Simple())
    assert crowd(model.invoke, list("abcdefgh")) == list("ABCDEFGH")
    assert asyncio.run(model.abatch(list("abcdefgh"))) == list("ABCDEFGH")
    assert crossing.n_met == 0


def test_what_a_subclass_of_langchains_own_does_is_kept() -> None:
    class Mine(StreamedText):
        def _generate(self, prompts: list[str], *arguments: Any, **options: Any) -> LLMResult:
            return super()._generate([f"mine: {one}" for one in prompts], *arguments, **options)

    assert guard(Mine()).invoke("a") == "mine: a|0.0"


async def test_a_batch_that_gives_answers_as_they_come_is_one_request() -> None:
    model = guard(Chat(), max_waiting=2)
    inputs: list[Any] = [str(n) for n in range(60)]
    answers = [answer async for answer in model.abatch_as_completed(inputs)]
    assert sorted(n for n, _ in answers) == list(range(60))


def test_the_word_about_a_model_inside_is_heard() -> None:
    inner = Chat()
    wrapper = Wrapper(inner=inner)
    guard_all([wrapper, inner], {"Chat": "off"})
    assert type(inner) is Chat
    assert plain_class(wrapper) is Wrapper
    assert type(wrapper) is not Wrapper


def test_other_bounds_for_what_is_guarded_are_not_passed_over_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = guard(Text(), max_waiting=5)
    guard(model, max_waiting=7)
    assert owner_of(model).settings.max_waiting == 5
    assert "keeps its bounds" in caplog.text
