"""A chain as an API: run with `uvicorn server:app`."""

from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda

from locktender import add_routes  # was: from langserve import add_routes


def explain(topic: str) -> str:
    return f"{topic.title()} is water that falls from the sky."


app = FastAPI(title="Weather")
add_routes(app, RunnableLambda(explain), path="/explain")
