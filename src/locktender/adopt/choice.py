"""Read what the author of a route says about guarding: for all models, or by the class of each.

A model that wraps another one shares its owner, so one word holds for both: that about the
innermost class that is named.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from locktender.adopt.owner import GuardSettings
from locktender.core.errors import ConfigError

__all__ = ["Choice", "GuardChoice"]

_Word: TypeAlias = GuardSettings | Literal["auto", "off"]
# "auto", "off", or one of these, or `GuardSettings`, for each class of model by its name.
GuardChoice: TypeAlias = Literal["auto", "off"] | Mapping[str, _Word]


class Choice:
    """What was said.  Raises: ConfigError for what is neither a known word nor settings."""

    def __init__(self, given: GuardChoice) -> None:
        self._given = given
        words: list[Any] = list(given.values()) if isinstance(given, Mapping) else [given]
        for word in words:
            is_word = isinstance(word, str) and word in {"auto", "off"}
            if isinstance(given, Mapping) and isinstance(word, GuardSettings):
                word.gate()
            elif not is_word:
                message = (
                    "`guard` is 'auto', 'off', or a mapping from names of classes to these or to "
                    f"GuardSettings, not {word!r}."
                )
                raise ConfigError(message)

    def settings(self, names: Sequence[str]) -> GuardSettings | None:
        """Return the bounds for a model; None if it is to be left alone.

        `names` are those of its class and of the classes of the models it wraps.
        """
        word: _Word
        if isinstance(self._given, Mapping):
            word = next(
                (self._given[name] for name in reversed(names) if name in self._given), "auto"
            )
        else:
            word = self._given
        if isinstance(word, GuardSettings):
            return word
        return None if word == "off" else GuardSettings()

    def unknown(self, names: set[str]) -> list[str]:
        """Return the names that were given and are not among `names`."""
        return sorted(set(self._given) - names) if isinstance(self._given, Mapping) else []
