"""Say with which settings a transformers pipeline has its model generate.

Up to transformers 5.23 a pipeline has a complete `generation_config` of its own.  Later ones keep
apart what they were made with, and add it to the arguments of each call.  Where neither is found,
the settings are the model's and `is_known` is False: whoever must know them has to do without.
Nothing is run but transformers' own merging of settings; `text_batch` and `text_pipeline` ask.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GenerationSettings", "generation_names", "generation_settings"]


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


def generation_names(pipeline: Any) -> set[str]:
    """Return the names of all settings that the model's `generate` may have."""
    config = getattr(pipeline.model, "generation_config", None)
    return set() if config is None else {name for name in vars(config) if not name.startswith("_")}
