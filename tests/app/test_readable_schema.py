"""Runnables whose annotations say nothing to JSON are served, and described as anything."""

import sys
from typing import Annotated, Any, Generic, TypedDict, TypeVar

import pytest
from fastapi import FastAPI
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda, RunnableParallel
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from starlette.testclient import TestClient

from locktender import add_routes
from locktender.app.readable_schema import (
    describable,
    readable_input_schema,
    readable_output_schema,
)

_T = TypeVar("_T")


class Typed(TypedDict):
    a: int


class Plain:
    """A class of which JSON knows nothing."""


class Box(Generic[_T]):
    """Another."""


class Known(BaseModel):
    a: int


class Holder(BaseModel):
    """A model that makes its own object of what comes."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    plain: Annotated[Plain, BeforeValidator(lambda _: Plain())]


def runnable(takes: Any = Any, gives: Any = Any) -> Runnable[Any, Any]:
    def run(value: Any) -> Any:
        return value

    run.__annotations__ = {"value": takes, "return": gives}
    return RunnableLambda(run)


OLD_PYTHON = sys.version_info < (3, 12)
UNREADABLE: dict[str, Any] = {
    "class": Plain,
    "generic class": Box[int],
    "list of a class": list[Plain],
    "class or none": Plain | None,
    "unknown name": "somewhere.Nothing",
    "list of an unknown name": "list[Nothing]",
    "no type at all": 5,
    **({"typed dict": Typed, "list of typed dicts": list[Typed]} if OLD_PYTHON else {}),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_it_is_served_and_described_as_anything(name: str) -> None:
    annotation = UNREADABLE[name]
    app = FastAPI()
    add_routes(app, runnable(takes=annotation), path="/takes")
    add_routes(app, runnable(gives=annotation), path="/gives")
    add_routes(app, RunnableParallel(x=runnable(takes=annotation)), path="/within")
    value = {"a": 1, "b": [None]}
    with TestClient(app) as client:
        for path in ("takes", "gives", "within"):
            for page in ("input_schema", "output_schema", "playground/"):
                assert client.get(f"/{path}/{page}").status_code == 200
            answer = client.post(f"/{path}/invoke", json={"input": value})
            assert answer.json()["output"] == ({"x": value} if path == "within" else value)
            batch = client.post(f"/{path}/batch", json={"inputs": [value, 5]})
            assert batch.status_code == 200
            stream = client.post(f"/{path}/stream", json={"input": value})
            assert "event: error" not in stream.text
        assert client.get("/takes/input_schema").json() == {"title": "run_input"}
        assert client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("annotation", [int, "list[int]", Known, list[Known], Known | None, Any])
def test_what_json_can_be_read_by_keeps_its_schema(annotation: Any) -> None:
    made = runnable(takes=annotation, gives=annotation)
    assert readable_input_schema(made) is made.get_input_schema()
    assert readable_output_schema(made) is made.get_output_schema()


def test_a_model_that_makes_its_own_object_is_still_read_by_its_validators() -> None:
    schema = readable_input_schema(runnable(takes=Holder))
    assert schema is Holder
    assert isinstance(Holder.model_validate({"plain": "x"}).plain, Plain)
    assert describable(schema).model_json_schema() == {"title": "Holder"}


def test_a_config_that_breaks_the_runnable_is_still_told() -> None:
    prompt = PromptTemplate.from_template("{a}").configurable_fields(
        template=ConfigurableField(id="template")
    )
    with pytest.raises(ValidationError):
        readable_input_schema(prompt, {"configurable": {"template": "{broken"}})
