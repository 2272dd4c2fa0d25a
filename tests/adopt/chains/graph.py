"""A graph with a graph in it, whose edges ask a model, too."""

from typing import Any, TypedDict

from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph

from adopt.chains.models import AsyncEcho, Echo, EchoChat, pipeline, remote

__all__ = ["PLANTED", "chain"]


class _State(TypedDict):
    text: str


class _Writer:
    """A node with a model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def write(self, state: _State) -> _State:
        return {"text": self._model.invoke(state["text"])}


written, routed, deep, deeper = Echo(), EchoChat(), pipeline(), Echo()
PLANTED = (written, routed, deep, deeper)
SAFE = remote()


def _inner() -> Any:
    graph = StateGraph(_State)
    graph.add_node("deep", lambda state: {"text": deep.invoke(state["text"])})
    graph.add_node("safe", lambda state: {"text": SAFE.invoke(state["text"]).text})
    graph.add_edge(START, "deep")
    graph.add_edge("deep", "safe")
    return graph.compile()


def _innermost(state: _State) -> _State:
    return {"text": _called.invoke(state)["text"]}


def _route(state: _State) -> str:
    return END if routed.invoke(state["text"]).text else "write"


_called = RunnableLambda(lambda state: state["text"]) | {"text": deeper}
graph = StateGraph(_State)
graph.add_node("write", _Writer(written).write)
graph.add_node("inner", _inner())
graph.add_node("called", _innermost)
graph.add_node("async", RunnableLambda(lambda state: state["text"]) | {"text": AsyncEcho()})
graph.add_edge(START, "write")
graph.add_edge("write", "inner")
graph.add_edge("inner", "called")
graph.add_edge("called", "async")
graph.add_conditional_edges("async", _route, ["write", END])
chain = graph.compile()
