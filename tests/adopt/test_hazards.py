"""What the table says of a class, and what is judged without a row."""

import asyncio
import re
import subprocess
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import (
    FakeListChatModel,
    FakeListLLM,
    FakeStreamingListLLM,
    GenericFakeChatModel,
    SimpleChatModel,
)
from langchain_core.outputs import ChatResult
from langchain_huggingface import HuggingFaceEndpoint, HuggingFacePipeline
from langchain_openai import OpenAIEmbeddings

from adopt.chains.models import (
    AsyncEcho,
    Echo,
    EchoChat,
    EchoEmbeddings,
    chat_over,
    embeddings,
    pipeline,
    remote,
)
from locktender import ChatLocktender
from locktender.adopt.hazard_chain import IN_CHAINS, SYNC_ONLY_HAZARD
from locktender.adopt.hazard_raw import RAW
from locktender.adopt.hazards import (
    HAZARDS,
    SAFE_CLASSES,
    hazard_of,
    hazard_of_class,
    is_raw_class,
)
from locktender.adopt.swap import swap

ROOT = Path(__file__).parents[2]
# An older langchain-community has it.
GONE = {"langchain_community.chat_models.huggingface.ChatHuggingFace"}


class _Subclass(HuggingFacePipeline):
    pass


class _Simple(SimpleChatModel):
    @property
    def _llm_type(self) -> str:
        return "simple"

    def _call(self, *_arguments: Any, **_options: Any) -> str:
        return ""


class _HalfAsync(EchoEmbeddings):
    async def aembed_query(self, text: str) -> list[float]:
        return self.embed_query(text)


class _Moved(_HalfAsync):
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self.embed_documents, texts)


class _Async(EchoEmbeddings):
    async def aembed_query(self, text: str) -> list[float]:
        await asyncio.open_connection("127.0.0.1", 9)
        return []

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.gather(*map(self.aembed_query, texts))


class _MovedChat(EchoChat):
    async def _agenerate(self, *arguments: Any, **_options: Any) -> ChatResult:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._generate, *arguments)


class _MovedWithin(EchoChat):
    async def _agenerate(self, *arguments: Any, **_options: Any) -> ChatResult:
        return await self._in_a_thread(*arguments)

    async def _in_a_thread(self, *arguments: Any) -> ChatResult:
        return await asyncio.to_thread(self._answered, *arguments)

    def _answered(self, *_arguments: Any) -> ChatResult:
        return self._generate()


class _AtOnce(EchoChat):
    async def _agenerate(self, *arguments: Any, **_options: Any) -> ChatResult:
        return self._generate(*arguments)


class _AskedOfItsParent(EchoChat):
    async def _agenerate(self, *arguments: Any, **options: Any) -> ChatResult:
        return await super()._agenerate(*arguments, **options)


class _RealFake(FakeListChatModel):
    def _call(self, *_arguments: Any, **_options: Any) -> str:
        return str(sum(range(10)))


class _RealFakeEmbedding(DeterministicFakeEmbedding):
    def embed_query(self, text: str) -> list[float]:
        return [float(len(text))]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (pipeline(), "text-pipeline"),
        (_Subclass.model_construct(), "text-pipeline"),
        (chat_over(pipeline()), "chat-over-pipeline"),
        (embeddings(), "sentence-embeddings"),
        (Echo(), "sync-only"),
        (EchoChat(), "sync-only"),
        (_Simple(), "sync-only"),
        (EchoEmbeddings(), "sync-only"),
        (_HalfAsync(), "sync-only"),
        (_Moved(), "sync-only"),
        (_MovedChat(), "sync-only"),
        (_MovedWithin(), "sync-only"),
        (_AtOnce(), "sync-only"),
        (_AskedOfItsParent(), "sync-only"),
        (_RealFake(responses=[]), "sync-only"),
        (_RealFakeEmbedding(size=1), "sync-only"),
    ],
)
def test_an_unsafe_model_is_known(model: object, kind: str) -> None:
    hazard = hazard_of(model)
    assert hazard is not None
    assert hazard.kind == kind


@pytest.mark.parametrize(
    "model",
    [
        remote(),
        ChatLocktender(model="echo"),
        OpenAIEmbeddings.model_construct(),
        HuggingFaceEndpoint.model_construct(),
        chat_over(HuggingFaceEndpoint.model_construct()),
        AsyncEcho(),
        _Async(),
        FakeListLLM(responses=[]),
        FakeStreamingListLLM(responses=[]),
        FakeListChatModel(responses=[]),
        GenericFakeChatModel(messages=iter(())),
        DeterministicFakeEmbedding(size=1),
        "no model",
        object(),
        Echo,
    ],
)
def test_a_safe_model_is_no_hazard(model: object) -> None:
    assert hazard_of(model) is None


def test_a_guarded_model_is_judged_as_what_it_was() -> None:
    class Methods:
        async def _agenerate(self) -> None: ...

    sync_only, safe = Echo(), AsyncEcho()
    swap(sync_only, Methods)
    swap(safe, Methods)
    assert hazard_of(sync_only) == hazard_of(Echo())
    assert hazard_of(safe) is None


@pytest.mark.parametrize(
    "name",
    sorted(
        {name for hazard in (*IN_CHAINS, SYNC_ONLY_HAZARD) for name in hazard.classes} - GONE
        | SAFE_CLASSES
    ),
)
def test_every_class_of_the_table_is_called_that(name: str) -> None:
    module, _, class_name = name.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langchain-community says at once that it is old
        found = getattr(import_module(module), class_name)
    assert f"{found.__module__}.{found.__qualname__}" == name


@pytest.mark.parametrize("name", sorted({name for hazard in RAW for name in hazard.classes}))
def test_every_raw_class_is_known_by_its_package_and_its_name(name: str) -> None:
    module, _, class_name = name.rpartition(".")
    if find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed")
    found = getattr(import_module(module), class_name)
    hazard = hazard_of_class(found)
    assert hazard is not None
    assert name in hazard.classes
    assert is_raw_class(found)


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.kind)
def test_every_row_is_complete_and_its_threads_can_be_opened(hazard: Any) -> None:
    assert all((hazard.title, hazard.classes, hazard.breaks, hazard.since, hazard.cure))
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", thread) for thread in hazard.threads)


def test_no_class_is_in_two_rows() -> None:
    names = [name for hazard in HAZARDS for name in hazard.classes]
    assert len(names) == len(set(names))


def test_the_page_of_hazards_is_what_the_table_says() -> None:
    written = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "hazards_page")],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert (ROOT / "docs" / "hazards.md").read_text(encoding="utf-8") == written.stdout
