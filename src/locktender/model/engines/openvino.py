"""OpenVINO's continuous batching pipeline, driven step by step.

The pipeline batches, schedules and caches; here requests are put into its words and its tokens
into ours, and what it does not check is checked: it runs unknown token ids and prompts beyond the
model's context, cuts off what its tokenizer finds too long, and takes a request id twice.  Its own
exceptions end here.

With the preset ``exact``, the default, a greedy answer does not depend on what else is running.
``fast`` is the engine's own choice of precision: up to twice the tokens a second, and answers that
differ by the company they are in.

A step holds the interpreter, so it belongs into a process of its own (`model.child`).  The weights
are a GGUF file; what its header says is read by `gguf`.
"""

import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino_genai

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
    Sampling,
    TextInput,
    TokenInput,
)
from locktender.model.detokenizer import Feed, TokenWindow, detokenize
from locktender.model.engine import EngineSpec, Limits, Output, check_options
from locktender.model.gguf import GgufHeader, read_header, read_vocabulary
from locktender.model.prompt import answer_room, check_ids, not_rendered
from locktender.model.stop import StopStrings
from locktender.prompting.control_token import ControlTokens
from locktender.prompting.token_ids import encode_rendered

__all__ = ["OpenVinoStepper"]

PRESETS: Mapping[str, Mapping[str, str | int]] = {
    "exact": {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    },
    "fast": {},
}

BLOCK_TOKENS = 32  # of the KV cache, on CPUs; a request holds whole blocks
DEFAULT_KV_BYTES = 1 << 30
# One step of 256 tokens takes half a second on two slow cores, one of 2,048 takes 1.4 s.
MAX_BATCHED_TOKENS = 256
COLDEST = 1e-6  # temperatures below it are greedy: dividing by them overflows
SEED_BITS = 32  # of longer seeds it would cut the rest off in silence

# What C++ exceptions become on their way through pybind11.
FOREIGN_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, MemoryError)


@dataclass(slots=True)
class _Generation:
    """One answer that is under way.  Its handle is kept: dropping it would cancel the request."""

    key: int
    handle: Any
    window: TokenWindow
    stops: StopStrings
    prompt_tokens: int | None  # until the first delta has told it


@dataclass(frozen=True, slots=True)
class _News:
    """What a step brought for one answer."""

    generation: _Generation
    ids: list[int]
    reason: FinishReason | None
    is_lost: bool  # the engine has dropped the request without finishing it


