"""An agent: its model, the models of its tools, and one that a middleware takes instead."""

from collections.abc import Callable
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest
from langchain_core.tools import StructuredTool, tool

from adopt.chains.models import Echo, EchoChat, pipeline, remote

__all__ = ["PLANTED", "chain"]

main, for_a_tool, asynchronous, structured, cheap = (
    EchoChat(),
    Echo(),
    Echo(),
    pipeline(),
    EchoChat(),
)
PLANTED = (main, for_a_tool, asynchronous, structured, cheap)
SAFE = remote()


class _Cheaper(AgentMiddleware[Any, Any, Any]):
    """Takes another model for short questions."""

    def __init__(self) -> None:
        super().__init__()
        self._models = {"short": cheap, "long": SAFE}

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]
    ) -> Any:
        return handler(request.override(model=self._models["short"]))


@tool
def summarize(text: str) -> str:
    """Summarize a text."""
    return for_a_tool.invoke(text)


@tool
async def translate(text: str) -> str:
    """Translate a text."""
    return await asynchronous.ainvoke(text)


def _rhyme(text: str) -> str:
    """Find a rhyme."""
    return str(structured.invoke(text))


chain = create_agent(
    main,
    [summarize, translate, StructuredTool.from_function(_rhyme, name="rhyme")],
    middleware=[_Cheaper()],
)
