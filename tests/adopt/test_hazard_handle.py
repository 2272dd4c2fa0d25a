"""What goes wrong on the bare handles of llama.cpp and vLLM with several callers, and guarded not.

Neither package is installed here.  The handles are stand-ins that have what the real ones have: one
state for all callers and no lock.  The LangChain objects are the real ones.
"""

import itertools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import pytest

from harness.pipe import LIMIT_S, Guarding, Meeting, guarding

__all__ = ["guarding"]

PROMPTS = ["one two three", "alpha beta gamma"]


class Llama:
    """One context: a prompt is written into it, and the answer is read from it word by word."""

    def __init__(self, model_path: str, **_: Any) -> None:
        self.model_path = model_path
        self.meet: Callable[[], None] = lambda: None
        self.n_inside = self.n_words = 0
        self._context: list[str] = []

    def __call__(self, prompt: str, *, stream: bool = False, **options: Any) -> Any:
        return self.create_completion(prompt, stream=stream, **options)

    def create_completion(self, prompt: str, *, stream: bool = False, **options: Any) -> Any:
        words = self._words(prompt, options.get("stop") or ())
        if stream:
            return ({"choices": [{"text": word}]} for word in words)
        return {"choices": [{"text": "".join(words)}]}

    def create_chat_completion(
        self, messages: Sequence[Any], *, stream: bool = False, **options: Any
    ) -> Any:
        words = self._words(messages[-1]["content"], options.get("stop") or ())
        if stream:
            return ({"choices": [{"delta": {"content": word}}]} for word in words)
        message = {"role": "assistant", "content": "".join(words)}
        return {"choices": [{"message": message}]}

    def embed(self, text: str) -> list[float]:
        return [float(len(word)) for word in self._words(text)]

    def create_embedding(self, text: str) -> Any:
        return {"data": [{"embedding": self.embed(text)}]}

    def _words(self, prompt: str, stop: Sequence[str] = ()) -> Iterator[str]:
        self._context = prompt.split()
        self.meet()
        for n in range(len(self._context)):
            word = f"{self._context[n]} "
            if word.strip() in stop:
                return
            self.n_words += 1
            yield word


class LLM:
    """One queue: a caller runs it until it is empty, and looks for its own answers."""

    def __init__(self, **_: Any) -> None:
        self.meet: Callable[[], None] = lambda: None
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._unfinished: dict[int, str] = {}

    def generate(self, prompts: Sequence[str], *_: Any) -> list[Any]:
        mine = [next(self._numbers) for _ in prompts]
        self._unfinished.update(zip(mine, prompts, strict=True))
        self.meet()
        with self._lock:
            finished, self._unfinished = self._unfinished, {}
        return [
            SimpleNamespace(outputs=[SimpleNamespace(text=finished[number].upper())])
            for number in mine
        ]


