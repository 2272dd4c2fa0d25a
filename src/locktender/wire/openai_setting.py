"""Hold the table of settings that would change an answer: what asks for nothing, and who obeys it.

One row for each field, of whatever family of services it comes from (OpenAI, vLLM, SGLang,
llama.cpp, Ollama, TGI, transformers).  A field whose value asks for nothing passes.  Any other
needs its feature of the model's engine (`model.engine` says who has which); none is obeyed by
nobody.  What all engines obey has a type and a range in `wire.openai`, and no row.

Read by the service, which refuses, and by `app.chat_body`, which sends what a service may know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from locktender.core.errors import InvalidRequest
from locktender.core.request import Feature

__all__ = ["SETTINGS", "WITHOUT_EFFECT", "Setting", "refuse_unsupported"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One field."""

    neutral: tuple[object, ...] = ()  # the values that ask for nothing; null is always one
    feature: Feature | None = None  # None: no engine obeys it
    instead: str = ""  # the field that says the same here


_OFF = Setting((False,))
_ZERO = Setting((0,))
_ONE = Setting((1,))
_NO_LIST = Setting(([],))
_NO_OBJECT = Setting(({},))
_NO_TEXT = Setting(("",))
_ABSENT = Setting()
_LENGTH = Setting(instead="max_tokens")

SETTINGS: Mapping[str, Setting] = {
    # Which token is next: the choice is narrowed, or bent.
    "top_k": Setting((0, -1), Feature.TOP_K),
    "min_p": Setting((0,), Feature.MIN_P),
    "repetition_penalty": Setting((1,), Feature.REPETITION_PENALTY),
    "repeat_penalty": Setting((1,), instead="repetition_penalty"),
    "repeat_last_n": Setting((0, -1), instead="repetition_penalty"),
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
    # Many answers instead of one.
    "best_of": _ONE,
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
    "n_predict": _LENGTH,
    "num_predict": _LENGTH,
    "max_output_tokens": _LENGTH,
    "n_indent": _ZERO,
    "t_max_predict_ms": _ZERO,
    "stop_token_ids": _NO_LIST,
    "stop_regex": Setting(([], "")),
    "stop_sequences": Setting(([],), instead="stop"),
    "stop_strings": Setting(([],), instead="stop"),
    "include_stop_str_in_output": _OFF,
    "no_stop_trim": _OFF,
    # How it is written and what is told beside it.
    "skip_special_tokens": Setting((True,)),
    "spaces_between_special_tokens": Setting((True,)),
    "echo": _OFF,
    "return_full_text": _OFF,
    "suffix": _NO_TEXT,
    "logprobs": _OFF,
    "top_logprobs": _ZERO,
    "prompt_logprobs": _ABSENT,
    "logprob_start_len": Setting((-1,)),
    "top_logprobs_num": _ZERO,
    "n_probs": _ZERO,
    "post_sampling_probs": _OFF,
    "return_logprob": _OFF,
    "return_tokens": _OFF,
    "return_token_ids": _OFF,
    "return_tokens_as_token_ids": _OFF,
    "return_hidden_states": _OFF,
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
    "num_ctx": _ABSENT,
    "n_keep": _ZERO,
    "num_keep": _ZERO,
    "prompt": _ABSENT,
    "input": _ABSENT,
    "system": _NO_TEXT,
    "instructions": _NO_TEXT,
    "context": _NO_LIST,
    "raw": _OFF,
    "images": _NO_LIST,
    "multi_modal_data": _NO_OBJECT,
    "mm_processor_kwargs": _NO_OBJECT,
    "moderation": _ABSENT,
    "web_search_options": _ABSENT,
    # Which weights answer.
    "lora": _NO_LIST,
    "lora_path": _ABSENT,
    "adapter_id": _ABSENT,
    "models": _NO_LIST,
    # Tools.
    "tools": _NO_LIST,
    "tool_choice": Setting(("none",)),
    "functions": _NO_LIST,
    "function_call": Setting(("none",)),
    "tool_prompt": _NO_TEXT,
    # Thinking, of models that do it when they are told to.
    "reasoning": _NO_OBJECT,
    "reasoning_effort": Setting(("none",)),
    "reasoning_budget": Setting((0, -1)),
    "thinking": _NO_OBJECT,
    "thinking_budget": _ZERO,
    "thinking_budget_tokens": _ZERO,
    "thinking_token_budget": _ZERO,
    "think": _OFF,
    "enable_thinking": _OFF,
    "verbosity": Setting(("medium",)),
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
    | {"prompt_cache_key", "prompt_cache_retention", "safety_identifier", "keep_alive"}
    | {"request_id", "rid", "priority", "cache_salt", "cache_prompt", "id_slot", "session_id"}
    | {"include_reasoning", "separate_reasoning", "stream_reasoning", "reasoning_format"}
    | {"mirostat_tau", "mirostat_eta", "xtc_threshold", "adaptive_decay", "custom_params"}
    | {"dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"}
    | {"guided_decoding_backend", "guided_whitespace_pattern"}
)


def refuse_unsupported(
    fields: Mapping[str, Any], engine: str, features: frozenset[Feature]
) -> None:
    """Raise InvalidRequest for a setting of a body that the engine of this name does not obey."""
    for name, setting in SETTINGS.items():
        value = fields.get(name)
        if value is None or any(_is_same(value, each) for each in setting.neutral):
            continue
        if setting.feature is None or setting.feature not in features:
            hint = f"send `{setting.instead}`" if setting.instead else "leave it out"
            message = f"`{name}` is not supported by the engine `{engine}` of this model: {hint}."
            raise InvalidRequest(message, name)


def _is_same(value: object, neutral: object) -> bool:
    """Whether they are equal in JSON, where 1 is 1.0 and neither is true."""
    numbers = (int, float)
    is_alike = type(value) is type(neutral) or (type(value) in numbers and type(neutral) in numbers)
    return is_alike and value == neutral
