"""Run texts through a transformers pipeline, for jobs: one alone, or several in one forward pass.

The text of an answer is exactly what the pipeline gives by itself, because the pipeline's own parts
make it; the pieces are those of transformers' own streamer.  Added are stop strings, a seed that
leaves the process's dice as they were, counts, the reason for the end, and an end at the next token
when nobody waits any more.

`text_batch` decides what may share a pass, and `text_row` follows each answer.  All of this runs in
the thread that owns the pipeline, so that nobody else changes its tokenizer meanwhile.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import Any

from locktender.adopt.encoding import encoding
from locktender.adopt.job import Job
from locktender.adopt.text_batch import (
    alike,
    is_plain_search,
    is_text_generation,
    may_share,
    why_no_batch,
)
from locktender.adopt.text_row import Row, RowText, Watch
from locktender.model.stop import StopStrings

__all__ = [
    "Completion",
    "TextSettings",
    "TextTask",
    "batch_key",
    "make_job",
    "run_texts",
    "why_no_batch",
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


@dataclass(frozen=True, slots=True)
class Completion:
    """What a job ends with."""

    text: str  # the pipeline's, which may begin with the prompt; up to a stop string
    new_text: str  # as the pipeline's streamer decodes it; up to a stop string
    prompt_tokens: int
    n_tokens: int  # new ones, an end token included
    finish_reason: str  # "stop" or "length"


def make_job(pipeline: Any, task: TextTask) -> Job[Completion]:
    """Return the job that has `pipeline` answer `task`."""
    limit = _max_new_tokens(pipeline, dict(task.settings.parameters))
    return Job(
        partial(run_texts, pipeline),
        payload=task,
        key=batch_key(pipeline, task),
        prompt=task.prompt,
        max_tokens=max(1, _MAX_TOKENS if limit is None else limit),
    )


def batch_key(pipeline: Any, task: TextTask) -> Hashable | None:
    """Return what is equal for tasks that may share a pass; None for one that is run alone."""
    settings = task.settings
    if not may_share(pipeline, dict(settings.parameters)):
        return None
    # By their spelling: True and 1 are equal, and may not mean the same.
    return "text", id(pipeline), repr(settings.parameters), settings.stop, settings.seed


def run_texts(pipeline: Any, jobs: Sequence[Job[Completion]]) -> None:
    """Answer the jobs, which have the same settings; each ends or fails by itself.

    1. A job that fails, or that nobody waits for, changes nothing for those beside it.
    2. What the pipeline raises reaches the job as it is.
    """
    make = _Generation if is_text_generation(pipeline) else _Call
    try:
        call = make(pipeline, jobs[0].payload.settings)
    except Exception as error:  # noqa: BLE001 - the model is the user's: its errors are its callers'
        for job in jobs:
            job.fail(error)
    else:
        call.run(jobs)


class _Call:
    """Calls of a pipeline of which nothing more is known, one after the other."""

    def __init__(self, pipeline: Any, settings: TextSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._parameters = dict(settings.parameters)

    def run(self, jobs: Sequence[Job[Completion]]) -> None:
        for job in jobs:
            with _failing(job):
                self._answer(job)

    def _answer(self, job: Job[Completion]) -> None:
        task: TextTask = job.payload
        row = Row(job, _text_of(self._pipeline, job), frozenset())
        watch = Watch([row], is_plain=False)
        parameters = self._parameters
        if getattr(self._pipeline, "_pipeline_calls_generate", False):
            parameters = _with_criterion(parameters, watch)
        tokenizer = getattr(self._pipeline, "tokenizer", None)
        with _seeded(self._settings.seed), encoding(tokenizer):
            result = self._pipeline(task.prompt, **parameters)
        if _is_dropped(job):
            return
        first = result[0] if isinstance(result, list) else result
        text = next(first[key] for key in _RESULT_KEYS if key in first)
        n_prompt = len(task.prompt) if text.startswith(task.prompt) else 0
        kept = _cut(text, n_prompt, task.settings.stop)
        if task.wants_pieces and kept[n_prompt:]:
            job.put(kept[n_prompt:])
        limit = _max_new_tokens(self._pipeline, self._parameters)
        is_at_limit = kept == text and limit is not None and watch.n_steps >= limit
        job.n_tokens = watch.n_steps
        reason = "length" if is_at_limit else "stop"
        job.end(Completion(kept, kept[n_prompt:], 0, watch.n_steps, reason))


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A job whose prompt has been encoded."""

    job: Job[Completion]
    inputs: Mapping[str, Any]
    n_tokens: int


