"""What no route of an app of ours answers, in the form of each wire."""

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from locktender.http.unrouted import answer_unrouted
from locktender.wire.problem import langserve_problem, openai_problem


def app_of(problem_of: object = langserve_problem) -> FastAPI:
    app = FastAPI()

    @app.post("/run")
    @app.put("/run")
    def run(what: str = "") -> None:
        if what == "fault":
            raise ValueError("a secret")
        raise HTTPException(int(what), {"its": "own"}, {"X-Its": "own"})

    answer_unrouted(app, problem_of)  # type: ignore[arg-type]  # one of the two
    return app


async def got(app: FastAPI, method: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
        return await client.request(method, path)


async def test_an_unknown_path_is_told() -> None:
    sentence = "There is no GET /nothing here."
    answer = await got(app_of(), "GET", "/nothing")
    assert answer.status_code == 404
    assert answer.json() == {"detail": sentence, "message": sentence, "code": "path_not_found"}
    answer = await got(app_of(openai_problem), "GET", "/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == sentence
    assert answer.json()["error"]["code"] == "path_not_found"


@pytest.mark.parametrize("problem_of", [langserve_problem, openai_problem])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS"])
async def test_a_wrong_method_is_told_with_those_that_there_are(
    problem_of: object, method: str
) -> None:
    app = FastAPI()
    app.add_api_route("/run", lambda: None, methods=["POST"])
    answer_unrouted(app, problem_of)  # type: ignore[arg-type]  # one of the two
    answer = await got(app, method, "/run")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.headers["content-type"] == "application/json"


async def test_the_methods_of_all_routes_on_a_path_are_told() -> None:
    answer = await got(app_of(), "GET", "/run")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, PUT")


@pytest.mark.parametrize("status", [404, 405, 418])
async def test_what_a_route_says_itself_stays(status: int) -> None:
    answer = await got(app_of(), "POST", f"/run?what={status}")
    assert (answer.status_code, answer.json()) == (status, {"detail": {"its": "own"}})
    assert answer.headers["x-its"] == "own"


async def test_a_fault_is_told_without_its_text() -> None:
    for problem_of in (langserve_problem, openai_problem):
        answer = await got(app_of(problem_of), "POST", "/run?what=fault")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/json"
        assert "secret" not in answer.text


def test_it_is_no_handler_of_a_runnables_own_exceptions() -> None:
    app = app_of()
    assert not [kind for kind in ValueError.__mro__ if kind in app.exception_handlers]
