"""What a callback handler is, to LangChain, that wants to see the chunks of every step.

LangChain hands a step's chunks to a handler that has the two `tap_output` methods, and LangGraph
only to one that derives from LangChain's own class for it.  That class has no public name;
LangGraph imports it as this module does, which is why it stays where it is.
"""

__all__ = ["Tap"]

try:
    from langchain_core.tracers._streaming import _StreamingCallbackHandler as _Marker
except ImportError:  # pragma: no cover - where it has moved, the methods alone are recognised
    _Marker = object  # type: ignore[assignment,misc] # as LangGraph does


class Tap(_Marker):  # type: ignore[type-arg] # it may be `object`, which takes no argument
    """A handler with `tap_output_aiter` and `tap_output_iter`."""
