"""Stand before the methods of LangChain's Hugging Face pipelines, which do not do what they say.

Each prompt is a job of its own for the pipeline's owner, so that prompts of several callers can
share a call, a stream needs no thread, and who leaves ends the generation at its next token.
What a call asks for and what an answer says is in `pipeline_llm` and `pipeline_chat`; how the
pipeline is run, in `text_pipeline`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, closing, contextmanager, nullcontext
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, GenerationChunk, LLMResult

from locktender.adopt.handle import take_over
from locktender.adopt.heavy import inner_of, owner_of, pipeline_of
from locktender.adopt.job import Job
from locktender.adopt.language_model import LeftCalls, OneRequestBatches
from locktender.adopt.owner import Owner
from locktender.adopt.pipeline_chat import ChunkMaker, chat_call, chat_result
from locktender.adopt.pipeline_llm import last_chunk, stream_head, text_generation, text_task
from locktender.adopt.swap import is_swapped
from locktender.adopt.text_pipeline import Completion, TextTask
from locktender.adopt.text_together import make_job
from locktender.app.own_request import own_request, within

__all__ = ["GuardedPipelineChat", "GuardedPipelineLLM"]


class GuardedPipelineLLM(OneRequestBatches, LeftCalls):
    """The methods of a `HuggingFacePipeline`."""

    def _generate(
        self,
        prompts: Sequence[Any],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> LLMResult:
        with _one_request(prompts):
            return self._result(owner_of(self).run(self._jobs(prompts, stop, kwargs)))

    async def _agenerate(
        self,
        prompts: Sequence[Any],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> LLMResult:
        with _one_request(prompts):
            return self._result(await owner_of(self).arun(self._jobs(prompts, stop, kwargs)))

    def _stream(
        self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        job = _job(self, text_task(self, prompt, stop, kwargs, wants_pieces=True))
        with closing(_texts(owner_of(self), job, stream_head(self, prompt, kwargs))) as texts:
            for text in texts:
                chunk = GenerationChunk(text=text)
                if run_manager:
                    run_manager.on_llm_new_token(text, chunk=chunk)
                yield chunk
        yield last_chunk(self, job.result())

    async def _astream(
        self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[GenerationChunk]:
        job = _job(self, text_task(self, prompt, stop, kwargs, wants_pieces=True))
        texts = _atexts(owner_of(self), job, stream_head(self, prompt, kwargs))
        async with aclosing(texts):
            async for text in texts:
                chunk = GenerationChunk(text=text)
                if run_manager:
                    await run_manager.on_llm_new_token(text, chunk=chunk)
                yield chunk
        yield last_chunk(self, job.result())

    def _jobs(
        self, prompts: Sequence[str], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> list[Job[Completion]]:
        return [
            _job(self, text_task(self, prompt, stop, kwargs, wants_pieces=False))
            for prompt in prompts
        ]

    def _result(self, completions: Sequence[Completion]) -> LLMResult:
        generations = [[text_generation(self, completion)] for completion in completions]
        return LLMResult(generations=generations)


class GuardedPipelineChat(OneRequestBatches, LeftCalls):
    """The methods of a `ChatHuggingFace` over a pipeline."""

    def _generate(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> ChatResult:
        call = chat_call(self, messages, stop, kwargs, wants_pieces=False)
        (completion,) = owner_of(self).run([_job(self, call.task)])
        return chat_result(self, call, completion)

    async def _agenerate(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> ChatResult:
        call = chat_call(self, messages, stop, kwargs, wants_pieces=False)
        (completion,) = await owner_of(self).arun([_job(self, call.task)])
        return chat_result(self, call, completion)

    def _stream(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call = chat_call(self, messages, stop, kwargs, wants_pieces=True)
        job, chunks = _job(self, call.task), ChunkMaker(self, call)
        with closing(_texts(owner_of(self), job)) as texts:
            for text in texts:
                if (chunk := chunks.piece(text)) is not None:
                    yield chunk
        yield from chunks.last(job.result())

    async def _astream(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = chat_call(self, messages, stop, kwargs, wants_pieces=True)
        job, chunks = _job(self, call.task), ChunkMaker(self, call)
        async with aclosing(_atexts(owner_of(self), job)) as texts:
            async for text in texts:
                if (chunk := chunks.piece(text)) is not None:
                    yield chunk
        for chunk in chunks.last(job.result()):
            yield chunk


def _job(model: object, task: TextTask) -> Job[Completion]:
    owner, pipeline = owner_of(model), pipeline_of(model)
    for part in (pipeline, inner_of(pipeline)):
        if not is_swapped(part):  # it was put in after the guard had looked
            take_over(part)
    return make_job(pipeline, task, copies=owner.copies, kv_bytes=owner.settings.kv_bytes)


def _one_request(prompts: Sequence[Any]) -> AbstractContextManager[Any]:
    """Have several prompts be one request, so that those beyond the room wait."""
    return _own_request() if len(prompts) > 1 else nullcontext()


@contextmanager
def _own_request() -> Iterator[None]:
    with own_request() as outer, within(outer):
        yield


def _texts(owner: Owner, job: Job[Completion], head: str = "") -> Generator[str, None, None]:
    """Yield `head`, and the new text as it comes."""
    if head:
        yield head
    with closing(owner.iterate(job)) as pieces:
        yield from pieces


async def _atexts(owner: Owner, job: Job[Completion], head: str = "") -> AsyncGenerator[str, None]:
    """Do as `_texts`."""
    if head:
        yield head
    async with aclosing(owner.aiterate(job)) as pieces:
        async for piece in pieces:
            yield piece
