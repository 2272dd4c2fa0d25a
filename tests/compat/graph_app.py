"""Routes of LangGraph's graphs and agents: with and without threads, of many kinds of state."""

import operator
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AnyMessage, BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel
from typing_extensions import TypedDict


class Part(TypedDict, total=False):
    text: str
    n: Annotated[int, operator.add]


class Whole(TypedDict):
    text: str
    n: Annotated[int, operator.add]


class Model(BaseModel):
    text: str = "nothing"
    n: Annotated[int, operator.add] = 0


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Vague(TypedDict):
    messages: Annotated[list[BaseMessage], add_messages]


def shout(state: Any) -> Any:
    text = state["text"] if isinstance(state, dict) else state.text
    return {"text": text.upper(), "n": 1}


def answer(state: Any) -> Any:
    last = state["messages"][-1]
    return {"messages": [("ai", f"{type(last).__name__} {last.content}")]}


def graph(state: Any, node: Any = shout, **options: Any) -> Any:
    builder: Any = StateGraph(state)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(**options)


def add(app: FastAPI, add_routes: Callable[..., None]) -> None:
    add_routes(app, graph(Part), path="/graph/part")
    add_routes(app, graph(Whole), path="/graph/whole")
    add_routes(app, graph(Model), path="/graph/model")
    add_routes(app, graph(Talk, answer), path="/graph/talk")
    add_routes(app, graph(Vague, answer), path="/graph/vague")
    add_routes(app, graph(Part, checkpointer=InMemorySaver()), path="/graph/kept")
    agent = create_agent(FakeListChatModel(responses=["ho"]), tools=[])
    add_routes(app, agent, path="/graph/agent")
