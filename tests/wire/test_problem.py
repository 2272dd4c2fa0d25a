import inspect
import math
from collections.abc import Callable

import httpx2
import openai
import orjson
import pytest

from locktender.core import errors
from locktender.core.errors import (
    CapacityError,
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    Forbidden,
    HeadTooLarge,
    HeadTooSlow,
    InvalidRequest,
    LocktenderError,
    NoReplicaReady,
    PeerError,
    PoisonedRequest,
    QueueFull,
    ReplicaLost,
    RequestTooLarge,
    TooManyConnections,
    Unauthenticated,
    UnknownModel,
    WaitTooLong,
)
from locktender.wire.problem import (
    Problem,
    find_ours,
    langserve_problem,
    openai_problem,
    run_problem,
)


@pytest.mark.parametrize(
    ("error", "status", "openai_type", "code"),
    [
        (InvalidRequest("No."), 400, "invalid_request_error", "invalid_request"),
        (ContextTooLong("No."), 400, "invalid_request_error", "context_length_exceeded"),
        (RequestTooLarge("No."), 413, "invalid_request_error", "request_too_large"),
        (UnknownModel("No."), 404, "invalid_request_error", "model_not_found"),
        (Unauthenticated("No."), 401, "invalid_request_error", "invalid_api_key"),
        (Forbidden("No."), 403, "invalid_request_error", "forbidden"),
        (HeadTooSlow("No."), 408, "invalid_request_error", "headers_too_slow"),
        (HeadTooLarge("No."), 431, "invalid_request_error", "headers_too_large"),
        (TooManyConnections("No."), 503, "service_unavailable_error", "too_many_connections"),
        (QueueFull("No."), 503, "service_unavailable_error", "queue_full"),
        (WaitTooLong("No."), 503, "service_unavailable_error", "wait_too_long"),
        (NoReplicaReady("No."), 503, "service_unavailable_error", "no_replica_ready"),
        (Draining("No."), 503, "service_unavailable_error", "draining"),
        (DeadlineExceeded("No."), 504, "server_error", "deadline_exceeded"),
        (EngineFailed("No."), 500, "server_error", "engine_failed"),
        (PoisonedRequest("No."), 500, "server_error", "poisoned_request"),
        (ReplicaLost("No."), 503, "service_unavailable_error", "replica_lost"),
        (PeerError("No."), 502, "server_error", "peer_error"),
        (LocktenderError("No."), 500, "server_error", "internal_error"),
    ],
)
def test_an_error_has_its_status_and_openai_s_body(
    error: LocktenderError, status: int, openai_type: str, code: str
) -> None:
    problem = openai_problem(error)
    assert problem.status == status
    assert problem.headers["content-type"] == "application/json"
    assert orjson.loads(problem.body) == {
        "error": {"message": "No.", "type": openai_type, "code": code, "param": None}
    }


def test_every_error_of_the_tree_has_an_answer() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    ours = [kind for kind in kinds if issubclass(kind, LocktenderError)]
    assert len(ours) == len(errors.__all__)
    assert all(400 <= openai_problem(kind("No.")).status <= 504 for kind in ours)


