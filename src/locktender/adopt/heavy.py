"""Tell which object a LangChain model really runs, and give that object its owner.

Two wrappers around one pipeline, and all copies of a wrapper, run the same weights; so the owner
hangs on the innermost object that they share, as an attribute of it, and lives as long.  Where none
is known, a LangChain model is that object, and its copies share nothing but their class; so the
owner hangs on the class, which `guard` has made for this model alone.
"""

import threading
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from locktender.adopt.owner import GuardSettings, Owner
from locktender.adopt.swap import OWNER

__all__ = ["heavy_of", "inner_of", "is_heavy", "owner_of", "pipeline_of", "set_owner"]

# From a wrapper to what it runs; found by the names of its class, whose package need not be there.
_WAY: Mapping[str, str] = {
    "ChatHuggingFace": "llm",
    "ChatLlamaCpp": "client",
    "ChatMLX": "llm",
    "CTransformers": "client",
    "GPT4All": "client",
    "GPT4AllEmbeddings": "client",
    "HuggingFaceBgeEmbeddings": "client",
    "HuggingFaceEmbeddings": "client",
    "HuggingFaceInstructEmbeddings": "client",
    "HuggingFacePipeline": "pipeline",
    "LlamaCpp": "client",
    "LlamaCppEmbeddings": "client",
    "MLXPipeline": "model",
    "Pipeline": "model",  # of transformers: several may run one model
    "VLLM": "client",
}
_lock = threading.Lock()  # of two threads that come at once both get the same owner
_PACKAGES = ("langchain_huggingface.", "langchain_community.", "transformers.pipelines.")


def heavy_of(model: object) -> object:
    """Return the innermost object that `model` runs; `model` itself where none is known."""
    inner = inner_of(model)
    return model if inner is None else heavy_of(inner)


def inner_of(model: object) -> object | None:
    """Return the object that `model` is known to wrap."""
    for kind in type(model).__mro__:
        name = _WAY.get(kind.__name__)
        if name is not None and kind.__module__.startswith(_PACKAGES):
            inner = _held_by(model, name)
            if inner is None:  # and not: if it is false, which a compiled model cannot say
                inner = _held_by(model, f"_{name}")
            return inner if hasattr(inner, "__dict__") else None
    return None


def pipeline_of(model: object) -> object | None:
    """Return the transformers pipeline that `model` wraps, or is."""
    if any(
        kind.__name__ == "Pipeline" and kind.__module__.startswith("transformers.")
        for kind in type(model).__mro__
    ):
        return model
    inner = inner_of(model)
    return None if inner is None else pipeline_of(inner)


def owner_of(model: object) -> Owner:
    """Return the owner of `model` alone, or of what it runs, made now if there is none."""
    owner: Owner | None = vars(type(model)).get(OWNER)
    if owner is None:
        owner = getattr(_place_of(heavy_of(model)), OWNER, None)
    return set_owner(model, GuardSettings()) if owner is None else owner


def set_owner(
    model: object, settings: GuardSettings, *, max_batch: int = 1, is_apart: bool = False
) -> Owner:
    """Give what `model` runs an owner with these settings, unless it has one; return it.

    With `is_apart` the owner is that of `model` alone, whose class has been made for it: its
    methods are not known, and may have what they run called in other threads.
    """
    place = type(model) if is_apart else _place_of(heavy_of(model))
    with _lock:
        owner: Owner | None = vars(place).get(OWNER) if is_apart else getattr(place, OWNER, None)
        if owner is None:
            owner = Owner(type(model).__name__, settings, max_batch=max_batch)
            if isinstance(place, type):
                setattr(place, OWNER, owner)
            else:
                object.__setattr__(place, OWNER, owner)  # also where fields are frozen
        owner.widen(max_batch)
        return owner


def is_heavy(model: object) -> bool:
    """Whether `model` is itself what it runs, and a LangChain model."""
    return isinstance(model, BaseModel) and heavy_of(model) is model


def _held_by(model: object, name: str) -> Any:
    held = vars(model).get(name)
    if held is None and isinstance(model, BaseModel):
        held = (model.__pydantic_private__ or {}).get(name)
    return held


def _place_of(heavy: object) -> object:
    return type(heavy) if isinstance(heavy, BaseModel) else heavy
