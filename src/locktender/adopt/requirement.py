"""Know which installed packages have no models of their own, by what they require.

The metadata that an installer leaves behind says so (PEP 566; the names are normalized by PEP 503).
A package of which nothing is known may have some, and so may one that only names a library of
models among its extras: it is for whoever uses both.  What others require in turn counts, too.
"""

import importlib.metadata
import re
from collections.abc import Iterator
from functools import lru_cache

__all__ = ["is_without_models"]

_OF_MODELS = re.compile(
    r"""
    (accelerate | ctransformers | diffusers | fastembed | flashrank | flax | gpt4all | haystack
    | jax | keras | langchain | langgraph | llama | mlx | onnx | openvino | optimum | peft
    | rerankers | scikit-learn | sentence-transformers | spacy | tensorflow | torch | transformers
    | vllm | xllamacpp) (-.*)?
    """,
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_PACKAGES = 500  # that one requires, with all that those do


@lru_cache(maxsize=4096)
def is_without_models(package: str) -> bool:
    """Whether the package of this import name was installed, and requires no library of models."""
    distributions = _distributions().get(package)
    if not distributions:
        return False
    waiting = [(name, True) for name in distributions]
    seen = set[str]()
    while waiting and len(seen) < _MAX_PACKAGES:
        name, is_first = waiting.pop()
        if _OF_MODELS.fullmatch(name):
            return False
        if name not in seen:
            seen.add(name)
            waiting.extend((each, False) for each in _required_by(name, with_extras=is_first))
    return not waiting


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    """Return the distributions by what they are imported as; reading them all takes 0.2 s."""
    known = importlib.metadata.packages_distributions()
    return {package: [_normalized(name) for name in names] for package, names in known.items()}


def _required_by(name: str, *, with_extras: bool) -> Iterator[str]:
    try:
        required = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
        return  # an optional one, or one for other systems
    for each in required:
        found = _NAME.match(each)
        if found and (with_extras or "extra ==" not in each):
            yield _normalized(found[0])


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
