"""A transformers model as an engine: texts on the outside, `token_batch` inside.

Encodes, counts, refuses what does not fit, and turns tokens back into text.  It
serves a folder of weights in a process of its own (`model.child`) or, by `over`, a model that a
program has loaded already; the model is used in place.  The tokenizer is a copy, because one must
never be used by two threads.

In float32 a greedy answer is that of `generate` alone, whatever else runs.  A seed repeats as far
as the logits do.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from locktender.core.errors import (
    ConfigError,
    ContextTooLong,
    EngineFailed,
    EngineStartError,
    InvalidRequest,
)
from locktender.core.request import (
    ChatInput,
    Delta,
    FinishReason,
    GenerationRequest,
    Input,
    RenderedInput,
    TextInput,
    TokenInput,
)
from locktender.model.detokenizer import Feed, TokenWindow, detokenize
from locktender.model.engine import EngineSpec, Limits, Output, check_options
from locktender.model.engines.token_batch import TokenBatch, TokenEvent
from locktender.model.engines.token_choice import TokenOptions
from locktender.model.prompt import answer_room, check_ids, not_rendered
from locktender.model.stop import StopStrings
from locktender.prompting.control_token import control_of
from locktender.prompting.token_ids import encode_rendered

__all__ = ["TransformersStepper"]

# What loading a folder may raise: files that are missing or broken, memory, code that is absent.
_FOREIGN_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError)


class _Texts:
    """The model's tokenizer."""

    def __init__(self, tokenizer: Any, n_vocabulary: int) -> None:
        self._tokenizer = copy.deepcopy(tokenizer)
        self._control = control_of(tokenizer)
        self._n_vocabulary = min(n_vocabulary, len(tokenizer))
        # A token's name has at least as many bytes as its text.
        self._max_token_bytes = max(len(name.encode()) for name in tokenizer.get_vocab())

    def encode(self, prompt: Input, context_tokens: int) -> list[int]:
        """Return the prompt's token ids.  Raises: InvalidRequest, ContextTooLong."""
        ids = self._to_ids(prompt, context_tokens)
        check_ids(ids, self._n_vocabulary)
        return ids

    def encode_whole(self, prompt: Input) -> list[int]:
        """Return the token ids of a prompt of whatever length.  Raises: InvalidRequest."""
        return self._to_ids(prompt, None)

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Return the texts without the special tokens."""
        texts: list[str] = self._tokenizer.batch_decode(
            rows, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts

    def _to_ids(self, prompt: Input, context_tokens: int | None) -> list[int]:
        match prompt:
            case TokenInput():
                return list(prompt.ids)
            case TextInput():
                self._check_bytes(prompt.text, context_tokens)
                return self._tokenize([prompt.text], adds_special=True)[0] if prompt.text else []
            case RenderedInput():
                self._check_bytes(prompt.text, context_tokens)
                return encode_rendered(prompt, self._tokenize, self._control, context_tokens)
            case ChatInput():
                raise not_rendered()

    def _tokenize(self, texts: list[str], *, adds_special: bool = False) -> list[list[int]]:
        # Not verbose: it warns of long prompts, which are refused a moment later.
        found = self._tokenizer(texts, add_special_tokens=adds_special, verbose=False)
        return list(found["input_ids"])

    def _check_bytes(self, text: str, context_tokens: int | None) -> None:
        """Refuse at once what is too long even if it is made of the longest tokens."""
        try:
            n_bytes = len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequest("The prompt has half a surrogate pair, no character.") from error
        at_least = n_bytes // self._max_token_bytes
        if context_tokens is not None and at_least > context_tokens:
            raise ContextTooLong(
                f"The prompt has at least {at_least} tokens, "
                f"but prompt and answer together may have {context_tokens}."
            )


@dataclass(slots=True)
class _Answer:
    """One answer that is under way."""

    window: TokenWindow
    stops: StopStrings
    prompt_tokens: int | None  # until the first delta has told it


class TransformersStepper:
    """A causal language model of transformers.

    The source is a folder.  Options: `dtype` (``auto``, the folder's, by default), `device` (CUDA
    where there is one), `kv_bytes` (default 1 GiB), `context_tokens`, `step_tokens` (prompt tokens
    of a step) and `threads`.  Raises: ConfigError, EngineStartError.
    """

    def __init__(self, spec: EngineSpec) -> None:
        check_options("transformers", spec.options)
        names = ("kv_bytes", "context_tokens", "step_tokens")
        limits = {name: n for name in names if (n := spec.option(name, None))}
        if threads := spec.option("threads", None):
            torch.set_num_threads(threads)
        self._take(*_load(spec), max_running=spec.max_running, **limits)

    @classmethod
    def over(cls, model: Any, tokenizer: Any, **limits: Any) -> "TransformersStepper":
        """Use a loaded model, in place; `limits` are those of a `TokenBatch`."""
        self = cls.__new__(cls)
        self._take(model, tokenizer, **limits)
        return self

    def _take(self, model: Any, tokenizer: Any, **limits: Any) -> None:
        self._batch = TokenBatch(model, **limits)
        self._texts = _Texts(tokenizer, self._batch.n_vocabulary)
        self._end_tokens = _end_tokens(model, tokenizer)
        held = self._batch.limits
        self.limits = Limits(held.max_running, held.context_tokens, held.kv_tokens)
        self._running: dict[int, _Answer] = {}

    def add(
        self, key: int, request: GenerationRequest, options: TokenOptions | None = None
    ) -> None:
        """Take a request; where `options` are given, they count and not the request's sampling."""
        if key in self._running:
            raise ValueError(f"The key {key} is in use.")
        context_tokens = self.limits.context_tokens
        ids = self._texts.encode(request.input, context_tokens)
        max_tokens = answer_room(request, len(ids), context_tokens)
        sampling = request.sampling
        options = options or TokenOptions(
            max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            end_tokens=self._end_tokens,
        )
        self._batch.add(key, ids, replace(options, max_new_tokens=max_tokens))
        self._running[key] = _Answer(TokenWindow(), StopStrings(request.stop), len(ids))

    def cancel(self, key: int) -> None:
        if self._running.pop(key, None) is not None:
            self._batch.cancel(key)

    def step(self) -> Sequence[tuple[int, Output]]:
        events = self._batch.step()
        told = {event.key for event in events}
        outputs = [
            (key, Delta(prompt_tokens=self._tell_usage(answer)))
            for key, answer in self._running.items()
            if answer.prompt_tokens is not None and key not in told
        ]
        fine = [event for event in events if event.error is None]
        texts = detokenize(self._texts.decode, [self._feed(event) for event in fine])
        pairs = zip(fine, texts, strict=True)
        ends = [self._end(event) for event in events if event.error is not None]
        return [*outputs, *(self._to_output(event, text) for event, text in pairs), *ends]

    def has_work(self) -> bool:
        return self._batch.has_work()

    def encode(self, prompt: Input) -> Sequence[int]:
        return self._texts.encode_whole(prompt)

    def close(self) -> None:
        self._running.clear()
        self._batch.close()

    def _feed(self, event: TokenEvent) -> Feed:
        token = event.token
        ids = () if token is None or token in self._end_tokens else (token,)
        return Feed(self._running[event.key].window, ids, event.end is not None)

    def _to_output(self, event: TokenEvent, text: str) -> tuple[int, Output]:
        answer = self._running[event.key]
        text = answer.stops.feed(text)
        reason = None if event.end is None else FinishReason(event.end.value)
        if answer.stops.is_found:
            reason = FinishReason.STOP
            self.cancel(event.key)
        elif reason is not None:
            text += answer.stops.flush()
            del self._running[event.key]
        return event.key, Delta(text, 1, self._tell_usage(answer), reason)

    def _end(self, event: TokenEvent) -> tuple[int, Output]:
        del self._running[event.key]
        error = EngineFailed("The model failed at this request.")
        error.__cause__ = event.error
        return event.key, error

    @staticmethod
    def _tell_usage(answer: _Answer) -> int | None:
        prompt_tokens, answer.prompt_tokens = answer.prompt_tokens, None
        return prompt_tokens


def _load(spec: EngineSpec) -> tuple[Any, Any]:
    folder = Path(spec.source)
    if not folder.joinpath("config.json").is_file():
        raise ConfigError(f"The source {spec.source!r} is no folder of a transformers model.")
    device = str(spec.option("device", "cuda" if torch.cuda.is_available() else "cpu"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=spec.option("dtype", "auto"), local_files_only=True
        )
        return model.to(device).eval(), tokenizer
    except _FOREIGN_ERRORS as error:
        raise EngineStartError(f"transformers cannot load {spec.source!r}.") from error


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer, of the model and of its tokenizer."""
    found = {tokenizer.eos_token_id}
    ends = getattr(model.generation_config, "eos_token_id", None)
    found.update(ends if isinstance(ends, list | tuple) else [ends])
    return frozenset(each for each in found if each is not None)
