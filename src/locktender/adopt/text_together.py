"""Answer texts of one pipeline together, each beginning and ending when it likes.

Prompts and answers are made by the pipeline's own parts (`text_pipeline`); what lies between them,
the tokens, comes from the engine that serves models in processes of their own, here on the weights
of the user's model.  Texts that it cannot take are answered alone, while the others wait.
"""

import itertools
import logging
from collections.abc import Hashable
from functools import partial
from importlib import import_module
from typing import Any

from locktender.adopt.call import Call
from locktender.adopt.job import Job
from locktender.adopt.text_batch import may_share
from locktender.adopt.text_pipeline import (
    Completion,
    Generation,
    Prompt,
    TextTask,
    failing,
    is_dropped,
    max_new_tokens,
    run_text,
)
from locktender.adopt.text_row import Row
from locktender.core.errors import ConfigError

__all__ = ["MAX_TOGETHER", "engine_of", "make_job"]

_log = logging.getLogger(__name__)
MAX_TOGETHER = 32  # texts
_KV_BYTES = 1 << 30
_CPU_KV_BYTES = 1 << 28  # of the memory that everything else is in
_MAX_TOKENS = 256  # charged where nothing says how many there may be; the pipeline's own default
_ENGINE = "_locktender_engine"  # on the model
# What `generate` takes where neither the call nor the model says anything.
_USUAL = {
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}


def make_job(pipeline: Any, task: TextTask, *, kv_bytes: int | None = None) -> Job[Completion]:
    """Return the job that has `pipeline` answer `task`."""
    parameters = dict(task.settings.parameters)
    may_join = may_share(pipeline, parameters)
    limit = max_new_tokens(pipeline, parameters)
    key: Hashable = ("texts", id(pipeline)) if may_join else None
    together = partial(_run_together, pipeline, kv_bytes)
    return Job(
        together if may_join else partial(run_text, pipeline),
        payload=task,
        key=key,
        prompt=task.prompt,
        max_tokens=limit if limit is not None and limit > 0 else _MAX_TOKENS,
    )


def _run_together(pipeline: Any, kv_bytes: int | None, call: Call) -> None:
    """Answer the jobs of `call`, and those that join it."""
    batch = engine_of(pipeline.model, kv_bytes)
    company = _Alone(pipeline, call) if batch is None else _Company(pipeline, call, batch)
    newcomers = list(call)
    try:
        while newcomers or company.has_work() or not call.close():
            for job in newcomers:
                company.begin(job)
            company.go_on()
            newcomers = call.joined()
    finally:
        company.disband()


class _Alone:
    """One after the other, for models that the engine cannot take."""

    def __init__(self, pipeline: Any, call: Call) -> None:
        self._pipeline = pipeline
        self._call = call

    def has_work(self) -> bool:
        return False

    def begin(self, job: Job[Completion]) -> None:
        run_text(self._pipeline, [job])
        self._call.done(job)

    def go_on(self) -> None:
        """Do nothing: all that has begun has ended."""

    def disband(self) -> None:
        """Do nothing, as above."""


class _Company:
    """Those who are answered together."""

    def __init__(self, pipeline: Any, call: Call, batch: Any) -> None:
        self._pipeline = pipeline
        self._call = call
        self._batch = batch
        self._keys = itertools.count(1)
        self._parts: dict[int, tuple[Generation, Prompt, Row]] = {}

    def has_work(self) -> bool:
        return bool(self._parts)

    def begin(self, job: Job[Completion]) -> None:
        """Take `job`, or end it."""
        with failing(job):
            generation = Generation(self._pipeline, job.payload.settings)
            prompt = generation.encode(job)
            if prompt is not None:
                self._add(generation, prompt)
        if job.has_ended:
            self._call.done(job)

    def _add(self, generation: Generation, prompt: Prompt) -> None:
        key, row = next(self._keys), generation.row(prompt.job)
        ids = prompt.inputs["input_ids"][0].tolist()
        try:
            self._batch.add(key, ids, _options(generation, prompt))
        except ValueError:  # too long, or empty: whatever the pipeline makes of that
            generation.answer(prompt)
            return
        self._parts[key] = generation, prompt, row

    def go_on(self) -> None:
        """Give each its next token; end those who have their last, or whom nobody waits for."""
        for key, (_, prompt, row) in list(self._parts.items()):
            if row.is_unwanted:
                self._batch.cancel(key)
                is_dropped(prompt.job)
                self._leave(key)
        for event in self._batch.step():
            if event.error is not None:
                self._parts[event.key][1].job.fail(event.error)
                self._leave(event.key)
            else:
                self._see(event)

    def disband(self) -> None:
        """Let go of those who are left, if a fault of ours has ended the call."""
        for key in self._parts:
            self._batch.cancel(key)

    def _see(self, event: Any) -> None:
        generation, prompt, row = self._parts[event.key]
        with failing(prompt.job):
            row.see(import_module("torch").tensor([event.token]))
            if event.end is None and not row.is_done:
                return
            if event.end is None:
                self._batch.cancel(event.key)
            generation.end(prompt, row, generation.outputs(prompt, row))
        self._leave(event.key)

    def _leave(self, key: int) -> None:
        self._call.done(self._parts.pop(key)[1].job)


def _options(generation: Generation, prompt: Prompt) -> Any:
    """Return how the tokens are chosen, as `generate` would choose them."""
    given = {name: generation.setting(name) for name in _USUAL}
    chosen = {name: usual if given[name] is None else given[name] for name, usual in _USUAL.items()}
    seed = prompt.job.payload.settings.seed
    if not generation.setting("do_sample"):
        chosen = {"repetition_penalty": chosen["repetition_penalty"]}
    elif seed is None:
        # By the dice of the process, so that who has set their seed gets the same once more.
        seed = int(import_module("torch").randint(1 << 62, ()))
    return import_module("locktender.model.engines.token_choice").TokenOptions(
        max_new_tokens=generation.limit(prompt),
        seed=seed,
        end_tokens=generation.end_tokens,
        **chosen,
    )


class _Engine:
    """The engine on a model, or none where there can be none; a copied model gets its own."""

    def __init__(self, batch: Any = None) -> None:
        self.batch = batch

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def engine_of(model: Any, kv_bytes: int | None = None) -> Any:
    """Return the engine on `model`, made when it is first wanted; None if there can be none."""
    engine = vars(model).get(_ENGINE)
    if engine is None:
        token_batch = import_module("locktender.model.engines.token_batch")
        engine = _Engine()
        usual = _CPU_KV_BYTES if model.device.type == "cpu" else _KV_BYTES
        kv_bytes = usual if kv_bytes is None else kv_bytes
        try:
            engine.batch = token_batch.TokenBatch(
                model, max_running=MAX_TOGETHER, kv_bytes=kv_bytes
            )
        except (ConfigError, RuntimeError) as error:  # the latter for memory that is not there
            _log.warning("%s answers one text at a time: %s", type(model).__name__, error)
        object.__setattr__(model, _ENGINE, engine)
    return engine.batch
