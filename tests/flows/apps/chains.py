"""The apps that the tests of `locktender serve` serve: chains over the echo engine."""

import asyncio

from fastapi import FastAPI
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from locktender import ChatLocktender, add_routes

__all__ = ["app", "chain"]

model = ChatLocktender(model="echo", temperature=0)
chain = ChatPromptTemplate.from_template("{text}") | model | StrOutputParser()


async def _call_three_times(text: str) -> list[str]:
    """Be an agent: each call follows from the one before, with a tool between them."""
    answers = []
    for _ in range(3):
        answers.append(await chain.ainvoke({"text": text}))
        await asyncio.sleep(0.3)  # the tool, in which others take the room
    return answers


def _call_in_a_thread(text: str) -> str:
    return chain.invoke({"text": text})


app = FastAPI()
add_routes(app, chain, path="/chain")
add_routes(app, model, path="/model")
add_routes(app, RunnableLambda(_call_three_times), path="/agent")
add_routes(app, RunnableLambda(_call_in_a_thread), path="/thread")
