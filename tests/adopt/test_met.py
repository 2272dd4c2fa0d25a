"""Whatever way a model is called in a run, it is met before it answers."""

import asyncio
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from langchain_core.language_models import LLM, BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, GenerationChunk
from langchain_core.runnables import RunnableLambda

from locktender.adopt.met import listen


class _Text(LLM):
    met: Any = None

    @property
    def _llm_type(self) -> str:
        return "text"

    def _call(self, prompt: str, *_arguments: Any, **_options: Any) -> str:
        assert any(model is self for model in self.met)
        return prompt


class _Streamed(_Text):
    def _stream(self, prompt: str, *_arguments: Any, **_options: Any) -> Iterator[GenerationChunk]:
        yield GenerationChunk(text=self._call(prompt))


class _Chat(BaseChatModel):
    met: Any = None

    @property
    def _llm_type(self) -> str:
        return "chat"

    def _generate(self, *_arguments: Any, **_options: Any) -> ChatResult:
        assert any(model is self for model in self.met)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("a"))])


class _StreamedChat(_Chat):
    def _stream(self, *_arguments: Any, **_options: Any) -> Iterator[ChatGenerationChunk]:
        self._generate()
        yield ChatGenerationChunk(message=AIMessageChunk(content="a"))


async def _astream(model: Any) -> Any:
    return [chunk async for chunk in model.astream("a")]


async def _in_a_coroutine(model: Any) -> Any:
    async def answer(text: str) -> Any:
        return await model.ainvoke(text)

    return await RunnableLambda(answer).ainvoke("a")


async def _events(model: Any) -> Any:
    async def answer(text: str) -> Any:
        return await model.ainvoke(text)

    return [each async for each in RunnableLambda(answer).astream_events("a", version="v2")]


_WAYS: list[Callable[[Any], Any]] = [
    lambda model: model.invoke("a"),
    lambda model: model.batch(["a", "b"]),
    lambda model: list(model.stream("a")),
    lambda model: RunnableLambda(lambda text: model.invoke(text)).batch(["a", "b"]),
    lambda model: asyncio.run(model.ainvoke("a")),
    lambda model: asyncio.run(model.abatch(["a", "b"])),
    lambda model: asyncio.run(_astream(model)),
    lambda model: asyncio.run(_in_a_coroutine(model)),
    lambda model: asyncio.run(RunnableLambda(lambda text: model.invoke(text)).ainvoke("a")),
    lambda model: asyncio.run(_events(model)),
]


@pytest.mark.parametrize("kind", [_Text, _Streamed, _Chat, _StreamedChat])
@pytest.mark.parametrize("call", _WAYS)
def test_a_model_is_met_before_it_answers(kind: type[Any], call: Callable[[Any], Any]) -> None:
    met: list[object] = []

    def run() -> None:
        listen(met.append)
        call(kind(met=met))

    copy_context().run(run)
    assert met


def test_nobody_is_met_in_a_context_that_does_not_listen() -> None:
    met: list[object] = []
    copy_context().run(listen, met.append)
    model = _Text(met=[])
    model.met.append(model)
    assert model.invoke("a") == "a"
    assert met == []


async def test_the_events_of_a_run_are_the_same_for_who_listens() -> None:
    model = _Text(met=[])
    model.met.append(model)
    alone = [_told(event) for event in await _events(model)]
    listen(lambda _: None)
    assert [_told(event) for event in await _events(model)] == alone


def _told(event: Any) -> Any:
    return event["event"], event["name"], str(event["data"])
