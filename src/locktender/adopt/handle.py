"""Stand before the calls of the heavy object itself, for code that goes past LangChain.

A user's own `pipe("...")` beside a chain would run while the chain's model does.  An iterator that
such a call returns is read to its end in the owner's thread.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any

from locktender.adopt.heavy import owner_of
from locktender.adopt.job import Job

__all__ = ["calls_of", "guarded_calls"]

# By class, the methods that run the weights.
_CALLS: Mapping[str, Sequence[str]] = {
    "Pipeline": ("__call__",),  # of transformers
    "Llama": (  # of llama_cpp
        "__call__",
        "create_chat_completion",
        "create_completion",
        "create_embedding",
        "embed",
    ),
    "LLM": ("chat", "embed", "encode", "generate"),  # of vllm
    "SentenceTransformer": ("encode",),
}
_PACKAGES = ("transformers.", "llama_cpp.", "vllm.", "sentence_transformers.")


def calls_of(heavy: object) -> Sequence[str]:
    """Return the names of the methods of `heavy` that run its weights."""
    for kind in type(heavy).__mro__:
        if kind.__name__ in _CALLS and f"{kind.__module__}.".startswith(_PACKAGES):
            return _CALLS[kind.__name__]
    return ()


@lru_cache(maxsize=64)
def guarded_calls(plain: type, names: tuple[str, ...]) -> type:
    """Return a class whose methods `names` run those of `plain` in the owner's thread."""
    methods = {
        name: _guarded(getattr(plain, name)) for name in names if callable(getattr(plain, name, 0))
    }
    return type("GuardedCalls", (), methods)


def _guarded(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def guarded(self: object, *arguments: Any, **options: Any) -> Any:
        owner = owner_of(self)
        if owner.turn() is not None:
            return plain(self, *arguments, **options)

        def work(jobs: Sequence[Job[Any]]) -> None:
            result = plain(self, *arguments, **options)
            jobs[0].end(iter(list(result)) if isinstance(result, Iterator) else result)

        job: Job[Any] = Job(work)
        return owner.run([job])[0]

    return guarded
