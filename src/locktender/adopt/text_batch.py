"""Decide which texts of a transformers pipeline may be answered together, token by token.

Only where the settings are known to mean for an answer among others what they mean alone.  In
float32 a greedy answer is then that of the single call; in half precision it may differ by what is
rounded otherwise.  What is not known to be so is run alone.

Nothing is run or imported here, and any thread may ask: of the pipeline and its model only
attributes are read.  `why_no_batch` looks at all there is; `may_share`, which is asked for each
call, leaves out what may be put on a model's parts at any time, since `own_copy` looks at these
before each text.  `text_together`, above, runs them.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from locktender.adopt.generation_settings import GenerationSettings, KnownSettings
from locktender.adopt.swap import plain_class
from locktender.adopt.weight_view import why_no_view

__all__ = [
    "is_plain_search",
    "is_pretrained",
    "is_text_generation",
    "made_with",
    "may_share",
    "why_no_batch",
    "why_no_engine",
]

_PARAMETERS = ("_preprocess_params", "_forward_params", "_postprocess_params")
# Settings that each answer may have its own of.
_ROW_BY_ROW = frozenset(
    {
        "bos_token_id",
        "do_sample",
        "eos_token_id",
        "max_length",
        "max_new_tokens",
        "min_p",
        "pad_token_id",
        "repetition_penalty",
        "temperature",
        "top_k",
        "top_p",
        "use_cache",
    }
)
# What a call may name beside these: it says how one prompt is encoded or one answer decoded.
_FREE_PARAMETERS = _ROW_BY_ROW | {
    "add_special_tokens",
    "clean_up_tokenization_spaces",
    "return_full_text",
    "return_type",  # what the pipeline makes of the one before
    "skip_special_tokens",
    "truncation",
}
# A generation config's settings that nothing depends on unless another one is set as well.
_IDLE = frozenset(
    {
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "early_stopping",
        "length_penalty",
        "max_matching_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "target_lookbehind",
        "transformers_version",
    }
)
# Settings that are off at 1, where others are off at 0, False or None.
_OFF_AT_ONE = frozenset(
    {
        "encoder_repetition_penalty",
        "guidance_scale",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "typical_p",
    }
)
# Settings under which tokens do not come one by one, or not for good.
_SEARCHES = (
    "assistant_early_exit",
    "assistant_model",
    "constraints",
    "custom_generate",
    "dola_layers",
    "force_words_ids",
    "num_beams",
    "num_return_sequences",
    "penalty_alpha",
    "prompt_lookup_num_tokens",
    "use_mtp",
)


def is_text_generation(pipeline: Any) -> bool:
    """Whether the class is transformers' own, or a guarded one, which has the same name."""
    for cls in type(pipeline).__mro__:
        if (cls.__module__, cls.__qualname__) != (
            "transformers.pipelines.text_generation",
            "TextGenerationPipeline",
        ):
            return False
        if "_forward" in vars(cls):
            return True
    return False


def made_with(pipeline: Any) -> tuple[Mapping[str, Any], ...] | None:
    """Return what a pipeline was made with for before, during and after its `generate`.

    None where this version of transformers keeps it elsewhere.
    """
    parts = tuple(getattr(pipeline, name, None) for name in _PARAMETERS)
    return None if None in parts else parts  # type: ignore[return-value]  # as was just seen


def is_plain_search(settings: GenerationSettings) -> bool:
    """Whether `generate` settles the tokens of a row one after the other."""
    return all(_is_off(name, settings.get(name)) for name in _SEARCHES)


def why_no_batch(pipeline: Any) -> str | None:
    """Return the sentence that says why texts are run one at a time; None if they need not be."""
    return _why_not_pipeline(pipeline, KnownSettings()) or why_no_view(pipeline.model)


def why_no_engine(model: Any) -> str | None:
    """Return the same for a model that is in no pipeline."""
    if not is_pretrained(model):
        return "It is no model of transformers."
    return _why_not_model(model) or why_no_view(model)