@pytest.mark.parametrize("problem_of", [openai_problem, langserve_problem])
def test_who_has_no_key_is_told_how_to_send_one(
    problem_of: Callable[[BaseException], Problem],
) -> None:
    assert problem_of(Unauthenticated("No.")).headers["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in problem_of(Forbidden("No.")).headers


@pytest.mark.parametrize("kind", [Unauthenticated, Forbidden])
def test_what_a_service_below_refuses_its_chain_is_not_the_callers(
    kind: type[LocktenderError],
) -> None:
    problem = run_problem(kind("Send a key."))
    assert problem.status == 502
    assert b"does not let it in" in problem.body
    assert "www-authenticate" not in problem.headers
    assert run_problem(QueueFull("No.")) == langserve_problem(QueueFull("No."))


def test_the_field_that_is_wrong_is_named() -> None:
    problem = openai_problem(InvalidRequest("`n` must be 1, not 2.", "n"))
    assert orjson.loads(problem.body)["error"]["param"] == "n"


@pytest.mark.parametrize(
    ("retry_after_s", "header"),
    [
        (None, "1"),
        (0.0, "1"),
        (-3.0, "1"),
        (0.2, "1"),
        (1.0, "1"),
        (1.01, "2"),
        (59.5, "60"),
        (math.inf, "1"),
        (math.nan, "1"),
    ],
)
def test_retry_after_is_a_whole_number_of_seconds_and_at_least_one(
    retry_after_s: float | None, header: str
) -> None:
    assert openai_problem(QueueFull("No.", retry_after_s)).headers["retry-after"] == header


def test_only_what_may_go_better_later_has_a_retry_after() -> None:
    assert openai_problem(ReplicaLost("No.")).headers["retry-after"] == "1"
    for error in (InvalidRequest("No."), DeadlineExceeded("No."), EngineFailed("No.")):
        assert "retry-after" not in openai_problem(error).headers


def test_a_new_error_is_answered_like_its_family() -> None:
    class TenantOverBudget(CapacityError):
        code = "tenant_over_budget"

    problem = openai_problem(TenantOverBudget("No.", 2.5))
    assert problem.status == 503
    assert problem.headers["retry-after"] == "3"


def test_of_an_exception_that_is_not_ours_nothing_is_told() -> None:
    problem = openai_problem(RuntimeError("the password is xyzzy"))
    assert problem.status == 500
    assert b"xyzzy" not in problem.body
    assert orjson.loads(problem.body)["error"]["code"] == "internal_error"


def test_a_message_that_is_not_unicode_is_told_all_the_same() -> None:
    problem = openai_problem(EngineFailed("No file \udcff."))
    assert orjson.loads(problem.body)["error"]["message"] == "No file ?."


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("No.", "n"), openai.BadRequestError),
        (UnknownModel("No."), openai.NotFoundError),
        (PoisonedRequest("No."), openai.InternalServerError),
    ],
)
def test_openai_s_client_raises_its_own_type_and_does_not_try_again(
    error: LocktenderError, kind: type[openai.APIStatusError]
) -> None:
    problem = openai_problem(error)
    calls = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        return httpx2.Response(problem.status, headers=problem.headers, content=problem.body)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http_client,
        openai.OpenAI(
            api_key="none", base_url="http://model/v1", http_client=http_client, max_retries=2
        ) as client,
        pytest.raises(kind) as raised,
    ):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert raised.value.code == error.code
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (InvalidRequest("No."), 422, None),
        (ContextTooLong("No."), 422, None),
        (RequestTooLarge("No."), 413, None),
        (UnknownModel("No."), 404, None),
        (QueueFull("No.", 2.5), 503, "3"),
        (DeadlineExceeded("No."), 504, None),
        (ReplicaLost("No."), 503, "1"),
        (PeerError("No."), 502, None),
    ],
)
def test_langserve_s_callers_get_the_same_refusal_in_their_form(
    error: LocktenderError, status: int, retry_after: str | None
) -> None:
    problem = langserve_problem(error)
    assert problem.status == status
    assert problem.headers.get("retry-after") == retry_after
    assert orjson.loads(problem.body) == {"detail": "No.", "message": "No.", "code": error.code}


def test_of_a_stranger_langserve_s_callers_hear_its_usual_words() -> None:
    problem = langserve_problem(RuntimeError("the password is xyzzy"))
    assert problem.status == 500
    assert orjson.loads(problem.body) == {
        "detail": "Internal Server Error",
        "message": "Internal Server Error",
    }


def test_an_error_of_ours_is_found_behind_causes_and_in_groups() -> None:
    ours = QueueFull("No.")
    wrapped = RuntimeError("the chain failed")
    wrapped.__cause__ = ExceptionGroup("some failed", [ValueError(), ours])
    assert find_ours(wrapped) is ours
    assert find_ours(ValueError()) is None


def test_causes_that_go_in_a_circle_end_the_search() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert find_ours(first) is None