class _Tokenizer:
    """The model's tokenizer."""

    def __init__(self, tokenizer: Any, context_tokens: int, control: ControlTokens) -> None:
        self._tokenizer = tokenizer
        self._control = control
        vocabulary = tokenizer.get_vocab()
        self._n_vocabulary = max(vocabulary.values()) + 1
        self._max_token_bytes = max(map(len, vocabulary))
        probe = tokenizer.encode(" a" * (context_tokens + 1), add_special_tokens=False).input_ids
        # openvino_genai takes tensors of this class but does not export it.
        self._tensor_class = type(probe)
        # Longer texts are cut off in silence, so whatever is as long as this may be longer.
        self.cut_tokens: int = probe.shape[1]

    def encode(self, prompt: Input, context_tokens: int) -> Any:
        """Return the prompt as a tensor of token ids.  Raises: InvalidRequest, ContextTooLong."""
        match prompt:
            case TokenInput():
                check_ids(prompt.ids, self._n_vocabulary)
                return self._tensor_class([list(prompt.ids)])
            case TextInput():
                self._check_bytes(prompt.text, context_tokens)
                return self._tokenize(prompt.text)
            case RenderedInput():
                self._check_bytes(prompt.text, context_tokens)
                ids = encode_rendered(prompt, self._encode_texts, self._control, context_tokens)
                check_ids(ids, self._n_vocabulary)
                return self._tensor_class([ids])
            case ChatInput():
                raise not_rendered()

    def encode_whole(self, prompt: Input) -> list[int]:
        """Return the token ids of a prompt of whatever length.  Raises: InvalidRequest."""
        match prompt:
            case TokenInput():
                return list(prompt.ids)
            case TextInput():
                return self._encode_long_texts([prompt.text])[0]
            case RenderedInput():
                return encode_rendered(prompt, self._encode_long_texts, self._control)
            case ChatInput():
                raise not_rendered()

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Return the texts without the special tokens; the end token has none."""
        texts: list[str] = self._tokenizer.decode(rows)
        return texts

    def _tokenize(self, text: str) -> Any:
        ids = self._tokenizer.encode(text, add_special_tokens=False).input_ids
        if not ids.shape[1]:
            raise InvalidRequest("The prompt is empty.", "prompt")
        return ids

    def _encode_texts(self, texts: list[str]) -> list[list[int]]:
        encoded = self._tokenizer.encode(texts, add_special_tokens=False)
        rows = zip(encoded.input_ids.data, encoded.attention_mask.data, strict=True)
        return [ids[mask == 1].tolist() for ids, mask in rows]

    def _encode_long_texts(self, texts: list[str]) -> list[list[int]]:
        """Encode `texts`, in halves where one would be cut off; tokens begin with their space."""
        rows = self._encode_texts(texts)
        for row, text in enumerate(texts):
            if len(rows[row]) >= self.cut_tokens:
                middle = len(text) // 2
                spaces = (text.find(" ", middle), text.rfind(" ", 0, middle))
                at = next((space for space in spaces if space > 0), middle)
                first, second = self._encode_long_texts([text[:at], text[at:]])
                rows[row] = first + second
        return rows

    def _check_bytes(self, text: str, context_tokens: int) -> None:
        """Refuse at once what is too long even if it is made of the longest tokens."""
        try:
            n_bytes = len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequest("The prompt has half a surrogate pair, no character.") from error
        at_least = n_bytes // self._max_token_bytes
        if at_least > context_tokens:
            raise ContextTooLong(
                f"The prompt has at least {at_least} tokens, "
                f"but prompt and answer together may have {context_tokens}."
            )


class OpenVinoStepper:
    """A GGUF model in OpenVINO.

    Options: `preset` (``exact`` or ``fast``), `kv_tokens` (default: what 1 GiB holds),
    `max_batched_tokens` (of one step, default 256), `prefix_cache` (default true).

    A delta counts every token that the model generated, its end token included.  If the pipeline
    fails in a step, it cannot be known for which request: `step` raises EngineFailed, and whoever
    owns the stepper must build another.
    Raises: ConfigError for a file or an option that cannot work, EngineStartError.
    """

    def __init__(self, spec: EngineSpec) -> None:
        properties = _pick_preset(spec)
        header = read_header(Path(spec.source))
        control = ControlTokens(read_vocabulary(Path(spec.source)).tokens)
        n_blocks, kv_tokens = _size_cache(spec, header, is_exact=bool(properties))
        try:
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(
                spec.source, _schedule(spec, n_blocks), "CPU", dict(properties)
            )
            self._tokenizer = _Tokenizer(
                self._pipeline.get_tokenizer(), header.context_tokens, control
            )
            self._end: Any = self._pipeline.get_config()
        except FOREIGN_ERRORS as error:
            raise EngineStartError(f"OpenVINO cannot load {spec.source!r}.") from error
        context_tokens = min(header.context_tokens, kv_tokens, self._tokenizer.cut_tokens)
        self.limits = Limits(spec.max_running, context_tokens, kv_tokens)
        self._running: dict[int, _Generation] = {}
        self._ids = itertools.count()
        self._has_leftovers = False  # cancelled requests, whose blocks the next step gives back

    def add(self, key: int, request: GenerationRequest) -> None:
        if key in self._running:
            raise ValueError(f"The key {key} is in use.")
        context_tokens = self.limits.context_tokens
        ids = self._tokenizer.encode(request.input, context_tokens)
        n_prompt_tokens = ids.shape[1]
        is_exact = n_prompt_tokens < self._tokenizer.cut_tokens
        max_tokens = answer_room(request, n_prompt_tokens, context_tokens, is_exact=is_exact)
        config = self._configure(request.sampling, max_tokens)
        try:
            handle = self._pipeline.add_request(next(self._ids), ids, config)
        except FOREIGN_ERRORS as error:
            raise EngineFailed("The engine did not take the request.") from error
        self._running[key] = _Generation(
            key, handle, TokenWindow(), StopStrings(request.stop), n_prompt_tokens
        )

    def cancel(self, key: int) -> None:
        generation = self._running.pop(key, None)
        if generation is not None:
            generation.handle.cancel()
            self._has_leftovers = True

    def step(self) -> Sequence[tuple[int, Output]]:
        try:
            self._pipeline.step()
            self._has_leftovers = False
            news = [found for each in self._running.values() if (found := _read(each))]
            feeds = [Feed(new.generation.window, new.ids, new.reason is not None) for new in news]
            texts = detokenize(self._tokenizer.decode, feeds)
        except FOREIGN_ERRORS as error:
            raise EngineFailed("The engine failed in a step.") from error
        return [
            (new.generation.key, self._to_output(new, text))
            for new, text in zip(news, texts, strict=True)
        ]

    def has_work(self) -> bool:
        return bool(self._running) or self._has_leftovers

    def encode(self, prompt: Input) -> Sequence[int]:
        try:
            return self._tokenizer.encode_whole(prompt)
        except FOREIGN_ERRORS as error:
            raise EngineFailed("The engine did not take the text.") from error

    def kv_usage(self) -> float:
        """Return how much of the KV cache was in use in the last step, from 0 to 1."""
        percent: float = self._pipeline.get_metrics().cache_usage
        return percent / 100

    def kv_bytes(self) -> int:
        """Return what the KV cache takes; the first step reserves it."""
        n_bytes: int = self._pipeline.get_metrics().kv_cache_size_in_bytes
        return n_bytes

    def close(self) -> None:
        for key in list(self._running):
            self.cancel(key)
        self._has_leftovers = False
        self._pipeline = None

    def _configure(self, sampling: Sampling, max_tokens: int) -> Any:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = max_tokens
        config.eos_token_id = self._end.eos_token_id
        config.stop_token_ids = self._end.stop_token_ids
        if sampling.temperature > COLDEST:
            config.do_sample = True
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            if sampling.top_k:
                config.top_k = sampling.top_k
            # Without a seed OpenVINO takes the same one each time.
            seed = secrets.randbits(SEED_BITS) if sampling.seed is None else sampling.seed
            if seed >> SEED_BITS:
                raise InvalidRequest(f"The engine takes seeds of {SEED_BITS} bits.", "seed")
            config.rng_seed = seed
        config.repetition_penalty = sampling.repetition_penalty
        return config

    def _to_output(self, news: _News, text: str) -> Output:
        """Put the news of one answer into a delta; end it where it ends."""
        generation = news.generation
        if news.is_lost:
            del self._running[generation.key]
            return EngineFailed("The engine gave up the request: its KV cache is full.")
        text = generation.stops.feed(text)
        reason = news.reason
        if generation.stops.is_found:
            reason = FinishReason.STOP
            self.cancel(generation.key)
        elif reason is not None:
            text += generation.stops.flush()
            del self._running[generation.key]
        prompt_tokens, generation.prompt_tokens = generation.prompt_tokens, None
        return Delta(text, len(news.ids), prompt_tokens, reason)


def _read(generation: _Generation) -> _News | None:
    """Return what has come for an answer since the last step, or None."""
    handle = generation.handle
    ids: list[int] = []
    reason = None
    while handle.can_read():
        for output in handle.read().values():
            ids += output.generated_ids
            reason = _to_reason(output.finish_reason)
    if ids or reason:
        return _News(generation, ids, reason, is_lost=False)
    if handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
        return _News(generation, ids, reason, is_lost=True)
    is_opening = generation.prompt_tokens is not None
    return _News(generation, ids, reason, is_lost=False) if is_opening else None


def _to_reason(theirs: Any) -> FinishReason | None:
    reasons = openvino_genai.GenerationFinishReason
    if theirs == reasons.NONE:
        return None
    return FinishReason.STOP if theirs == reasons.STOP else FinishReason.LENGTH


def _pick_preset(spec: EngineSpec) -> Mapping[str, str | int]:
    """Return the preset's properties.  Raises: ConfigError, for any option that cannot be."""
    check_options("openvino", spec.options)
    return PRESETS[spec.option("preset", "exact")]


