"""The chain and its routes, without a server or weights: a fake model answers."""

import asyncio

import httpx
from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser

from app import chain, prompt
from locktender import add_routes

QUESTION = {"question": "What is a canal lock?"}
ANSWER = "A lift for boats."

fake_chain = prompt | FakeListChatModel(responses=[ANSWER]) | StrOutputParser()


def test_the_model_is_asked_the_question() -> None:
    assert prompt.invoke(QUESTION).to_messages()[-1].content == QUESTION["question"]


def test_the_chain_answers_with_text() -> None:
    assert fake_chain.invoke(QUESTION) == ANSWER


def test_the_routes_answer() -> None:
    app = FastAPI()
    add_routes(app, fake_chain, path="/chain")
    answer = asyncio.run(send(app, "POST", "/chain/invoke", {"input": QUESTION}))
    assert answer.status_code == httpx.codes.OK
    assert answer.json()["output"] == ANSWER


def test_the_chain_that_is_served_wants_a_question() -> None:
    app = FastAPI()
    add_routes(app, chain, path="/chain")
    schema = asyncio.run(send(app, "GET", "/chain/input_schema"))
    assert schema.json()["required"] == ["question"]


async def send(app: FastAPI, method: str, path: str, body: object = None) -> httpx.Response:
    """Send one request to `app`, without a socket."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, json=body)
