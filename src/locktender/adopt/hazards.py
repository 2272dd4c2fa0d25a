"""Judge an object: what breaks when several callers use it, if anything is known to.

Objects are judged by the names of their classes, which stand in `hazard_chain` and `hazard_raw`, so
that no package in these tables needs to be there, and none of their own code is run.  A LangChain
model in no row is judged by whether its class has asynchronous methods of its own (`own_async`).
`discover` finds the objects, `doctor` says what was found; `scripts/hazards_page` writes
docs/hazards.md from the tables.
"""

from collections.abc import Mapping

from locktender.adopt.hazard import Action, Hazard
from locktender.adopt.hazard_chain import (
    CHAT_OVER_PIPELINE,
    IN_CHAINS,
    REMOTE_CLASSES,
    SAFE_CLASSES,
    SYNC_ONLY_HAZARD,
)
from locktender.adopt.hazard_raw import LOADERS, RAW, TORCH_MODULE
from locktender.adopt.lineage import home_of, lineage, plain_kind, qualified_name, short_name
from locktender.adopt.own_async import has_own_async, overrides_with_code

__all__ = [
    "HAZARDS",
    "SAFE_CLASSES",
    "SYNC_ONLY",
    "UNSURE",
    "Action",
    "Hazard",
    "hazard_of",
    "hazard_of_class",
    "is_model_class",
    "is_raw_class",
    "is_tokenizer_class",
    "lineage",
    "loads",
    "qualified_name",
]

HAZARDS = (*IN_CHAINS, *RAW, SYNC_ONLY_HAZARD)
SYNC_ONLY = SYNC_ONLY_HAZARD.kind
UNSURE = frozenset({SYNC_ONLY, TORCH_MODULE})  # the user may know that they need no guard

_MODELS = frozenset(
    {
        "langchain_core.embeddings.embeddings.Embeddings",
        "langchain_core.language_models.base.BaseLanguageModel",
    }
)
_JUDGED = frozenset(SYNC_ONLY_HAZARD.classes)
_IN_CHAINS: Mapping[str, Hazard] = {name: row for row in IN_CHAINS for name in row.classes}


def _short(name: str) -> str:
    return f"{name.partition('.')[0]}.{name.rpartition('.')[2]}"


_IN_CHAINS_SHORT = frozenset(map(_short, _IN_CHAINS))
_TOKENIZER = "transformers.PreTrainedTokenizerBase"
_RAW: Mapping[str, Hazard] = {_short(name): row for row in RAW for name in row.classes}


def hazard_of(model: object) -> Hazard | None:
    """Return what breaks when several callers use `model`; None if nothing is known to.

    A guarded object is judged as what it was before.
    """
    hazard = hazard_of_class(plain_kind(type(model)))
    if hazard is not None and hazard.kind == CHAT_OVER_PIPELINE and _is_remote(model):
        return None
    return hazard


def hazard_of_class(kind: type) -> Hazard | None:
    """Return what breaks when several callers use one object of a class."""
    kinds = lineage(kind)
    names = [qualified_name(each) for each in kinds]
    hazard = next((_IN_CHAINS[name] for name in names if name in _IN_CHAINS), None)
    if hazard is not None:
        return hazard
    if _JUDGED.isdisjoint(names):
        return next((_RAW[name] for name in map(short_name, kinds) if name in _RAW), None)
    if home_of(kind).startswith("langchain_core.") and not SAFE_CLASSES.intersection(names):
        return None  # what all models are made from
    n_own = next((n for n, name in enumerate(names) if name in SAFE_CLASSES), None)
    if n_own is not None and not overrides_with_code(kinds[:n_own]):
        return None
    # The asynchronous methods of a fake say nothing of what was put in its place.
    is_safe = has_own_async(kind, among=kinds[:n_own])
    return None if is_safe else SYNC_ONLY_HAZARD


def is_model_class(kind: type) -> bool:
    """Whether objects of a class are models: of LangChain, or raw ones with a row."""
    kinds = lineage(kind)
    return not _MODELS.isdisjoint(map(qualified_name, kinds)) or is_raw_class(kind)


def is_raw_class(kind: type) -> bool:
    """Whether objects of a class hold weights themselves, and are none of LangChain's models."""
    return any(short_name(each) in _RAW for each in lineage(kind))


def is_tokenizer_class(kind: type) -> bool:
    """Whether objects of a class are tokenizers of transformers."""
    return any(short_name(each) == _TOKENIZER for each in lineage(kind))


def loads(name: str) -> bool:
    """Whether what is imported by this name, as "transformers.pipeline" is, makes a model."""
    package, last = name.partition(".")[0], name.rpartition(".")[2]
    return (
        _short(name) in _RAW
        or _short(name) in LOADERS
        or (package == "transformers" and last.startswith("AutoModel"))
        or _short(name) in _IN_CHAINS_SHORT
    )


def _is_remote(model: object) -> bool:
    """Whether the model inside is called by HTTP."""
    try:
        fields = object.__getattribute__(model, "__dict__")
    except AttributeError:
        return False
    kinds = lineage(plain_kind(type(fields.get("llm"))))
    return not REMOTE_CLASSES.isdisjoint(map(qualified_name, kinds))
