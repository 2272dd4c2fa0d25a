"""Say with which settings a transformers pipeline has its model generate.

Up to transformers 5.23 a pipeline has a complete `generation_config` of its own.  Later ones keep
apart what they were made with, and add it to the arguments of each call.  Where neither is found,
the settings are the model's and `is_known` is False: whoever must know them has to do without.
Nothing is run but transformers' own merging of settings; `text_batch` and `text_pipeline` ask.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GenerationSettings", "KnownSettings", "generation_names", "generation_settings"]

_MAX_KNOWN = 64  # parameters that differ
# What a pipeline is made with; those that it does not have in this version count as empty.
_MADE_WITH = ("_generate_kwargs", "_generation_defaults", "_forward_params")


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What `generate` is called with, and where it looks for what it is not."""

    arguments: Mapping[str, Any]
    configs: tuple[Any, ...]  # of transformers; the first that has a value counts
    is_known: bool

    def get(self, name: str) -> Any:
        """Return a setting as `generate` finds it; None if there is none."""
        value = self.arguments.get(name)
        for config in self.configs:
            if value is not None:
                return value
            value = getattr(config, name, None)
        return value

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield every setting that is not None, each once."""
        names = dict.fromkeys(self.arguments)
        for config in self.configs:
            names |= dict.fromkeys(name for name in vars(config) if not name.startswith("_"))
        for name in names:
            value = self.get(name)
            if value is not None:
                yield name, value


def generation_settings(pipeline: Any, given: Mapping[str, Any]) -> GenerationSettings:
    """Return the settings of a call of `pipeline` whose `generate` is `given` these arguments."""
    own = getattr(pipeline.model, "generation_config", None)
    merge = getattr(pipeline, "_prepare_generate_kwargs", None)
    is_known = True
    if merge is not None:
        arguments = dict(merge(dict(given)))
        config = arguments.pop("generation_config", None)
    else:
        arguments = dict(given)
        config = arguments.pop("generation_config", None) or getattr(
            pipeline, "generation_config", None
        )
        is_known = config is not None
    configs = tuple(each for each in (config, own) if each is not None)
    return GenerationSettings(arguments, configs, is_known)


class KnownSettings:
    """The settings of one model's calls, kept because to merge them takes as long as to encode.

    They are merged anew when what they are made of has changed.
    """

    def __init__(self) -> None:
        # In one piece, since several threads may ask.
        self._state: tuple[object, dict[tuple[tuple[str, Any], ...], GenerationSettings]]
        self._state = None, {}

    def of(self, pipeline: Any, given: Mapping[str, Any]) -> GenerationSettings:
        """Return what `generation_settings` does."""
        made_of = _made_of(pipeline)
        before, known = self._state
        if made_of != before or len(known) > _MAX_KNOWN:
            known = {}
            self._state = made_of, known
        try:
            key = tuple(sorted(given.items()))
            found = known.get(key)
        except TypeError:  # values that are no plain ones
            return generation_settings(pipeline, given)
        if found is None:
            found = known[key] = generation_settings(pipeline, given)
        return found


def _made_of(pipeline: Any) -> object:
    configs = (getattr(place, "generation_config", None) for place in (pipeline.model, pipeline))
    return (
        id(pipeline.model),
        [None if config is None else _plain(config) for config in configs],
        [dict(getattr(pipeline, name, {})) for name in _MADE_WITH],
    )


def generation_names(pipeline: Any) -> set[str]:
    """Return the names of all settings that the model's `generate` may have."""
    config = getattr(pipeline.model, "generation_config", None)
    return set() if config is None else set(_plain(config))


def _plain(config: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(config).items() if not name.startswith("_")}
