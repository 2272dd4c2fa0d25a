"""Answer texts of one pipeline together, each beginning and ending when it likes.

Prompts and answers are made by the pipeline's own parts (`text_pipeline`); what lies between them,
the tokens, comes from the engine that serves models in processes of their own, here on the weights
of the user's model (`own_copy`).  Texts that it cannot take are answered alone, while the others
wait; and so does whoever calls the model directly, between two tokens.
"""

import itertools
import logging
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from locktender.adopt.call import Call
from locktender.adopt.job import Job
from locktender.adopt.own_copy import OwnCopies
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
# What `generate` takes where neither the call nor the model says anything.
_USUAL = {
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}


def make_job(
    pipeline: Any,
    task: TextTask,
    *,
    copies: OwnCopies | None = None,
    kv_bytes: int | None = None,
) -> Job[Completion]:
    """Return the job that has `pipeline` answer `task`; `copies` are its owner's."""
    copies = copies or OwnCopies()
    parameters = dict(task.settings.parameters)
    may_join = may_share(pipeline, parameters, copies.settings)
    limit = max_new_tokens(pipeline, parameters, copies.settings)
    key: Hashable = ("texts", id(pipeline)) if may_join else None
    together = partial(_run_together, pipeline, copies, kv_bytes)
    return Job(
        together if may_join else partial(_run_alone, pipeline, copies),
        payload=task,
        key=key,
        prompt=task.prompt,
        max_tokens=limit if limit is not None and limit > 0 else _MAX_TOKENS,
    )


def _run_alone(pipeline: Any, copies: OwnCopies, call: Call) -> None:
    run_text(copies.pipeline(pipeline), call)


def _run_together(pipeline: Any, copies: OwnCopies, kv_bytes: int | None, call: Call) -> None:
    """Answer the jobs of `call`, and those that join it."""
    company = _Company(pipeline, copies, kv_bytes, call)
    newcomers = list(call)
    try:
        while newcomers or company.has_work() or not call.close():
            texts = [job for job in newcomers if not job.is_interlude]
            for job in newcomers:
                if job.is_interlude:
                    company.make_way(job)
            company.look(has_newcomers=bool(texts))
            for job in texts:
                # In the job's own circumstances, in which it has the owner's turn; a copy, because
                # those of the first job are the call's.
                job.context.copy().run(company.begin, job)
            company.go_on()
            newcomers = call.joined()
    finally:
        company.disband()


class _Company:
    """Those who are answered together; alone, one after the other, where there is no engine."""

    def __init__(self, pipeline: Any, copies: OwnCopies, kv_bytes: int | None, call: Call) -> None:
        self._original = pipeline
        self._copies = copies
        self._kv_bytes = kv_bytes
        self._call = call
        self._keys = itertools.count(1)
        self._parts: dict[int, _Part] = {}
        self._pipeline: Any = None  # a copy of the user's
        self._batch: Any = None
        self._takes = False  # whether texts that begin now are answered together
        self._was_lent = False

    def has_work(self) -> bool:
        return bool(self._parts)

    def look(self, *, has_newcomers: bool) -> None:
        """See whether the user has changed anything: before a text begins, and after a loan.

        Those who are under way go on with the changed model, or, where there is no engine on it,
        come to their end as they began.
        """
        if has_newcomers:
            self._pipeline = self._copies.pipeline(self._original)
        if has_newcomers or self._was_lent:
            self._was_lent = False
            if not self._parts:
                self._batch = None  # it may be in the way of another one's memory
            batch = engine_of(self._original.model, self._copies, self._kv_bytes)
            self._takes = batch is not None
            if batch is not None and batch is not self._batch:
                self._batch = batch
                self._move()

    def make_way(self, job: Job[Any]) -> None:
        """Let `job` have the model before the next token."""
        job.work(Call([job]))
        self._was_lent = True
        self._call.done(job)

    def begin(self, job: Job[Any]) -> None:
        """Take `job`, or end it."""
        if not self._takes:
            run_text(self._pipeline, [job])
        else:
            with failing(job):
                generation = Generation(self._pipeline, job.payload.settings, self._copies.settings)
                prompt = generation.encode(job)
                if prompt is not None:
                    self._add(generation, prompt)
        if job.has_ended:
            self._call.done(job)

    def _add(self, generation: Generation, prompt: Prompt) -> None:
        key, part = next(self._keys), _Part(generation, prompt, generation.row(prompt.job))
        try:
            self._batch.add(key, part.ids(), part.options)
        except ValueError:  # too long, or empty: whatever the pipeline makes of that
            generation.answer(prompt)
            return
        self._parts[key] = part

    def _move(self) -> None:
        """Have those who are under way go on with another engine."""
        for key, part in self._parts.items():
            n_left = part.options.max_new_tokens - len(part.row.tokens)
            self._batch.add(key, part.ids(), replace(part.options, max_new_tokens=n_left))

    def go_on(self) -> None:
        """Give each its next token; end those who have their last, or whom nobody waits for."""
        for key, part in list(self._parts.items()):
            if part.row.is_unwanted:
                self._batch.cancel(key)
                is_dropped(part.prompt.job)
                self._leave(key)
        if not self._parts:
            return
        for event in self._batch.step():
            if event.error is not None:
                self._parts[event.key].prompt.job.fail(event.error)
                self._leave(event.key)
            else:
                self._see(event)

    def disband(self) -> None:
        """Let go of those who are left, if a fault of ours has ended the call."""
        for key in self._parts:
            self._batch.cancel(key)

    def _see(self, event: Any) -> None:
        part = self._parts[event.key]
        with failing(part.prompt.job):
            part.row.see(import_module("torch").tensor([event.token]))
            if event.end is None and not part.row.is_done:
                return
            if event.end is None:
                self._batch.cancel(event.key)
            outputs = part.generation.outputs(part.prompt, part.row)
            part.generation.end(part.prompt, part.row, outputs)
        self._leave(event.key)

    def _leave(self, key: int) -> None:
        self._call.done(self._parts.pop(key).prompt.job)


class _Part:
    """A text that is under way."""

    def __init__(self, generation: Generation, prompt: Prompt, row: Row) -> None:
        self.generation = generation
        self.prompt = prompt
        self.row = row
        self.options = _options(generation, prompt)

    def ids(self) -> list[int]:
        """Return the tokens that there are, of the prompt and of the answer."""
        ids: list[int] = self.prompt.inputs["input_ids"][0].tolist()
        return ids + self.row.tokens


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


def engine_of(model: Any, copies: OwnCopies, kv_bytes: int | None = None) -> Any:
    """Return the engine on the weights of `model` as they are now; None if there can be none."""
    usual = _CPU_KV_BYTES if model.device.type == "cpu" else _KV_BYTES

    def make(view: Any) -> Any:
        token_batch = import_module("locktender.model.engines.token_batch")
        try:
            return token_batch.TokenBatch(
                view, max_running=MAX_TOGETHER, kv_bytes=usual if kv_bytes is None else kv_bytes
            )
        except (ConfigError, RuntimeError) as error:  # the latter for memory that is not there
            _log.warning("%s answers one text at a time: %s", type(model).__name__, error)
            return None

    return copies.engine(model, make)