class _Generation:
    """Calls of a text-generation pipeline with the same settings."""

    def __init__(self, pipeline: Any, settings: TextSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        parameters = dict(settings.parameters)
        for name in ("batch_size", "num_workers"):  # for lists of prompts, which no job is
            parameters.pop(name, None)
        parts = pipeline._sanitize_parameters(**parameters)  # noqa: SLF001 - subclasses define it
        own = (
            pipeline._preprocess_params,  # noqa: SLF001 - what the pipeline was made with
            pipeline._forward_params,  # noqa: SLF001 - as above
            pipeline._postprocess_params,  # noqa: SLF001 - as above
        )
        self._before, self._during, self._after = (
            {**made_with, **called_with} for made_with, called_with in zip(own, parts, strict=True)
        )
        self._config = self._during.get("generation_config", pipeline.generation_config)
        self._is_plain = is_plain_search(self._during, self._config)

    def run(self, jobs: Sequence[Job[Completion]]) -> None:
        prompts = [prompt for job in jobs if (prompt := self._encode(job)) is not None]
        for group in alike(prompts, lambda prompt: prompt.n_tokens):
            self._answer_together(group)

    def _encode(self, job: Job[Completion]) -> _Prompt | None:
        if _is_dropped(job):
            return None
        with _failing(job), encoding(self._pipeline.tokenizer):
            inputs = self._pipeline.preprocess(job.payload.prompt, **self._before)
            job.prompt_tokens = inputs["input_ids"].shape[-1]
            return _Prompt(job, inputs, job.prompt_tokens)
        return None

    def _answer_together(self, prompts: Sequence[_Prompt]) -> None:
        prompts = [prompt for prompt in prompts if not _is_dropped(prompt.job)]
        if len(prompts) < 2 or not prompts[0].n_tokens:  # noqa: PLR2004 - one, or one without tokens
            for prompt in prompts:
                with _failing(prompt.job):
                    self._answer(prompt)
            return
        rows = [self._row(prompt.job) for prompt in prompts]
        try:
            self._generate(_padded([prompt.inputs for prompt in prompts]), rows)
        except Exception:  # noqa: BLE001 - whose fault it was shows when each is run alone
            for prompt, row in zip(prompts, rows, strict=True):
                with _failing(prompt.job):
                    self._answer(prompt, n_given=row.text.n_given)
            return
        for prompt, row in zip(prompts, rows, strict=True):
            with _failing(prompt.job):
                self._end(prompt, row, self._outputs(prompt, row))

    def _answer(self, prompt: _Prompt, n_given: int = 0) -> None:
        if _is_dropped(prompt.job):
            return
        row = self._row(prompt.job, n_given)
        outputs = self._generate(prompt.inputs, [row])
        if not self._is_plain:
            # An empty prompt gets a start token, which is not counted as the pipeline's.
            n_before = prompt.n_tokens or 1
            for token in outputs["generated_sequence"][0, 0, n_before:, None]:
                row.see(token)
        self._end(prompt, row, outputs)

    def _row(self, job: Job[Completion], n_given: int = 0) -> Row:
        return Row(job, _text_of(self._pipeline, job, n_given), self._end_tokens)

    def _generate(self, inputs: Mapping[str, Any], rows: Sequence[Row]) -> Any:
        during = _with_criterion(self._during, Watch(rows, is_plain=self._is_plain))
        with _seeded(self._settings.seed):
            return self._pipeline.forward(inputs, **during)

    def _outputs(self, prompt: _Prompt, row: Row) -> dict[str, Any]:
        """Return what `forward` would have, had the row been alone."""
        input_ids = prompt.inputs["input_ids"]
        new = input_ids.new_tensor([row.tokens])
        sequence = import_module("torch").cat([input_ids, new], dim=-1)
        return {
            "generated_sequence": sequence[None],
            "input_ids": input_ids,
            "prompt_text": prompt.inputs["prompt_text"],
        }

    def _end(self, prompt: _Prompt, row: Row, outputs: Any) -> None:
        job = prompt.job
        if _is_dropped(job):
            return
        text = self._pipeline.postprocess(outputs, **self._after)[0]["generated_text"]
        is_whole = getattr(self._after.get("return_type"), "name", "FULL_TEXT") == "FULL_TEXT"
        n_prompt = len(job.payload.prompt) if is_whole else 0
        n_tokens = len(row.tokens)
        is_at_limit = not row.is_ended and n_tokens >= self._limit(prompt)
        job.end(
            Completion(
                text=_cut(text, n_prompt, self._settings.stop),
                new_text=row.text.finish(),
                prompt_tokens=prompt.n_tokens,
                n_tokens=n_tokens,
                finish_reason="length" if is_at_limit else "stop",
            )
        )

    def _limit(self, prompt: _Prompt) -> int:
        """Return how many new tokens there may be."""
        new: int | None = self._setting("max_new_tokens")
        if new is not None:
            return new
        whole: int | None = self._setting("max_length")
        return 0 if whole is None else whole - prompt.n_tokens

    @cached_property
    def _end_tokens(self) -> frozenset[int]:
        end = self._setting("eos_token_id")
        if end is None:
            return frozenset()
        return frozenset(end) if isinstance(end, list | tuple) else frozenset([end])

    def _setting(self, name: str) -> Any:
        """Return a setting as `generate` finds it."""
        for place in (self._config, self._pipeline.model.generation_config):
            value = self._during.get(name)
            if value is None:
                value = getattr(place, name, None)
            if value is not None:
                return value
        return None


def _max_new_tokens(pipeline: Any, parameters: Mapping[str, Any]) -> int | None:
    """Return how many new tokens there may be, as far as that can be told without a prompt."""
    limit = parameters.get("max_new_tokens")
    if limit is None:
        limit = getattr(getattr(pipeline, "generation_config", None), "max_new_tokens", None)
    return limit if isinstance(limit, int) else None


def _text_of(pipeline: Any, job: Job[Completion], n_given: int = 0) -> RowText:
    """Return the text that `job` gets; its first `n_given` characters it has already."""
    task: TextTask = job.payload
    give = _after(n_given, job.put) if task.wants_pieces else _drop
    streamer = import_module("transformers").TextStreamer
    return RowText(pipeline.tokenizer, streamer, task.settings.stop, give)


def _after(n_given: int, give: Callable[[str], None]) -> Callable[[str], None]:
    def give_rest(text: str) -> None:
        nonlocal n_given
        rest = text[n_given:]
        n_given = max(0, n_given - len(text))
        if rest:
            give(rest)

    return give_rest


def _drop(_text: str) -> None:
    """Give the text to nobody."""


def _with_criterion(parameters: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """Return the parameters with `watch` behind the caller's own stopping criteria."""
    own = parameters.get("stopping_criteria") or ()
    criteria = import_module("transformers").StoppingCriteriaList([*own, watch])
    return {**parameters, "stopping_criteria": criteria}


def _padded(prompts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the inputs of several prompts as one, padded on the left."""
    pad = partial(import_module("torch").nn.functional.pad, mode="constant")
    width = max(prompt["input_ids"].shape[-1] for prompt in prompts)
    ids, masks = [], []
    for prompt in prompts:
        own = prompt["input_ids"]
        margin = (width - own.shape[-1], 0)
        # With a token of its own, since some settings look at which tokens there are in a row.
        ids.append(pad(own, margin, value=int(own[0, 0])))
        masks.append(pad(prompt["attention_mask"], margin, value=0))
    join = import_module("torch").cat
    return {
        "input_ids": join(ids),
        "attention_mask": join(masks),
        "prompt_text": [prompt["prompt_text"] for prompt in prompts],
    }


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
def _failing(job: Job[Completion]) -> Iterator[None]:
    """Have what is raised inside reach who waits for `job`, as it is."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the model is the user's: its errors are its callers'
        job.fail(error)


def _is_dropped(job: Job[Completion]) -> bool:
    """Whether nobody waits for `job`, which has then ended."""
    if job.is_cancelled:
        job.fail(asyncio.CancelledError())
    return job.has_ended


def _cut(text: str, n_prompt: int, stop: Sequence[str]) -> str:
    """Return `text` up to the first stop string behind the prompt."""
    stops = StopStrings(stop)
    return text[:n_prompt] + stops.feed(text[n_prompt:]) + stops.flush()
