"""What is examined of an app: its runnables, its own endpoints, and its state."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI
from langchain_core.runnables import Runnable, RunnableLambda

from adopt.chains.models import UNNAMED, Echo, pipeline
from locktender import add_routes
from locktender.deploy.examine import examine_app


def test_a_runnable_is_found_once_and_below_the_path_that_it_is_served_at() -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(str) | pipeline(), path="/joke")
    assert _paths(app) == ["/joke.steps[1]"]


def test_twins_and_pages_name_the_path_of_the_runnable() -> None:
    app = FastAPI()
    for name in ("playground", "config_hashes"):
        add_routes(app, Echo() | str, path=f"/{name}", enabled_endpoints=[name, "playground"])
    assert _paths(app) == ["/playground.steps[0]", "/config_hashes.steps[0]"]


def test_what_a_route_depends_on_is_looked_at_once() -> None:
    app, kept = FastAPI(), Echo()

    def model() -> Runnable[Any, str]:
        return kept

    add_routes(app, Echo() | str, path="/joke", dependencies=[Depends(model)])
    assert sorted(_paths(app)) == ["/joke.steps[0]", "/joke:kept"]


def test_a_router_a_mounted_app_and_the_root_are_looked_at() -> None:
    app, inner, router = FastAPI(), FastAPI(), APIRouter(prefix="/v1")
    add_routes(router, Echo() | str, path="/text")
    add_routes(inner, Echo() | str, path="/deep")
    add_routes(app, Echo() | str)
    app.include_router(router, prefix="/api")
    app.mount("/inner", inner)
    assert _paths(app) == ["/.steps[0]", "/api/v1/text.steps[0]", "/inner/deep.steps[0]"]


def test_endpoints_of_the_user_and_the_state_of_the_app_are_looked_at() -> None:
    app, closed, other, kept = FastAPI(), Echo(), Echo(), Echo()

    def model() -> Runnable[Any, str]:
        return closed

    @app.get("/ask")
    async def ask(model: Annotated[Runnable[Any, str], Depends(model)]) -> str:
        return await model.ainvoke("?") + UNNAMED.invoke("!")

    app.state.model = kept

    @app.post("/ask")
    async def ask_other() -> str:
        return await other.ainvoke("?")

    assert _paths(app) == ["/ask:UNNAMED", "/ask:closed", "/ask:other", "app.state['model']"]


def test_what_has_no_routes_is_looked_at_as_it_is() -> None:
    model = Echo()

    async def app(scope: object, _receive: object, _send: object) -> None:
        await model.ainvoke(str(scope))

    assert _paths(app) == ["app:model"]


def test_what_is_guarded_is_told_from_what_is_not() -> None:
    app, model = FastAPI(), Echo()
    add_routes(app, Echo() | str, path="/guarded")
    add_routes(app, Echo() | str, path="/left", guard="off")

    @app.get("/ask")
    async def ask() -> str:
        return await model.ainvoke("?")

    plans = {each.path.partition(".")[0]: each.plan for each in examine_app(app).findings}
    assert {path: plan.partition(" ")[0] for path, plan in plans.items()} == {
        "/guarded": "Gives",
        "/left": "Nothing:",
        "/ask:model": "Nothing:",
    }


def _paths(app: object) -> list[str]:
    return [finding.path for finding in examine_app(app).findings]
