"""Hold the table of settings that would change an answer: what asks for nothing, and who obeys it.

One row for each field, of whatever family of services it comes from (OpenAI, vLLM, SGLang,
llama.cpp, Ollama, TGI, transformers).  A field whose value asks for nothing passes.  Any other
needs its feature of the model's engine (`model.engine` says who has which); none is obeyed by
nobody.  What all engines obey has a type and a range in `wire.openai`, and no row.

These services get new fields every month, and callers misspell old ones: what stands nowhere here
may change the text as well, and is refused, as OpenAI does.

Read by the service, which refuses, and by `app.chat_body`, which sends what a service may know.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from locktender.core.errors import InvalidRequest
from locktender.core.request import Feature

__all__ = [
    "SETTINGS",
    "WITHOUT_EFFECT",
    "Setting",
    "is_known",
    "not_known",
    "refuse_unsupported",
    "unknown",
]

_MAX_NAME_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Setting:
    """One field."""

    neutral: tuple[object, ...] = ()  # the values that ask for nothing; null is always one
    feature: Feature | None = None  # None: no engine obeys it
    instead: str = ""  # the field that says the same here, for engines that obey that one


_OFF = Setting((False,))
_ZERO = Setting((0,))
_ONE = Setting((1,))
_NO_LIST = Setting(([],))
_NO_OBJECT = Setting(({},))
_NO_TEXT = Setting(("",))
_ABSENT = Setting()
_LENGTH = Setting(instead="max_tokens")
_ENDLESS = Setting((-1,), instead="max_tokens")
_UNBOUNDED = Setting((-1,))
_SEED = Setting(instead="seed")

SETTINGS: Mapping[str, Setting] = {
    # Which token is next: the choice is narrowed, or bent.
    "top_k": Setting((0, -1), Feature.TOP_K),
    "min_p": Setting((0,), Feature.MIN_P),
    "repetition_penalty": Setting((1,), Feature.REPETITION_PENALTY),
    "repeat_penalty": Setting((1,), instead="repetition_penalty"),
    "repeat_last_n": Setting((-1,), instead="repetition_penalty"),
    "penalize_nl": _OFF,
    "penalize_newline": _OFF,
    "encoder_repetition_penalty": _ONE,
    "frequency_penalty": _ZERO,
    "presence_penalty": _ZERO,
    "no_repeat_ngram_size": _ZERO,
    "logit_bias": Setting(({}, [])),
    "logits_processors": _NO_LIST,
    "custom_logit_processor": _ABSENT,
    "allowed_token_ids": _ABSENT,
    "bad_words": _NO_LIST,
    "bad_words_ids": _NO_LIST,
    "typical_p": _ONE,
    "tfs": _ONE,
    "tfs_z": _ONE,
    "top_a": _ZERO,
    "top_n_sigma": Setting((0, -1)),
    "epsilon_cutoff": _ZERO,
    "eta_cutoff": _ZERO,
    "dynatemp_range": _ZERO,
    "dynatemp_exponent": _ONE,
    "temperature_last": _OFF,
    "smoothing_factor": _ZERO,
    "mirostat": _ZERO,
    "mirostat_mode": _ZERO,
    "dry_multiplier": _ZERO,
    "xtc_probability": _ZERO,
    "adaptive_target": _ABSENT,
    "min_keep": _ZERO,
    "samplers": _NO_LIST,
    "sampler_seq": _NO_TEXT,
    "do_sample": Setting((True,), instead="temperature"),
    "guidance_scale": _ONE,
    "cfg_scale": _ONE,
    "negative_prompt": _NO_TEXT,
    "watermark": _OFF,
    "watermarking": _OFF,
    "random_seed": _SEED,
    "sampling_seed": _SEED,
    "generation_config": _ABSENT,
    # Many answers instead of one.
    "best_of": _ONE,
    "n_cmpl": _ONE,
    "use_beam_search": _OFF,
    "num_beams": _ONE,
    "num_beam_groups": _ONE,
    "num_return_sequences": _ONE,
    "beam_width": _ONE,
    "diversity_penalty": _ZERO,
    "length_penalty": _ONE,
    "early_stopping": _OFF,
    # What the text may be.
    "response_format": Setting(({}, {"type": "text"})),
    "guided_json": _ABSENT,
    "guided_regex": _NO_TEXT,
    "guided_choice": _NO_LIST,
    "guided_grammar": _NO_TEXT,
    "structural_tag": _ABSENT,
    "structured_outputs": _NO_OBJECT,
    "guideline": _ABSENT,
    "grammar": _NO_TEXT,
    "grammar_lazy": _OFF,
    "grammar_triggers": _NO_LIST,
    "json_schema": _ABSENT,
    "json_object": _OFF,
    "json_mode": _OFF,
    "regex": _NO_TEXT,
    "ebnf": _NO_TEXT,
    "format": _NO_TEXT,
    "modalities": Setting(([], ["text"])),
    "audio": _ABSENT,
    # Where it ends.
    "ignore_eos": _OFF,
    "min_tokens": _ZERO,
    "min_new_tokens": _ZERO,
    "min_length": _ZERO,
    "max_new_tokens": _LENGTH,
    "max_length": _LENGTH,
    "n_predict": _ENDLESS,
    "num_predict": _ENDLESS,
    "max_output_tokens": _LENGTH,
    "n_indent": _ZERO,
    "t_max_predict_ms": _ZERO,
    "stop_token_ids": _NO_LIST,
    "stop_regex": Setting(([], "")),
    "stop_sequences": Setting(([],), instead="stop"),
    "stop_strings": Setting(([],), instead="stop"),
    "include_stop_str_in_output": _OFF,
    "no_stop_trim": _OFF,
    "repetition_detection": _ABSENT,
    # How it is written and what is told beside it.
    "skip_special_tokens": Setting((True,)),
    "spaces_between_special_tokens": Setting((True,)),
    "echo": _OFF,
    "return_full_text": _OFF,
    "suffix": _NO_TEXT,
    "logprobs": _OFF,
    "top_logprobs": _ZERO,
    "prompt_logprobs": _ABSENT,
    "logprob_token_ids": _NO_LIST,
    "logprob_start_len": Setting((-1,)),
    "top_logprobs_num": _ZERO,
    "n_probs": _ZERO,
    "post_sampling_probs": _OFF,
    "return_logprob": _OFF,
    "return_tokens": _OFF,
    "return_token_ids": _OFF,
    "return_tokens_as_token_ids": _OFF,
    "return_token_offsets": _OFF,
    "return_prompt_token_ids": _OFF,
    "return_prompt_text": _OFF,
    "return_hidden_states": _OFF,
    "return_routed_experts": _OFF,
    "return_cached_tokens_details": _OFF,
    "return_meta_info": _OFF,
    "response_fields": _NO_LIST,
    "details": _OFF,
    "decoder_input_details": _OFF,
    "top_n_tokens": _ZERO,
    # What the model reads.
    "chat_template": _NO_TEXT,
    "chat_template_kwargs": _NO_OBJECT,
    "template": _NO_TEXT,
    "add_generation_prompt": Setting((True,)),
    "continue_final_message": _OFF,
    "add_special_tokens": _OFF,
    "documents": _NO_LIST,
    "truncate": _ABSENT,
    "truncate_prompt_tokens": _ABSENT,
    "truncation_side": _ABSENT,
    "transforms": _NO_LIST,
    "num_ctx": _ABSENT,
    "n_keep": _ZERO,
    "num_keep": _ZERO,
    "prompt": _ABSENT,
    "prompt_embeds": _ABSENT,
    "input": _ABSENT,
    "inputs": _ABSENT,
    "input_ids": _ABSENT,
    "session_params": _NO_OBJECT,
    "task": _ABSENT,
    "safe_prompt": _OFF,
    "system": _NO_TEXT,
    "instructions": _NO_TEXT,
    "context": _NO_LIST,
    "raw": _OFF,
    "images": _NO_LIST,
    "multi_modal_data": _NO_OBJECT,
    "mm_processor_kwargs": _NO_OBJECT,
    "media_io_kwargs": _NO_OBJECT,
    "images_config": _NO_OBJECT,
    "use_audio_in_video": _OFF,
    "moderation": _ABSENT,
    "web_search_options": _ABSENT,
    "plugins": _NO_LIST,
    # Which weights answer.
    "lora": _NO_LIST,
    "lora_path": _ABSENT,
    "adapter_id": _ABSENT,
    "models": _NO_LIST,
    "provider": _NO_OBJECT,
    # Tools; there are none to choose from, or they are refused.
    "tools": _NO_LIST,
    "tool_choice": Setting(("none", "auto")),
    "functions": _NO_LIST,
    "function_call": Setting(("none", "auto")),
    "tool_prompt": _NO_TEXT,
    # Thinking, which some models do unless they are told not to and others only when told: so
    # neither yes nor no asks for nothing.
    "reasoning": _NO_OBJECT,
    "reasoning_effort": _ABSENT,
    "reasoning_budget": _UNBOUNDED,
    "thinking": _NO_OBJECT,
    "thinking_budget": _UNBOUNDED,
    "thinking_budget_tokens": _UNBOUNDED,
    "thinking_token_budget": _UNBOUNDED,
    "thinking_forced_open": _OFF,
    "think": _ABSENT,
    "enable_thinking": _ABSENT,
    "prompt_mode": _ABSENT,
    "verbosity": Setting(("medium",)),
    # Thoughts stay in the text where the model has written them.
    "include_reasoning": Setting((True,)),
    "separate_reasoning": _OFF,
    "reasoning_format": Setting(("none", "raw")),
    # Bags of other settings, which clients unpack and services do not.
    "options": _NO_OBJECT,
    "parameters": _NO_OBJECT,
    "sampling_params": _NO_OBJECT,
    "extra_body": _NO_OBJECT,
    "extra_args": _NO_OBJECT,
    "vllm_xargs": _NO_OBJECT,
}

# What services take and the text does not depend on: whom it is for, how soon, what is kept; and
# what says nothing without a setting that is refused.
WITHOUT_EFFECT = frozenset(
    {"user", "metadata", "store", "service_tier", "parallel_tool_calls", "prediction"}
    | {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier"}
    | {"request_id", "rid", "priority", "cache_salt", "cache_prompt", "id_slot", "session_id"}
    | {"extra_key", "custom_labels", "keep_alive", "stream_reasoning", "stream_interval"}
    | {"mirostat_tau", "mirostat_eta", "xtc_threshold", "adaptive_decay", "custom_params"}
    | {"dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"}
    | {"guided_decoding_backend", "guided_whitespace_pattern"}
)

# What all engines obey.
_OBEYED = frozenset(
    {"temperature", "top_p", "seed", "stop", "max_tokens", "max_completion_tokens", "n"}
)


def is_known(name: str) -> bool:
    """Return whether a service knows what the setting of this name means, and says so."""
    return name in SETTINGS or name in WITHOUT_EFFECT or name in _OBEYED


def unknown(name: str, features: frozenset[Feature] = frozenset(Feature)) -> InvalidRequest:
    """Return the refusal of a setting that is not known; what it names is obeyed by `features`."""
    return not_known(name, (each for each in (*_OBEYED, *SETTINGS) if _is_obeyed(each, features)))


def not_known(name: str, names: Iterable[str], place: str = "") -> InvalidRequest:
    """Return the refusal of a field at `place` that is none of `names`, one of which it may be."""
    name = name[:_MAX_NAME_CHARACTERS]
    alike = get_close_matches(name, list(names), n=1, cutoff=0.8)
    hint = f"did you mean `{alike[0]}`?" if alike else "leave it out."
    param = f"{place}.{name}" if place else name
    return InvalidRequest(f"`{param}` is not known here: {hint}", param)


def refuse_unsupported(
    fields: Mapping[str, Any], engine: str, features: frozenset[Feature]
) -> None:
    """Raise InvalidRequest for a setting that the engine of this name does not obey.

    `fields` are those of a body that have no type and range in `wire.openai`, and those in the
    table.
    """
    for name, setting in SETTINGS.items():
        value = fields.get(name)
        if value is None or any(_is_same(value, each) for each in setting.neutral):
            continue
        if not _is_obeyed(name, features):
            is_helped = bool(setting.instead) and _is_obeyed(setting.instead, features)
            hint = f"send `{setting.instead}`" if is_helped else "leave it out"
            message = f"`{name}` is not supported by the engine `{engine}` of this model: {hint}."
            raise InvalidRequest(message, name)
    for name, value in fields.items():
        if value is not None and not is_known(name):
            raise unknown(name, features)


def _is_obeyed(name: str, features: frozenset[Feature]) -> bool:
    return name in _OBEYED or SETTINGS[name].feature in features


def _is_same(value: object, neutral: object) -> bool:
    """Whether they are equal in JSON, where 1 is 1.0 and neither is true."""
    numbers = (int, float)
    is_alike = type(value) is type(neutral) or (type(value) in numbers and type(neutral) in numbers)
    return is_alike and value == neutral
