"""The seam to an engine: what a `Stepper` promises, and the limits that it states.

A stepper is the synchronous form of an engine: whoever owns it adds requests, calls `step` in a
loop and gets deltas back.  It is used from one thread only, so it needs no lock; in production
that thread is the only one of an engine process (`model.child`), because a step may hold the
interpreter for half a second.

Known engines are named in `ENGINES`; any other is written ``module:attribute``.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from locktender.core.errors import ConfigError, InvalidRequest, LocktenderError
from locktender.core.request import Delta, Feature, GenerationRequest, Input

__all__ = [
    "ENGINES",
    "EngineSpec",
    "KnownEngine",
    "Limits",
    "Option",
    "Output",
    "PromptEncoder",
    "Stepper",
    "StepperFactory",
    "check_engine",
    "check_options",
    "features_of",
    "load_engine",
    "reads_folder",
    "reads_gguf",
    "takes_chats",
    "token_ids",
]


@dataclass(frozen=True, slots=True)
class Option:
    """What an option of an engine may be: one of `words`, or a value of `kind`, `least` or more."""

    kind: type[int] | type[float] | type[bool] | type[str] = int
    least: float = 1
    words: frozenset[str] = frozenset()

    def check(self, name: str, value: object) -> None:
        """Raise ConfigError for a value that it cannot have."""
        if self.words:
            if value not in self.words:
                known = ", ".join(sorted(self.words))
                raise ConfigError(f"There is no {name} {value!r}: use one of {known}.")
            return
        if self.kind is bool:
            is_good = isinstance(value, bool)
        elif self.kind is str:
            is_good = isinstance(value, str) and bool(value.strip())
        else:
            whole_or_not = int if self.kind is int else int | float
            is_number = isinstance(value, whole_or_not) and not isinstance(value, bool)
            is_good = is_number and self.least <= cast("float", value) < math.inf
        if not is_good:
            raise ConfigError(f"The option {name!r} must be {self._described()}: not {value!r}.")

    def _described(self) -> str:
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "a text that is not empty"
        number = "a whole number" if self.kind is int else "a number"
        return f"{number}, at least {self.least:g}"


@dataclass(frozen=True, slots=True)
class KnownEngine:
    """An engine that has a name."""

    # ``module:attribute`` of its `StepperFactory`; imported only when used, so that no engine's
    # packages are needed to run another.
    factory: str
    # The package that it needs, and the extra of ours that has it.
    package: str = ""
    extra: str = ""
    options: Mapping[str, "Option"] = field(default_factory=dict)
    reads_gguf: bool = False  # whether its source is a GGUF file
    reads_folder: bool = False  # whether it is a Hugging Face folder
    # What it obeys beside what every engine must: temperature, top_p, seed, stop, max_tokens.  What
    # needs another feature is refused before the queue, whether or not the engine runs.
    features: frozenset[Feature] = frozenset()


_FEWEST_TOKENS = 64  # what a chat's template writes around one short message fills the half of it

ENGINES: Mapping[str, KnownEngine] = {
    "echo": KnownEngine(
        "locktender.model.engines.echo:EchoStepper",
        options={
            **{name: Option(least=_FEWEST_TOKENS) for name in ("context_tokens", "kv_tokens")},
            "words": Option(least=0),
            **{name: Option(float, least=0) for name in ("tokens_per_s", "step_s")},
        },
        features=frozenset({Feature.LONG_SEED}),
    ),
    "openvino": KnownEngine(
        "locktender.model.engines.openvino:OpenVinoStepper",
        package="openvino_genai",
        extra="openvino",
        options={
            "preset": Option(str, words=frozenset({"exact", "fast"})),
            "kv_tokens": Option(least=_FEWEST_TOKENS),
            "max_batched_tokens": Option(),
            "prefix_cache": Option(bool),
        },
        reads_gguf=True,
        features=frozenset({Feature.TOP_K, Feature.REPETITION_PENALTY}),
    ),
    "transformers": KnownEngine(
        "locktender.model.engines.transformers:TransformersStepper",
        package="transformers",
        extra="transformers",
        options={
            "dtype": Option(str, words=frozenset({"auto", "float32", "bfloat16", "float16"})),
            "device": Option(str),
            "context_tokens": Option(least=_FEWEST_TOKENS),
            **{name: Option() for name in ("kv_bytes", "step_tokens", "threads")},
        },
        reads_folder=True,
        features=frozenset(Feature),
    ),
}

# What became of a request in a step: a piece of its answer, or the error that ended it.
Output: TypeAlias = Delta | LocktenderError


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine can hold at once."""

    max_running: int  # requests
    context_tokens: int  # prompt and answer of one request; never more than kv_tokens
    kv_tokens: int  # prompts and answers of all running requests together


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine to build, and from what: all that a child process must be told."""

    engine: str  # a name of ENGINES, or "module:attribute"
    max_running: int
    source: str = ""  # the weights: a file or folder; empty for engines that need none
    options: tuple[tuple[str, str | int | float | bool], ...] = ()  # the engine's own
    canary: bool = True  # whether it must answer something before it is ready

    def option(self, name: str, default: Any) -> Any:
        """Return the engine's option `name`, or `default`."""
        return dict(self.options).get(name, default)


