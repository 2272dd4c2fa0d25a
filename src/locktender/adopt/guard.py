"""Make a model that sits inside a chain safe for many callers, without a change to the chain.

Decides which methods are to stand before those of an object, puts them there, and gives what the
object runs its owner; `discover` has found the object, and `hazards` says why it needs a guard.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack, overload

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseLanguageModel

from locktender.adopt.choice import Choice, GuardChoice
from locktender.adopt.discover import Found, survey
from locktender.adopt.encoding import take_turns
from locktender.adopt.factory import Bounds, Replicated, replicated
from locktender.adopt.handle import calls_of, take_over
from locktender.adopt.hazards import (
    SYNC_ONLY,
    UNSURE,
    Action,
    Hazard,
    hazard_of,
    is_raw_class,
)
from locktender.adopt.heavy import inner_of, is_heavy, owner_of, pipeline_of, set_owner
from locktender.adopt.methods import methods_for, runs_as_known
from locktender.adopt.owner import GuardSettings
from locktender.adopt.remark import cut_remark, remarks
from locktender.adopt.swap import is_swapped, plain_class, swap
from locktender.adopt.text_batch import is_pretrained, why_no_batch, why_no_engine
from locktender.adopt.text_together import MAX_TOGETHER
from locktender.adopt.watch import Watch
from locktender.adopt.weight_view import modules_of
from locktender.core.errors import ConfigError

__all__ = ["can_guard", "guard", "guard_all"]

_log = logging.getLogger(__name__)
_Guarded = TypeVar("_Guarded")

_LEFT = "%s (%s) is not guarded, as its class cannot be put behind a gate: %s"
_GUARDED = "%s (%s) is guarded: %d call at a time; `guard={'%s': 'off'}` leaves it alone"
_TAKEN = (
    "%s: a method of it was taken before (%s), whose own work does not wait for a turn, but only "
    "the calls that it makes; call the object, or take the method after add_routes"
)


class GuardBounds(TypedDict, total=False):
    """The bounds of the gate in front of an object; see `GuardSettings`."""

    max_running: int
    max_waiting: int
    max_wait_s: float
    timeout_s: float
    batch: bool
    kv_bytes: int | None


@overload
def guard(
    factory: Callable[[], Any], /, *, replicas: int, **bounds: Unpack[Bounds]
) -> Replicated: ...
@overload
def guard(model: _Guarded, /, **bounds: Unpack[GuardBounds]) -> _Guarded: ...
def guard(model: Any, /, *, replicas: int | None = None, **settings: Any) -> Any:
    """Give `model`, or each unsafe model in a chain, an owner; return what was given.

    At most `max_running` calls run at once, and `max_waiting` callers wait, none longer than
    `max_wait_s`; more are refused with `QueueFull`.  With `batch`, one call answers up to 32 texts
    together, each of which begins and ends when it likes, where the class can do that; their keys
    and values take at most `kv_bytes`.  What is guarded already keeps its bounds.

    With `replicas`, what is given is a function that makes a model: so many processes call it, and
    what is returned is a model that has them answer (see `factory.replicated`).

    Raises: ConfigError if there is nothing to guard, or the bounds cannot work.
    """
    if replicas is not None:
        return replicated(model, replicas=replicas, **settings)
    bounds = GuardSettings(**settings)
    bounds.gate()
    seen = survey([("chain", model)])
    if not _guard_found(
        seen.found, lambda each: bounds if each is model else _bounds_of(each, bounds)
    ):
        message = (
            f"There is nothing to guard in this {type(model).__name__}: what is in it serves "
            "several callers by itself."
        )
        raise ConfigError(message)
    if seen.cuts:
        _log.warning("%s", cut_remark(seen.cuts))
    return model


def guard_all(root: object, choice: GuardChoice = "auto") -> Watch | None:
    """Guard each unsafe model that is found in `root`, as `choice` says of its class.

    What is done, and what is left undone, is logged.  Return a watch for models that come later;
    None if there is no code of the user's, or all is to be left alone.  Raises: ConfigError.
    """
    said = Choice(choice)
    seen = survey([("chain", root)])

    def guard_these(found: Iterable[Found]) -> list[object]:
        return _guard_found(found, lambda model: said.settings(_names(model)))

    unsafe = guard_these(seen.found)
    if unsafe and choice != "off":
        for tokenizer in seen.tokenizers:  # which callers of a raw model may share
            take_turns(tokenizer)
    for name in said.unknown({name for model in unsafe for name in _names(model)}):
        _log.warning("`guard` names %s, and there is no such unsafe model", name)
    if choice == "off":
        return None
    for line in remarks(seen):
        _log.warning("%s", line)
    return Watch(seen.openings, guard_these) if seen.has_user_code else None


def _guard_found(
    those: Iterable[Found], settings_of: Callable[[object], GuardSettings | None]
) -> list[object]:
    """Return the unsafe models of those found; guarded, unless there are no settings for them."""
    # Whoever runs a network comes before it, since the two share an owner and its bounds.
    ordered = sorted(those, key=lambda found: is_raw_class(type(found.model)))
    unsafe = [(found, hazard_of(found.model)) for found in ordered]
    for found, hazard in unsafe:
        if hazard is not None:
            name = plain_class(found.model).__name__
            settings = settings_of(found.model)
            if settings is None:
                _log.warning("%s (%s) is not guarded: you said so", name, found.path)
            elif is_swapped(found.model):
                _check_bounds(found.model, settings)
            elif not can_guard(found.model, hazard):
                _log.warning(_LEFT, name, found.path, hazard.breaks)
            else:
                _guard_found_one(found, settings, hazard)
    return [found.model for found, hazard in unsafe if hazard is not None]


def _guard_found_one(found: Found, settings: GuardSettings, hazard: Hazard) -> None:
    name = plain_class(found.model).__name__
    try:
        _guard_one(found.model, settings, hazard)
    except ConfigError as error:
        # A network that lets nobody change its class is as it was before, and said.
        if not is_raw_class(type(found.model)):
            raise
        _log.warning(_LEFT, name, found.path, error)
        return
    if found.path.endswith(".__self__"):
        _log.warning(_TAKEN, name, found.path.removesuffix(".__self__"))
    # Of others it is known that they need it; here the user may know better.
    level = logging.WARNING if hazard.kind in UNSURE else logging.INFO
    _log.log(level, _GUARDED, name, found.path, settings.max_running, name)


def can_guard(model: object, hazard: Hazard) -> bool:
    """Whether there is a way to have callers of `model` wait."""
    is_known = methods_for(model) is not None or bool(calls_of(model))
    return is_known and hazard.action is not Action.NAMED


def _guard_one(model: object, settings: GuardSettings, hazard: Hazard) -> None:
    # Pipelines bear several calls, since their prompts are encoded one at a time.
    if settings.max_running > 1 and hazard.kind != SYNC_ONLY and not runs_as_known(model):
        message = f"{type(model).__name__} takes one call at a time: `max_running` must be 1."
        raise ConfigError(message)
    # A pipeline that is run in a way of the user's own may be called from threads of theirs, so
    # what runs it and the pipeline have an owner each.
    is_apart = isinstance(model, BaseLanguageModel) and not (
        pipeline_of(model) is None or runs_as_known(model)
    )
    inner: object | None = model
    while inner is not None:
        _swap(inner, is_for_one=is_apart and inner is model)
        set_owner(
            inner,
            settings,
            max_batch=_max_batch(inner, settings),
            is_apart=is_apart and inner is model,
        )
        if runs_as_known(inner):
            take_turns(getattr(inner, "tokenizer", None))
        for part in _models_inside(inner):
            take_over(part)
            set_owner(part, settings, max_batch=_max_batch(part, settings))
        inner = inner_of(inner)


def _models_inside(network: object) -> list[object]:
    """Return the transformers models that another network is made of, which others may share."""
    if is_pretrained(network) or not is_raw_class(type(network)):
        return []
    return [module for module in modules_of(network) if is_pretrained(module)]


def _swap(model: object, *, is_for_one: bool = False) -> None:
    """Change the class of `model`, if it has methods to be guarded.  Raises: ConfigError."""
    methods, calls = methods_for(model), calls_of(model)
    try:
        if methods is not None:
            swap(model, methods, is_for_one=is_for_one or is_heavy(model))
        elif calls:
            take_over(model)
    except Exception as error:
        name = type(model).__name__
        message = (
            f"{name} cannot be guarded ({error}); `guard={{{name!r}: 'off'}}` leaves it alone."
        )
        raise ConfigError(message) from error


def _bounds_of(model: object, bounds: GuardSettings) -> GuardSettings:
    """Return the bounds for one of the models of a chain: what runs inside another takes turns."""
    return replace(bounds, max_running=1) if is_raw_class(type(model)) else bounds


def _check_bounds(model: object, settings: GuardSettings) -> None:
    held = owner_of(model).settings
    if settings not in (held, GuardSettings()):
        name = plain_class(model).__name__
        _log.warning("%s is guarded already, and keeps its bounds: %s", name, held)


def _max_batch(model: object, settings: GuardSettings) -> int:
    """Return how many texts may be answered together, by `model` or a pipeline made of it later."""
    if not settings.batch:
        return 1
    pipeline = pipeline_of(model)
    why = why_no_engine(model) if pipeline is None else why_no_batch(pipeline)
    return MAX_TOGETHER if why is None else 1


def _names(model: object) -> list[str]:
    """Return the names of the classes of `model` and of the models that it wraps."""
    names = [plain_class(model).__name__]
    inner = inner_of(model)
    while isinstance(inner, BaseLanguageModel | Embeddings):
        names.append(plain_class(inner).__name__)
        inner = inner_of(inner)
    return names
