"""Run a text through a transformers pipeline, for a job.

The text of an answer is exactly what the pipeline gives by itself, because the pipeline's own parts
make it; the pieces are those of transformers' own streamer.  Added are stop strings, a seed that
leaves the process's dice as they were, counts, the reason for the end, and an end at the next token
when nobody waits any more.

`text_row` follows an answer; `text_together` runs several at once with the parts of a `Generation`.
All of this runs in the thread that owns the pipeline.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from locktender.adopt.chat_ids import put_chat_ids, refuse_control_tokens
from locktender.adopt.encoding import encoding
from locktender.adopt.generation_settings import KnownSettings
from locktender.adopt.job import Job
from locktender.adopt.text_batch import is_plain_search, is_text_generation, made_with
from locktender.adopt.text_row import Row, RowText, Watch
from locktender.core.request import RenderedInput
from locktender.model.stop import StopStrings

__all__ = [
    "Completion",
    "Generation",
    "Prompt",
    "TextSettings",
    "TextTask",
    "failing",
    "is_dropped",
    "max_new_tokens",
    "run_text",
]

_RESULT_KEYS = ("generated_text", "summary_text", "translation_text")
_MAX_TOKENS = 256  # charged where nothing says how many there may be; the pipeline's own default


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How an answer is made; equal settings may share a batch."""

    parameters: tuple[tuple[str, Any], ...]  # of the pipeline's own call, sorted
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class TextTask:
    """The payload of a job."""

    prompt: str
    settings: TextSettings
    wants_pieces: bool = False  # of the new text, never of the prompt
    chat: RenderedInput | None = None  # the same prompt, if a chat template wrote it


@dataclass(frozen=True, slots=True)
class Completion:
    """What a job ends with."""

    text: str  # the pipeline's, which may begin with the prompt; up to a stop string
    new_text: str  # as the pipeline's streamer decodes it; up to a stop string
    prompt_tokens: int
    n_tokens: int  # new ones, an end token included
    finish_reason: str  # "stop" or "length"


def run_text(pipeline: Any, jobs: Sequence[Job[Completion]]) -> None:
    """Answer the one job; what the pipeline raises reaches it as it is."""
    (job,) = jobs
    with failing(job):
        settings = job.payload.settings
        if is_text_generation(pipeline) and made_with(pipeline) is not None:
            generation = Generation(pipeline, settings)
            prompt = generation.encode(job)
            if prompt is not None:
                generation.answer(prompt)
        elif not is_dropped(job):
            _Call(pipeline, settings).answer(job)


