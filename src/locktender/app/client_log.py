"""Make the patches of `/stream_log` what LangChain's users know: `RunLogPatch`.

LangChain will drop that class together with its own `astream_log`; from then on a class with the
same `ops` stands for it.  Nothing of LangChain's streaming is used here.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from jsonpatch import JsonPatchException, JsonPointerException

from locktender.app.client_error import broken

__all__ = ["OwnPatch", "find_patch_kind", "patch_of", "sum_patches"]

_HOME = "langchain_core.tracers.log_stream"


class OwnPatch:
    """Operations on the log of a run, as JSON Patch writes them."""

    def __init__(self, *ops: Mapping[str, Any]) -> None:
        self.ops = list(ops)

    def __add__(self, other: Any) -> "OwnPatch":
        return OwnPatch(*self.ops, *other.ops)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnPatch) and self.ops == other.ops

    __hash__ = None  # type: ignore[assignment]  # it is as changeable as its list

    def __repr__(self) -> str:
        return f"RunLogPatch({', '.join(map(repr, self.ops))})"


def find_patch_kind(home: str = _HOME) -> Callable[..., Any]:
    """Return LangChain's class as long as there is one, then ours."""
    try:
        kind: Callable[..., Any] = import_module(home).RunLogPatch
    except (ImportError, AttributeError):
        return OwnPatch
    return kind


def patch_of(event: Any, kind: Callable[..., Any]) -> Any:
    """Return the patch that an event of the stream holds.  Raises: PeerError, a ValueError too."""
    ops = event.get("ops") if isinstance(event, dict) else None
    if not isinstance(ops, list):
        raise broken("An event of the server's log holds no operations.", ValueError)
    return kind(*ops)


def sum_patches(patches: Sequence[Any]) -> Any:
    """Return all patches as one, applied where LangChain's class does that and they can be."""
    if len(patches) < 2:  # noqa: PLR2004 - one patch is its own sum
        return patches[0] if patches else None
    # Each sum of LangChain's copies the whole state; so they are put together first.
    kind = type(patches[0])
    *ops, last = patches
    first = kind(*(op for patch in ops for op in patch.ops))
    try:
        return first + last
    except (JsonPatchException, JsonPointerException, TypeError):
        # Older versions of jsonpatch have a TypeError for an operation that is no object.
        return kind(*first.ops, *last.ops)