class Stepper(Protocol):
    """An engine, driven step by step by its one owner.

    1. After `add` returns, the request's outputs come from `step`: first a `Delta` with
       `prompt_tokens`, last one with `finish_reason` or, instead of it, a `LocktenderError`.
    2. A request that `add` raises for leaves no trace, and no request harms another.
    3. After `cancel(key)` nothing more comes out for `key`; unknown keys are ignored.
    4. Keys are the owner's; an engine never sees a caller's id.
    """

    @property
    def limits(self) -> Limits: ...

    def add(self, key: int, request: GenerationRequest) -> None:
        """Take a request.  Raises: ContextTooLong, InvalidRequest, EngineFailed."""
        ...

    def cancel(self, key: int) -> None: ...

    def step(self) -> Sequence[tuple[int, Output]]:
        """Advance every running request by about a token; must return within a second."""
        ...

    def has_work(self) -> bool: ...

    def close(self) -> None:
        """Release what is held; safe to call twice."""
        ...


@runtime_checkable
class PromptEncoder(Protocol):
    """What a `Stepper` may be as well: one that tells the tokens of a prompt."""

    def encode(self, prompt: Input) -> Sequence[int]:
        """Return the ids that `add` would give the model, however many.  Raises: InvalidRequest."""
        ...


StepperFactory: TypeAlias = Callable[[EngineSpec], Stepper]


def reads_gguf(engine: str) -> bool:
    """Return whether the engine of this name takes the path of a GGUF file as its source."""
    known = ENGINES.get(engine)
    return known is not None and known.reads_gguf


def reads_folder(engine: str) -> bool:
    """Return whether the engine of this name takes a Hugging Face folder as its source."""
    known = ENGINES.get(engine)
    return known is not None and known.reads_folder


def takes_chats(engine: str) -> bool:
    """Return whether the engine of this name gets chats as they come.

    It does if we cannot read in its source how they are written; else it gets them rendered.
    """
    return not reads_gguf(engine) and not reads_folder(engine)


def features_of(engine: str) -> frozenset[Feature]:
    """Return what the engine of this name obeys; nothing is known of a user's own."""
    known = ENGINES.get(engine)
    return frozenset() if known is None else known.features


def check_engine(name: str, options: Iterable[tuple[str, object]]) -> None:
    """Raise ConfigError for an engine that is not here, or an option that it does not have.

    Nothing is imported.  An engine of a user's own is looked for; its options are its own.
    """
    module, _ = _place(name)
    known = ENGINES.get(name)
    try:
        is_there = importlib.util.find_spec((known and known.package) or module) is not None
    except (ImportError, ValueError):
        is_there = False
    if not is_there:
        extra = f": pip install 'locktender[{known.extra}]'" if known else " in this environment"
        raise ConfigError(f"The engine {name!r} is not installed{extra}.")
    if known is not None:
        check_options(name, options)


def _check_factory(name: str, factory: Any) -> None:
    if not callable(factory):
        kind = type(factory).__name__
        raise ConfigError(f"The engine {name!r} is a {kind}, and no class or function: name one.")
    parts = ("add", "cancel", "step", "has_work", "close")  # `limits` may be an instance's own
    known = dir(factory) if isinstance(factory, type) else parts
    missing = [part for part in parts if part not in known]
    if missing:
        lacking = ", ".join(f"`{part}`" for part in missing)
        raise ConfigError(f"The engine {name!r} is a class without {lacking}, which engines have.")


def check_options(name: str, options: Iterable[tuple[str, object]]) -> None:
    """Raise ConfigError for an option that the known engine `name` does not have."""
    known = ENGINES[name].options
    for option, value in options:
        if option not in known:
            names = ", ".join(sorted(known))
            raise ConfigError(f"The engine {name!r} has no option {option!r}: it has {names}.")
        known[option].check(option, value)


def load_engine(name: str) -> StepperFactory:
    """Import the factory of the engine `name`.  Raises: ConfigError for what can be none."""
    module, attribute = _place(name)
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        message = f"The engine {name!r} cannot be imported: {error}. Is its extra installed?"
        raise ConfigError(message) from error
    _check_factory(name, factory)
    return cast("StepperFactory", factory)


def _place(name: str) -> tuple[str, str]:
    """Return the module and the attribute of an engine's factory.  Raises: ConfigError."""
    known_engine = ENGINES.get(name)
    module, colon, attribute = (known_engine.factory if known_engine else name).partition(":")
    if not colon:
        known = ", ".join(sorted(ENGINES))
        message = f"There is no engine {name!r}: use one of {known}, or 'module:attribute'."
        raise ConfigError(message)
    return module, attribute


def token_ids(stepper: Stepper, prompt: Input) -> Sequence[int]:
    """Return the tokens of `prompt`.  Raises: InvalidRequest where the engine cannot tell them."""
    if not isinstance(stepper, PromptEncoder):
        raise InvalidRequest("The engine of this model does not tell its tokens.", "model")
    return stepper.encode(prompt)