class SamplingParams(SimpleNamespace):
    """The settings of a call."""


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the two packages be there, with nothing else in them."""
    for package, kinds in (("llama_cpp", [Llama]), ("vllm", [LLM, SamplingParams])):
        module = ModuleType(package)
        for kind in kinds:
            own = type(kind.__name__, (kind,), {"__module__": f"{package}.{kind.__name__.lower()}"})
            setattr(module, kind.__name__, own)
        monkeypatch.setitem(sys.modules, package, module)
    sys.modules["llama_cpp"].LlamaGrammar = object  # type: ignore[attr-defined] # it is imported, too


def community(name: str) -> Any:
    """Return the LangChain object `name`."""
    with warnings.catch_warnings():
        # The package says that it is on its way out.
        warnings.simplefilter("ignore", DeprecationWarning)
        from langchain_community import (  # noqa: PLC0415 - it warns
            chat_models,
            embeddings,
            llms,
        )

        if name == "VLLM":
            return llms.VLLM(model="a-model")
        kinds = {"LlamaCpp": llms, "ChatLlamaCpp": chat_models, "LlamaCppEmbeddings": embeddings}
        return getattr(kinds[name], name)(model_path="a-model")


def in_threads(call: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(call, inputs, timeout=LIMIT_S))


def text_of(answer: Any) -> str:
    return str(getattr(answer, "content", answer))


WAYS: dict[str, Callable[[Any, str], str]] = {
    "invoke": lambda llm, prompt: text_of(llm.invoke(prompt)),
    "stream": lambda llm, prompt: "".join(text_of(one) for one in llm.stream(prompt)),
    "whole": lambda llm, prompt: text_of(
        llm.model_copy(update={"streaming": False}).invoke(prompt)
    ),
    "batch": lambda llm, prompt: text_of(llm.batch([prompt])[0]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["LlamaCpp", "ChatLlamaCpp"])
def test_two_callers_of_llama_cpp_get_mixed_texts(guarding: Guarding, name: str, way: str) -> None:
    llm = guarding(community(name))
    llm.client.meet = Meeting(2, patience_s=guarding.patience_s)
    answers = in_threads(lambda prompt: WAYS[way](llm, prompt), PROMPTS)
    assert ([answer.strip() for answer in answers] == PROMPTS) is guarding.is_on


@pytest.mark.parametrize("name", ["LlamaCpp", "ChatLlamaCpp"])
async def test_two_coroutines_with_llama_cpp_get_mixed_texts(guarding: Guarding, name: str) -> None:
    llm = guarding(community(name))
    llm.client.meet = Meeting(2, patience_s=guarding.patience_s)
    answers: dict[str, str] = {}

    async def ask(prompt: str) -> None:
        answers[prompt] = "".join([text_of(one) async for one in llm.astream(prompt)]).strip()

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            for prompt in PROMPTS:
                group.start_soon(ask, prompt)
    assert (answers == {prompt: prompt for prompt in PROMPTS}) is guarding.is_on


def test_two_wrappers_of_one_handle_get_mixed_texts(guarding: Guarding) -> None:
    llm, chat = community("LlamaCpp"), community("ChatLlamaCpp")
    chat.client = llm.client
    llms = [guarding(llm), guarding(chat)]
    llm.client.meet = Meeting(2, patience_s=guarding.patience_s)
    answers = in_threads(lambda n: text_of(llms[n].invoke(PROMPTS[n])).strip(), range(2))
    assert (answers == PROMPTS) is guarding.is_on


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_direct_call_of_the_handle_gets_the_text_of_the_chain(
    guarding: Guarding, is_stream: bool
) -> None:
    llm = guarding(community("LlamaCpp"))
    llm.client.meet = Meeting(2, patience_s=guarding.patience_s)

    def direct() -> str:
        answer = llm.client(PROMPTS[1], stream=is_stream)
        parts = answer if is_stream else [answer]
        return "".join(part["choices"][0]["text"] for part in parts)

    answers = in_threads(lambda call: call(), [lambda: llm.invoke(PROMPTS[0]), direct])
    assert ([answer.strip() for answer in answers] == PROMPTS) is guarding.is_on


@pytest.mark.parametrize("method", ["create_completion", "create_chat_completion", "embed"])
def test_two_direct_calls_get_mixed_answers(guarding: Guarding, method: str) -> None:
    llm = guarding(community("LlamaCpp"))

    def call(prompt: str) -> Any:
        given = [{"content": prompt}] if "chat" in method else prompt
        return getattr(llm.client, method)(given)

    alone = [call(prompt) for prompt in PROMPTS]
    llm.client.meet = Meeting(2, patience_s=guarding.patience_s)
    assert (in_threads(call, PROMPTS) == alone) is guarding.is_on


def test_a_direct_call_of_another_handle_is_kept_apart_by_its_own_guard(
    guarding: Guarding,
) -> None:
    """Two handles are two contexts: neither waits for the other."""
    llms = [guarding(community("LlamaCpp")) for _ in PROMPTS]
    meeting = Meeting(2, patience_s=LIMIT_S)
    for llm in llms:
        llm.client.meet = meeting
    answers = in_threads(lambda n: llms[n].invoke(PROMPTS[n]).strip(), range(2))
    assert meeting.has_met
    assert answers == PROMPTS


def test_embeddings_of_llama_cpp_are_mixed(guarding: Guarding) -> None:
    texts = ["a bb ccc", "dddd eeeee ffffff"]
    model = guarding(community("LlamaCppEmbeddings"))
    alone = [model.embed_query(text) for text in texts]
    model.client.meet = Meeting(2, patience_s=guarding.patience_s)
    assert (in_threads(model.embed_query, texts) == alone) is guarding.is_on


def test_who_leaves_a_stream_of_llama_cpp_frees_its_handle(guarding: Guarding) -> None:
    llm = guarding(community("LlamaCpp"))
    stream = llm.stream("a " * 1000)
    next(stream)
    stream.close()
    assert llm.invoke(PROMPTS[0]).strip() == PROMPTS[0]


# Fails guarded: the class's own `_generate` is run as it is, and forgets them.
def test_the_end_strings_of_a_streaming_chat_are_dropped(guarding: Guarding) -> None:
    chat = guarding(community("ChatLlamaCpp"))
    answer = text_of(chat.invoke(PROMPTS[0], stop=["three"])).split()
    assert (answer == ["one", "two"]) is guarding.is_on


def test_two_callers_of_vllm_raise_a_key_error(guarding: Guarding) -> None:
    llm = guarding(community("VLLM"))
    llm.client.meet = Meeting(2, patience_s=guarding.patience_s)
    if guarding.is_on:
        assert in_threads(llm.invoke, PROMPTS) == [prompt.upper() for prompt in PROMPTS]
        return
    with pytest.raises(KeyError):
        in_threads(llm.invoke, PROMPTS)


def test_a_direct_call_of_vllm_beside_the_chain_raises_a_key_error(guarding: Guarding) -> None:
    llm = guarding(community("VLLM"))
    llm.client.meet = Meeting(2, patience_s=guarding.patience_s)
    calls = [lambda: llm.invoke("a"), lambda: llm.client.generate(["b"])[0].outputs[0].text]
    if guarding.is_on:
        assert in_threads(lambda call: call(), calls) == ["A", "B"]
        return
    with pytest.raises(KeyError):
        in_threads(lambda call: call(), calls)


async def test_coroutines_with_vllm_raise_a_key_error(guarding: Guarding) -> None:
    llm = guarding(community("VLLM"))
    llm.client.meet = Meeting(2, patience_s=guarding.patience_s)
    answers: list[Any] = []

    async def ask(prompt: str) -> None:
        try:
            answers.append("".join([one async for one in llm.astream(prompt)]))
        except KeyError as error:
            answers.append(type(error))

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            for prompt in PROMPTS:
                group.start_soon(ask, prompt)
    assert (KeyError in answers) is not guarding.is_on