class _Call:
    """A call of a pipeline of which nothing more is known."""

    def __init__(self, pipeline: Any, settings: TextSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._parameters = dict(settings.parameters)

    def answer(self, job: Job[Completion]) -> None:
        task: TextTask = job.payload
        if task.chat is not None and task.chat.cuts:
            refuse_control_tokens()
        row = Row(job, _text_of(self._pipeline, job), frozenset())
        watch = Watch([row], is_plain=False)
        parameters = self._parameters
        if getattr(self._pipeline, "_pipeline_calls_generate", False):
            parameters = _with_criterion(parameters, watch)
        tokenizer = getattr(self._pipeline, "tokenizer", None)
        with _seeded(self._settings.seed), encoding(tokenizer):
            result = self._pipeline(task.prompt, **parameters)
        if is_dropped(job):
            return
        first = result[0] if isinstance(result, list) else result
        text = next(first[key] for key in _RESULT_KEYS if key in first)
        n_prompt = len(task.prompt) if text.startswith(task.prompt) else 0
        kept = _cut(text, n_prompt, task.settings.stop)
        if task.wants_pieces and kept[n_prompt:]:
            job.put(kept[n_prompt:])
        limit = max_new_tokens(self._pipeline, self._parameters)
        is_at_limit = kept == text and limit is not None and watch.n_steps >= limit
        job.n_tokens = watch.n_steps
        reason = "length" if is_at_limit else "stop"
        job.end(Completion(kept, kept[n_prompt:], 0, watch.n_steps, reason))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A job whose prompt has been encoded."""

    job: Job[Completion]
    inputs: Mapping[str, Any]
    n_tokens: int


class Generation:
    """Calls of a text-generation pipeline with the same settings."""

    def __init__(
        self, pipeline: Any, settings: TextSettings, known: KnownSettings | None = None
    ) -> None:
        self._pipeline = pipeline
        self._settings = settings
        parameters = dict(settings.parameters)
        for name in ("batch_size", "num_workers"):  # for lists of prompts, which no job is
            parameters.pop(name, None)
        parts = pipeline._sanitize_parameters(**parameters)  # noqa: SLF001 - subclasses define it
        own = made_with(pipeline) or ({}, {}, {})
        self._before, self._during, self._after = (
            {**made_with, **called_with} for made_with, called_with in zip(own, parts, strict=True)
        )
        self._generation = (known or KnownSettings()).of(pipeline, self._during)
        self._is_plain = is_plain_search(self._generation)

    def encode(self, job: Job[Completion]) -> Prompt | None:
        """Return the prompt of `job`; None if the job has ended instead."""
        if is_dropped(job):
            return None
        with failing(job), encoding(self._pipeline.tokenizer):
            inputs = self._pipeline.preprocess(job.payload.prompt, **self._before)
            if job.payload.chat is not None:
                put_chat_ids(self._pipeline.tokenizer, job.payload.chat, inputs)
            job.prompt_tokens = inputs["input_ids"].shape[-1]
            return Prompt(job, inputs, job.prompt_tokens)
        return None

    def answer(self, prompt: Prompt) -> None:
        """Answer one prompt alone."""
        row = self.row(prompt.job)
        outputs = self._generate(prompt.inputs, [row])
        if not self._is_plain:
            # An empty prompt gets a start token, which is not counted as the pipeline's.
            n_before = prompt.n_tokens or 1
            for token in outputs["generated_sequence"][0, 0, n_before:, None]:
                row.see(token)
        self.end(prompt, row, outputs)

    def row(self, job: Job[Completion]) -> Row:
        """Return what follows the answer to `job`."""
        return Row(job, _text_of(self._pipeline, job), self.end_tokens)

    def _generate(self, inputs: Mapping[str, Any], rows: Sequence[Row]) -> Any:
        during = _with_criterion(self._during, Watch(rows, is_plain=self._is_plain))
        with _seeded(self._settings.seed):
            return self._pipeline.forward(inputs, **during)

    def outputs(self, prompt: Prompt, row: Row) -> dict[str, Any]:
        """Return what `forward` would have for the tokens of `row`."""
        input_ids = prompt.inputs["input_ids"]
        new = input_ids.new_tensor([row.tokens])
        sequence = import_module("torch").cat([input_ids, new], dim=-1)
        return {
            "generated_sequence": sequence[None],
            "input_ids": input_ids,
            "prompt_text": prompt.inputs["prompt_text"],
        }

    def end(self, prompt: Prompt, row: Row, outputs: Any) -> None:
        """End the job with what the pipeline makes of the outputs of `forward`."""
        job = prompt.job
        if is_dropped(job):
            return
        text = self._pipeline.postprocess(outputs, **self._after)[0]["generated_text"]
        is_whole = getattr(self._after.get("return_type"), "name", "FULL_TEXT") == "FULL_TEXT"
        n_prompt = len(job.payload.prompt) if is_whole else 0
        n_tokens = len(row.tokens)
        is_at_limit = not row.is_ended and n_tokens >= self.limit(prompt)
        job.end(
            Completion(
                text=_cut(text, n_prompt, self._settings.stop),
                new_text=row.text.finish(),
                prompt_tokens=prompt.n_tokens,
                n_tokens=n_tokens,
                finish_reason="length" if is_at_limit else "stop",
            )
        )

    def limit(self, prompt: Prompt) -> int:
        """Return how many new tokens there may be."""
        new: int | None = self.setting("max_new_tokens")
        if new is not None:
            return new
        whole: int | None = self.setting("max_length")
        return 0 if whole is None else whole - prompt.n_tokens

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer."""
        end = self.setting("eos_token_id")
        if end is None:
            return frozenset()
        return frozenset(end) if isinstance(end, list | tuple) else frozenset([end])

    def setting(self, name: str) -> Any:
        """Return a setting as `generate` finds it."""
        return self._generation.get(name)


def max_new_tokens(
    pipeline: Any, parameters: Mapping[str, Any], known: KnownSettings | None = None
) -> int | None:
    """Return how many new tokens there may be, as far as that can be told without a prompt."""
    limit = (known or KnownSettings()).of(pipeline, parameters).get("max_new_tokens")
    return limit if isinstance(limit, int) else None


def _text_of(pipeline: Any, job: Job[Completion]) -> RowText:
    task: TextTask = job.payload
    streamer = import_module("transformers").TextStreamer
    give = job.put if task.wants_pieces else None
    return RowText(pipeline.tokenizer, streamer, task.settings.stop, give)


def _with_criterion(parameters: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """Return the parameters with `watch` behind the caller's own stopping criteria."""
    own = parameters.get("stopping_criteria") or ()
    criteria = import_module("transformers").StoppingCriteriaList([*own, watch])
    return {**parameters, "stopping_criteria": criteria}


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Throw the dice from `seed`, and leave those of the process as they were."""
    if seed is None:
        yield
        return
    torch = import_module("torch")
    # Named, because without a word all of them are taken, with a warning.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


@contextmanager
def failing(job: Job[Completion]) -> Iterator[None]:
    """Have what is raised inside reach who waits for `job`, as it is."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the model is the user's: its errors are its callers'
        job.fail(error)


def is_dropped(job: Job[Completion]) -> bool:
    """Whether nobody waits for `job`, which has then ended."""
    if job.is_cancelled:
        job.fail(asyncio.CancelledError())
    return job.has_ended


def _cut(text: str, n_prompt: int, stop: Sequence[str]) -> str:
    """Return `text` up to the first stop string behind the prompt."""
    stops = StopStrings(stop)
    return text[:n_prompt] + stops.feed(text[n_prompt:]) + stops.flush()