def may_share(
    pipeline: Any, parameters: Mapping[str, Any], known: KnownSettings | None = None
) -> bool:
    """Whether calls with these parameters may be run together.  Raises nothing."""
    known = known or KnownSettings()
    if not _FREE_PARAMETERS.issuperset(parameters) or _why_not_pipeline(pipeline, known):
        return False
    if not all(isinstance(value, bool | int | float | str) for value in parameters.values()):
        return False
    _, forward, _ = made_with(pipeline) or ({}, {}, {})
    settings = known.of(pipeline, {**forward, **parameters})
    limit = settings.get("max_new_tokens")
    # Without a limit of new tokens there is one of all tokens, which the prompt decides about.
    return isinstance(limit, int) and limit > 0


def _why_not_pipeline(pipeline: Any, known: KnownSettings) -> str | None:
    if not is_text_generation(pipeline):
        return f"The task is {pipeline.task!r}; only plain text generation is batched."
    return (
        _why_not_model(pipeline.model)
        or _why_not_settings(pipeline, known)
        or _why_not_tokenizer(pipeline.tokenizer)
    )


def _why_not_model(model: Any) -> str | None:
    forward = getattr(plain_class(model), "forward", None)
    parameters = frozenset() if forward is None else _parameters_of(forward)
    config = getattr(model, "config", None)
    reasons = (
        (getattr(model, "hf_device_map", None) or hasattr(model, "_hf_hook"), _SPREAD),
        (
            _is_quantized(model, config),
            "The model is quantized: in a batch its answers may differ.",
        ),
        (_has_adapter(model), "The model has PEFT adapters, which are switched for all of it."),
        (
            not (is_pretrained(model) and _is_theirs(forward)),
            "The model is not a class of transformers' own.",
        ),
        (
            getattr(model, "_is_stateful", False)
            or getattr(config, "is_encoder_decoder", False)
            or not {"attention_mask", "position_ids"} <= parameters,
            "The model cannot leave padding out of account.",
        ),
        (getattr(model, "training", False), "The model is in training mode."),
    )
    return next((reason for holds, reason in reasons if holds), None)


@lru_cache(maxsize=64)
def _parameters_of(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


_SPREAD = "The model is placed by a device map, and its hooks see one call at a time."


def _is_quantized(model: Any, config: Any) -> bool:
    return bool(
        getattr(model, "is_quantized", False)
        or getattr(model, "hf_quantizer", None) is not None
        or getattr(config, "quantization_config", None) is not None
    )


def _has_adapter(model: Any) -> bool:
    return bool(getattr(model, "_hf_peft_config_loaded", False) or hasattr(model, "peft_config"))


def is_pretrained(model: Any) -> bool:
    """Whether it is a model of transformers."""
    return any(
        (cls.__module__, cls.__qualname__) == ("transformers.modeling_utils", "PreTrainedModel")
        for cls in type(model).__mro__
    )


def _is_theirs(forward: Any) -> bool:
    # Models that come with code of their own are in the second package.
    return str(getattr(forward, "__module__", "")).startswith(
        ("transformers.", "transformers_modules.")
    )


def _why_not_settings(pipeline: Any, known: KnownSettings) -> str | None:
    parts, settings = made_with(pipeline), known.of(pipeline, {})
    if parts is None or not settings.is_known:
        return "This version of transformers keeps its settings where they are not known."
    config = {
        name
        for name, value in settings.items()
        if not (name in _ROW_BY_ROW | _IDLE or _is_off(name, value))
    }
    given = {name for parameters in parts for name in parameters}
    odd = sorted((given - _FREE_PARAMETERS) | config)
    if not odd:
        return None
    return f"It generates with {', '.join(odd)}, which a batch may change."


def _why_not_tokenizer(tokenizer: Any) -> str | None:
    if tokenizer is None:
        return "It has no tokenizer."
    if "attention_mask" not in tokenizer.model_input_names:
        return "The tokenizer makes no attention mask."
    return None


def _is_off(name: str, value: Any) -> bool:
    if name in _OFF_AT_ONE and value is not True and value == 1:
        return True
    return value is None or value is False or value == 0 or value in ([], {}, "")
