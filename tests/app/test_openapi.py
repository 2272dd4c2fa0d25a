"""What an app's OpenAPI document says of its runnables."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header
from langchain_core.language_models import FakeListLLM
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel

from locktender import add_routes

KINDS = {
    *("InvokeRequest", "BatchRequest", "StreamRequest", "StreamLogRequest"),
    *("StreamEventsRequest", "InvokeResponse", "BatchResponse"),
}


class Tree(BaseModel):
    trees: list["Tree"] = []


def add_one(x: int) -> int:
    return x + 1


def document_of(app: FastAPI) -> Any:
    """Return the document as it is sent, which is valid, without a warning."""
    document = json.loads(json.dumps(app.openapi(), allow_nan=False))
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    return document


def models_of(app: FastAPI) -> dict[str, Any]:
    models: dict[str, Any] = document_of(app)["components"]["schemas"]
    return models


def body_of(document: Any, path: str) -> Any:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return document["components"]["schemas"][name]["properties"]


def test_bodies_are_named_after_the_path_and_inputs_after_the_runnable() -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(add_one), path="/a-b/c")
    names = set(models_of(app))
    assert {f"a_b_c{kind}" for kind in KINDS} <= names
    assert {"add_one_input", "add_one_output", "a_b_cadd_one_config"} <= names


def test_operations_have_ids_tags_and_models() -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(add_one), path="/a-b")
    document = document_of(app)
    invoke = document["paths"]["/a-b/c/{config_hash}/invoke"]["post"]
    assert invoke["operationId"] == ("a_b_invoke_with_config_a_b_c__config_hash__invoke_post")
    assert invoke["tags"] == ["a-b/config"]
    assert body_of(document, "/a-b/invoke")["input"]["$ref"].endswith("/add_one_input")
    stream = document["paths"]["/a-b/stream"]["post"]
    assert list(stream["responses"]["200"]["content"]) == ["text/event-stream"]
    assert [tag["name"] for tag in document["tags"]] == ["a-b", "a-b/config"]


def test_the_same_runnable_twice_shares_the_models_of_its_values() -> None:
    app, runnable = FastAPI(), RunnableLambda(add_one)
    add_routes(app, runnable, path="/one")
    add_routes(app, runnable, path="/two")
    add_routes(app, RunnableLambda(add_one), path="/three")
    names = [name for name in models_of(app) if name.endswith("add_one_input")]
    assert names == ["add_one_input"]


def test_other_models_of_one_name_have_the_path_in_front_whatever_came_before() -> None:
    first, second = (PromptTemplate.from_template(text) for text in ("{a}", "{b}"))
    for prompts in ((first, second), (second, first)):  # two apps of one process
        app = FastAPI()
        for prompt, path in zip(prompts, ("/one", "/two"), strict=True):
            add_routes(app, prompt, path=path)
        names = {name for name in models_of(app) if name.endswith("PromptInput")}
        assert names == {"PromptInput", "twoPromptInput"}


def test_paths_that_differ_by_a_sign_differ_in_ids_and_names() -> None:
    app = FastAPI()
    for path in ("/a-b", "/a_b", "/a.b"):
        add_routes(app, PromptTemplate.from_template(f"{{x{len(app.routes)}}}"), path=path)
    document = document_of(app)
    ids = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(ids) == len(set(ids))
    inputs = [body_of(document, f"{path}/invoke")["input"]["$ref"] for path in ("/a-b", "/a_b")]
    assert len(set(inputs)) == 2


@pytest.mark.parametrize("prefix", ["", "/inner"])
def test_routers_are_described_where_they_are_included(prefix: str) -> None:
    app, router = FastAPI(), APIRouter(prefix="/v1")
    add_routes(router, RunnableLambda(add_one), path="/run")
    app.include_router(router, prefix=prefix)
    document = document_of(app)
    assert body_of(document, f"{prefix}/v1/run/invoke")["input"]["$ref"].endswith("/add_one_input")
    assert f"{prefix}/v1/run/c/{{config_hash}}/stream" in document["paths"]


def test_what_stands_in_a_path_and_what_a_dependency_reads_are_parameters() -> None:
    def need(x_token: Annotated[str, Header()]) -> str:
        return x_token

    app = FastAPI()
    dependencies = [Depends(need)]
    add_routes(app, RunnableLambda(add_one), path="/of/{user}/{n:int}", dependencies=dependencies)
    invoke = document_of(app)["paths"]["/of/{user}/{n}/c/{config_hash}/invoke"]["post"]
    places = {(each["in"], each["name"]) for each in invoke["parameters"]}
    assert places == {
        *(("path", "user"), ("path", "n"), ("path", "config_hash"), ("header", "x-token"))
    }


def of_type(kind: Any) -> Runnable[Any, Any]:
    runnable: Runnable[Any, Any] = RunnableLambda(lambda value: value)
    return runnable.with_types(input_type=kind, output_type=kind)


class Odd:
    """A type of which pydantic knows nothing."""


class Unfit(BaseModel):
    call: Callable[[int], int]


class Nan(BaseModel):
    value: float = float("nan")


@pytest.mark.parametrize(
    "runnable",
    [
        of_type(Tree),
        of_type(tuple[int, str]),
        of_type(list[Tree]),
        of_type(dict[str, Tree]),
        of_type(Tree | None),
        of_type(Callable[[int], int]),
        of_type(Unfit),
        of_type(Nan),
        of_type(Any),
        of_type(FastAPI),
        RunnableLambda(lambda value: value),
        ChatPromptTemplate.from_messages([("user", "{q}")]) | FakeListLLM(responses=["a"]),
        PromptTemplate.from_template("{a}").configurable_fields(
            template=ConfigurableField(id="template")
        ),
    ],
    ids=lambda runnable: str(getattr(runnable, "custom_input_type", type(runnable).__name__)),
)
def test_every_type_is_described_or_left_open(runnable: Runnable[Any, Any]) -> None:
    app = FastAPI()
    add_routes(app, runnable, path="/run")
    add_routes(app, runnable, path="/again")
    assert {"runInvokeRequest", "againInvokeResponse"} <= set(models_of(app))


def test_a_runnable_that_cannot_describe_itself_is_served_all_the_same() -> None:
    class Mute(RunnableLambda[Any, Any]):
        def get_output_schema(self, config: Any = None) -> Any:
            raise TypeError(config)

    app = FastAPI()
    add_routes(app, Mute(add_one), path="/mute")
    assert "muteInvokeResponse" in models_of(app)


def test_an_app_without_a_document_describes_nothing() -> None:
    app = FastAPI(openapi_url=None)
    add_routes(app, RunnableLambda(add_one), path="/run")
    paths = [getattr(route, "path", None) for route in app.routes]
    assert paths.count("/run/invoke") == 1


def test_a_description_answers_nobody() -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(add_one), path="/run")
    scope = {"type": "http", "method": "POST", "path": "/run/invoke"}
    matched = [route.matches(dict(scope))[0].value for route in app.routes]
    assert matched.count(2) == 1
