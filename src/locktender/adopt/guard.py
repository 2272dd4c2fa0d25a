"""Make a model that sits inside a chain safe for many callers, without a change to the chain.

Decides which methods are to stand before those of an object, puts them there, and gives what the
object runs its owner; `discover` has found the object, and `hazards` says why it needs a guard.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, Unpack, overload

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, BaseLLM

from locktender.adopt.discover import discover
from locktender.adopt.embedding import GuardedEmbeddings
from locktender.adopt.factory import Bounds, Replicated, replicated
from locktender.adopt.handle import calls_of, guarded_calls
from locktender.adopt.hazards import hazard_of
from locktender.adopt.heavy import inner_of, is_heavy, pipeline_of, set_owner
from locktender.adopt.language_model import GuardedChat, GuardedModel, StreamedChat, StreamedModel
from locktender.adopt.owner import GuardSettings
from locktender.adopt.pipeline_model import GuardedPipelineChat, GuardedPipelineLLM
from locktender.adopt.swap import plain_class, swap
from locktender.core.errors import ConfigError

__all__ = ["GuardChoice", "guard", "guard_all"]

_log = logging.getLogger(__name__)
_Guarded = TypeVar("_Guarded")
# "auto", "off", or one of these for each class of model by its name.
GuardChoice: TypeAlias = (
    Literal["auto", "off"] | Mapping[str, GuardSettings | Literal["auto", "off"]]
)


@overload
def guard(
    factory: Callable[[], Any], /, *, replicas: int, **bounds: Unpack[Bounds]
) -> Replicated: ...
@overload
def guard(
    model: _Guarded,
    /,
    *,
    max_running: int = 1,
    max_waiting: int = 64,
    max_wait_s: float = 60.0,
    timeout_s: float = 600.0,
    batch: bool = True,
) -> _Guarded: ...
def guard(model: Any, /, *, replicas: int | None = None, **settings: Any) -> Any:
    """Give `model`, or each unsafe model in a chain, an owner; return what was given.

    At most `max_running` calls run at once, and `max_waiting` callers wait, none longer than
    `max_wait_s`; more are refused with `QueueFull`.  With `batch`, prompts that wait and have equal
    settings are run in one call, where the class can do that.  What is guarded already keeps its
    bounds.

    With `replicas`, what is given is a function that makes a model: so many processes call it, and
    what is returned is a model that has them answer (see `factory.replicated`).

    Raises: ConfigError if there is nothing to guard, or the bounds cannot work.
    """
    if replicas is not None:
        return replicated(model, replicas=replicas, **settings)
    bounds = GuardSettings(**settings)
    bounds.gate()
    if not _guard_found(model, lambda _: bounds):
        message = f"There is nothing to guard in this {type(model).__name__}."
        raise ConfigError(message)
    return model


def guard_all(root: object, choice: GuardChoice = "auto") -> None:
    """Guard each unsafe model that is found in `root`, as `choice` says of its class.

    What is done, and what is left undone, is logged once for each model.
    """
    _guard_found(root, lambda model: _chosen(choice, plain_class(model).__name__))


def _guard_found(
    root: object, settings_of: Callable[[object], GuardSettings | None]
) -> list[object]:
    guarded = []
    for found in discover(root):
        model, name = found.model, plain_class(found.model).__name__
        if hazard_of(model) is None:
            continue
        settings = settings_of(model)
        if settings is None:
            _log.warning("%s (%s) is not guarded: you said so", name, found.path)
            continue
        if plain_class(model) is type(model):
            _guard_one(model, settings)
            _log.info("%s (%s) is guarded: %s", name, found.path, settings)
        guarded.append(model)
    return guarded


def _chosen(choice: GuardChoice, name: str) -> GuardSettings | None:
    one = choice if isinstance(choice, str) else choice.get(name, "auto")
    if isinstance(one, GuardSettings):
        return one
    return None if one == "off" else GuardSettings()


def _guard_one(model: object, settings: GuardSettings) -> None:
    methods = _methods_for(model)
    calls = calls_of(model)
    if methods is not None:
        swap(model, methods, is_for_one=is_heavy(model))
    elif calls:
        swap(model, guarded_calls(plain_class(model), tuple(calls)))
    set_owner(model, settings)
    inner = inner_of(model)
    if inner is not None:
        _guard_one(inner, settings)


def _methods_for(model: object) -> type | None:
    """Return what is to stand before the methods of `model`; None if it is no LangChain model."""
    plain = plain_class(model)
    is_pipeline = pipeline_of(model) is not None
    if isinstance(model, BaseChatModel):
        if is_pipeline:
            return GuardedPipelineChat
        return GuardedChat if plain._stream is BaseChatModel._stream else StreamedChat
    if isinstance(model, BaseLLM):
        if is_pipeline:
            return GuardedPipelineLLM
        return GuardedModel if plain._stream is BaseLLM._stream else StreamedModel
    return GuardedEmbeddings if isinstance(model, Embeddings) else None
