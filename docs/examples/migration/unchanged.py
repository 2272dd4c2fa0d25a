"""An app whose imports stay as they are."""

from locktender import compat

compat.install()  # before the first import of `langserve`, here or elsewhere

from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda
from langserve import add_routes
from langserve.schema import CustomUserType


class Place(CustomUserType):
    name: str


def weather(place: Place) -> str:
    return f"It rains in {place.name}."


app = FastAPI(title="Weather")
add_routes(app, RunnableLambda(weather).with_types(input_type=Place), path="/weather")