def _size_cache(spec: EngineSpec, header: GgufHeader, *, is_exact: bool) -> tuple[int, int]:
    """Return the number of blocks of the KV cache, and how many tokens they promise to hold.

    Each request may leave all but one token of its last block empty, so requests that together
    have the promised number of tokens always fit.  More of them is the owner's mistake, and
    harms others: an engine that can go on with no request gives up all of them.
    """
    wasted_tokens = spec.max_running * (BLOCK_TOKENS - 1)
    n_blocks = DEFAULT_KV_BYTES // (BLOCK_TOKENS * _token_bytes(header, is_exact=is_exact))
    kv_tokens = spec.option("kv_tokens", n_blocks * BLOCK_TOKENS - wasted_tokens)
    if kv_tokens < 1:
        raise ConfigError(f"The KV cache has no room for {spec.max_running} requests.")
    return -(-(kv_tokens + wasted_tokens) // BLOCK_TOKENS), kv_tokens


def _token_bytes(header: GgufHeader, *, is_exact: bool) -> int:
    """Return what one token takes in the KV cache."""
    if is_exact:
        head_bytes = 4 * (header.key_length + header.value_length)
    else:
        # Bytes, and for their scale and zero point 8 bytes: of keys, for a channel in a block;
        # of values, for a token.
        head_bytes = header.key_length * (BLOCK_TOKENS + 8) // BLOCK_TOKENS
        head_bytes += header.value_length + 8
    return header.n_layers * header.n_kv_heads * head_bytes


def _schedule(spec: EngineSpec, n_blocks: int) -> Any:
    config = openvino_genai.SchedulerConfig()
    config.num_kv_blocks = n_blocks
    config.max_num_batched_tokens = spec.option("max_batched_tokens", MAX_BATCHED_TOKENS)
    config.max_num_seqs = max(spec.max_running, 256)  # the gate's bound is the one that counts
    config.dynamic_split_fuse = True  # long prompts are taken in parts, beside running answers
    config.enable_prefix_caching = spec.option("prefix_cache", default=True)
    return config
