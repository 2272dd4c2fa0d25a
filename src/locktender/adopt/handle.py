"""Stand before the calls of the heavy object itself, for code that goes past LangChain.

A user's own `pipe("...")` or `model.generate(...)` beside a chain would run while the chain's model
does.  Who makes such a call has the object lent, and makes it in a thread of their own.  An
iterator that it returns is read to its end before the object goes back; but a pipeline whose model
is guarded asks for a turn at each batch, and may be as lazy as it likes.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any

from locktender.adopt.encoding import take_turns
from locktender.adopt.heavy import inner_of, owner_of
from locktender.adopt.lineage import short_name
from locktender.adopt.swap import is_swapped, plain_class, swap

__all__ = ["calls_of", "guarded_calls", "take_over"]

_FORWARD = ("__call__", "forward")
# What changes all weights at once, and must not do so in the middle of a forward.
_CASTS = ("bfloat16", "cpu", "cuda", "double", "float", "half", "to")
# By the public name of a class, the methods that run the weights, or change them.
_CALLS: Mapping[str, Sequence[str]] = {
    "transformers.Pipeline": ("__call__",),
    "transformers.PreTrainedModel": (*_FORWARD, "generate", *_CASTS),
    "peft.PeftModel": (*_FORWARD, "generate", *_CASTS),
    "sentence_transformers.SentenceTransformer": (
        *_FORWARD,
        *("encode", "encode_document", "encode_query"),
        *_CASTS,
    ),
    "sentence_transformers.CrossEncoder": (*_FORWARD, "predict", "rank", *_CASTS),
    "torch.Module": (*_FORWARD, "generate", *_CASTS),
    "llama_cpp.Llama": (
        *("__call__", "create_chat_completion", "create_completion", "create_embedding", "embed"),
        *("eval", "generate"),
    ),
    "vllm.LLM": ("beam_search", "chat", "classify", "embed", "encode", "generate", "score"),
    "gpt4all.GPT4All": ("generate",),
    "ctransformers.LLM": ("__call__", "embed", "eval", "generate"),
}


def calls_of(heavy: object) -> Sequence[str]:
    """Return the names of the methods of `heavy` that run its weights."""
    for kind in type(heavy).__mro__:
        if short_name(kind) in _CALLS:
            return _CALLS[short_name(kind)]
    return ()


@lru_cache(maxsize=64)
def guarded_calls(plain: type, names: tuple[str, ...]) -> type:
    """Return a class whose methods `names` call those of `plain` when they have their turn."""
    methods = {
        name: _guarded(getattr(plain, name)) for name in names if callable(getattr(plain, name, 0))
    }
    return type("GuardedCalls", (), methods)


def take_over(heavy: object) -> None:
    """Have those who call `heavy` wait for their turn; twice changes nothing."""
    calls = calls_of(heavy)
    if calls:
        swap(heavy, guarded_calls(plain_class(heavy), tuple(calls)))
    if calls and hasattr(heavy, "tokenizer"):
        take_turns(heavy.tokenizer)


def _guarded(plain: Callable[..., Any]) -> Callable[..., Any]:
    is_compiling = _compiling()

    @wraps(plain)
    def guarded(self: object, *arguments: Any, **options: Any) -> Any:
        if is_compiling():  # Whoever compiles a model gets the model, and no turn in it.
            return plain(self, *arguments, **options)
        if is_swapped(inner_of(self)):
            return plain(self, *arguments, **options)
        with owner_of(self).lent():
            result = plain(self, *arguments, **options)
            return iter(list(result)) if isinstance(result, Iterator) else result

    return guarded


def _compiling() -> Callable[[], bool]:
    """Return what torch's compiler knows, and evaluates while it compiles."""
    compiler = sys.modules.get("torch.compiler")
    return (lambda: False) if compiler is None else compiler.is_compiling
