"""Say what a call of a `HuggingFacePipeline` asks for, and what its answer is to LangChain.

LangChain's class passes on `pipeline_kwargs` of a call and drops every other option.  Here they all
count: options given directly win over `pipeline_kwargs` of the call, these over what the object was
made with, these over the pipeline's own.  What LangChain adds for itself is ignored; an option that
cannot be had is refused.  How a prompt is run is the business of `text_pipeline`; `pipeline_chat`
adds messages and tools to what is here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.outputs import Generation, GenerationChunk

from locktender.adopt.generation_settings import generation_names
from locktender.adopt.text_pipeline import Completion, TextSettings, TextTask
from locktender.core.errors import InvalidRequest

__all__ = [
    "last_chunk",
    "stream_head",
    "text_generation",
    "text_settings",
    "text_task",
    "token_usage",
]

# Options of a call of the pipeline; those of the generation itself are its configuration's.
_PIPELINE_OPTIONS = {
    "add_special_tokens",
    "clean_up_tokenization_spaces",
    "handle_long_generation",
    "padding",
    "prefix",
    "return_full_text",
    "skip_special_tokens",
    "tokenizer_encode_kwargs",
    "truncation",
}
_GENERATION_OPTIONS = {
    "do_sample",
    "max_length",
    "max_new_tokens",
    "min_new_tokens",
    "num_beams",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
}
_OWN_OPTIONS = {"max_tokens", "seed", "stop", "stop_strings"}
# `HuggingFacePipeline.from_model_id` keeps what the pipeline was built with among its options.
_BUILDING_OPTIONS = {
    "binary_output",
    "config",
    "device",
    "device_map",
    "dtype",
    "feature_extractor",
    "framework",
    "image_processor",
    "model",
    "model_kwargs",
    "pipeline_class",
    "processor",
    "revision",
    "task",
    "token",
    "tokenizer",
    "torch_dtype",
    "trust_remote_code",
    "use_fast",
    "video_processor",
}
# How prompts are put together is decided by what waits.
_BATCH_OPTIONS = {"batch_size", "num_workers"}


def text_task(
    llm: Any,
    prompt: str,
    stop: Sequence[str] | str | None,
    kwargs: Mapping[str, Any],
    *,
    wants_pieces: bool,
) -> TextTask:
    """Return what `prompt` asks for.  Raises: InvalidRequest."""
    return TextTask(prompt, text_settings(llm, stop, kwargs), wants_pieces=wants_pieces)


def text_settings(
    llm: Any,
    stop: Sequence[str] | str | None,
    kwargs: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
) -> TextSettings:
    """Merge the options of a call, those of `llm`, and between them `own`, those of its owner.

    Raises: InvalidRequest.
    """
    made_with = {
        name: value
        for name, value in (llm.pipeline_kwargs or {}).items()
        if name not in _BUILDING_OPTIONS
    }
    per_call = _renamed(_per_call(kwargs))
    direct = _direct(_options_in(llm.pipeline, kwargs))
    if kwargs.get("do_sample") is None and "do_sample" in per_call:
        direct.pop("do_sample", None)  # what a temperature alone means
    options = {**_renamed(made_with), **_direct(own or {}), **per_call, **direct}
    if kwargs.get("skip_prompt") and getattr(llm.pipeline, "task", None) == "text-generation":
        options["return_full_text"] = False
    stops = stop if stop is not None else options.get("stop")
    seed = options.get("seed")
    _check_settings(options, seed)
    return TextSettings(
        parameters=_parameters(options),
        stop=_stops(stops),
        seed=seed,
    )


def text_generation(llm: Any, completion: Completion) -> Generation:
    """Return the answer to one prompt."""
    return Generation(text=completion.text, generation_info=_facts(llm, completion))


def last_chunk(llm: Any, completion: Completion) -> GenerationChunk:
    """Return the end of a stream: no text, but how it came to its end."""
    return GenerationChunk(text="", generation_info=_facts(llm, completion))


def stream_head(llm: Any, prompt: str, kwargs: Mapping[str, Any]) -> str:
    """Return what a stream begins with: the prompt, if `skip_prompt` is off, or nothing."""
    if kwargs.get("skip_prompt", True):
        return ""
    for token in llm.pipeline.tokenizer.all_special_tokens:
        prompt = prompt.replace(token, "")  # as the new text has none of them
    return prompt


def token_usage(completion: Completion) -> dict[str, int]:
    """Return the usage in OpenAI's words."""
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.n_tokens,
        "total_tokens": completion.prompt_tokens + completion.n_tokens,
    }


def _facts(llm: Any, completion: Completion) -> dict[str, Any]:
    return {
        "finish_reason": completion.finish_reason,
        "model_name": llm.model_id,
        "usage": token_usage(completion),
    }


def _per_call(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    given = kwargs.get("pipeline_kwargs") or {}
    if not isinstance(given, Mapping):
        raise InvalidRequest("pipeline_kwargs must be a dictionary.", "pipeline_kwargs")
    return given


def _options_in(pipeline: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `kwargs` that are options; the others are LangChain's."""
    known = _PIPELINE_OPTIONS | _GENERATION_OPTIONS | _OWN_OPTIONS | generation_names(pipeline)
    return {name: value for name, value in kwargs.items() if name in known}


def _direct(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` as the pipeline knows them; None is an option that was not given."""
    given = _renamed({name: value for name, value in options.items() if value is not None})
    if "stop_strings" in given:
        given.setdefault("stop", given.pop("stop_strings"))
    if given.get("temperature"):
        given.setdefault("do_sample", True)
    return given


def _renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if name not in _BATCH_OPTIONS}
    if "max_tokens" in given:
        given.setdefault("max_new_tokens", given.pop("max_tokens"))
    return given


def _check_settings(options: Mapping[str, Any], seed: Any) -> None:
    length = options.get("max_new_tokens")
    if length is not None and (not _is_whole(length) or length < 1):
        raise InvalidRequest("max_new_tokens must be a positive whole number.", "max_new_tokens")
    temperature = options.get("temperature")
    if temperature is not None and not (_is_number(temperature) and temperature >= 0):
        raise InvalidRequest("temperature must be a number from 0 up.", "temperature")
    if seed is not None and not _is_whole(seed):
        raise InvalidRequest("seed must be a whole number.", "seed")


def _parameters(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    parameters = {name: value for name, value in options.items() if name not in {"seed", "stop"}}
    if parameters.get("temperature") == 0:
        del parameters["temperature"]
        parameters["do_sample"] = False
    return tuple(sorted(parameters.items()))


def _stops(stop: Any) -> tuple[str, ...]:
    given = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(given, Sequence) or not all(isinstance(one, str) for one in given):
        raise InvalidRequest("stop must be a string or a list of strings.", "stop")
    return tuple(one for one in given if one)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
