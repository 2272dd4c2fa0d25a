"""Errors are httpx's and ours at once, say what the server said, and tell no secret."""

import httpx
import pytest

from locktender.app.client_error import broken, event_error, status_error
from locktender.core.errors import (
    CapacityError,
    InvalidRequest,
    LocktenderError,
    PeerError,
    QueueFull,
    ReplicaLost,
)
from locktender.wire.problem import langserve_problem

URL = "http://localhost/x/invoke"
HELP = "\nFor more information check: https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/"


def answered(status: int, body: bytes, **headers: str) -> httpx.Response:
    request = httpx.Request("POST", URL, headers={"Authorization": "Bearer k", "Accept": "*/*"})
    return httpx.Response(status, content=body, headers=headers, request=request)


def refused_with(error: LocktenderError) -> httpx.HTTPStatusError:
    problem = langserve_problem(error)
    headers = {name.replace("-", "_"): value for name, value in problem.headers.items()}
    return status_error(
        answered(
            problem.status, problem.body, **{k.replace("_", "-"): v for k, v in headers.items()}
        )
    )


def test_a_refusal_has_httpx_s_text_and_the_body() -> None:
    error = status_error(answered(404, b'{"detail":"Not Found"}'))
    assert type(error) is httpx.HTTPStatusError
    told = f"Client error '404 Not Found' for url '{URL}'{HELP}404"
    assert str(error) == f'{told} for {{"detail":"Not Found"}}'
    assert error.response.status_code == 404
    assert error.response.json() == {"detail": "Not Found"}


def test_a_refusal_of_ours_is_the_error_that_it_was_there() -> None:
    error = refused_with(QueueFull("The gate is full.", 6.5))
    assert isinstance(error, httpx.HTTPStatusError)
    assert isinstance(error, QueueFull)
    assert isinstance(error, CapacityError)
    assert error.message == "The gate is full."
    assert type(error).__module__ == QueueFull.__module__  # where it can be imported
    assert error.retry_after_s == 7
    assert error.retryable
    assert error.response.status_code == 503
    assert str(error).endswith(f" for {error.response.text}")


def test_every_kind_keeps_the_attributes_of_its_own() -> None:
    invalid, lost = refused_with(InvalidRequest("No.")), refused_with(ReplicaLost("Gone."))
    assert isinstance(invalid, InvalidRequest)
    assert invalid.param is None
    assert isinstance(lost, ReplicaLost)
    assert lost.loss == ""


def test_a_code_that_is_not_ours_is_no_error_of_ours() -> None:
    error = status_error(answered(500, b'{"code":"theirs","message":"m"}'))
    assert not isinstance(error, LocktenderError)


def test_a_body_that_is_no_text_is_still_told() -> None:
    assert status_error(answered(500, b"\xff\xfe")).response.content == b"\xff\xfe"


def test_headers_that_are_not_ascii_are_told_as_they_came() -> None:
    request = httpx.Request("POST", URL, headers=[(b"User-Agent", "Jürgen".encode())])
    headers = [(b"X-Town", "Zürich".encode("latin-1")), (b"Content-Encoding", b"identity")]
    error = status_error(httpx.Response(500, headers=headers, content=b"no", request=request))
    assert error.response.headers["x-town"] == "Zürich"
    assert "content-encoding" not in error.response.headers
    assert error.request.headers["user-agent"] == "Jürgen"


def test_a_redirect_is_a_refusal() -> None:
    error = status_error(answered(302, b"", location="/y"))
    assert "Redirect response '302 Found'" in str(error)


def test_headers_that_may_be_secrets_are_told_by_nothing_on_the_error() -> None:
    error = status_error(answered(500, b"", **{"content-encoding": "gzip"}))
    for request in (error.request, error.response.request):
        assert request.headers["authorization"] == "<redacted>"
        assert request.headers["accept"] == "*/*"
    assert error.__context__ is None


def test_an_error_event_is_raised_with_its_status_and_message() -> None:
    request = answered(200, b"").request
    error = event_error(request, '{"status_code": 418, "message": "tea"}')
    assert type(error) is httpx.HTTPStatusError
    assert (str(error), error.response.status_code, error.response.text) == ("tea", 418, "tea")
    assert error.request.headers["authorization"] == "<redacted>"


def test_an_error_event_with_a_code_of_ours_is_an_error_of_ours() -> None:
    event = '{"status_code": 503, "message": "The gate is full.", "code": "queue_full"}'
    error = event_error(answered(200, b"").request, event)
    assert isinstance(error, QueueFull)
    assert str(error) == error.message == "The gate is full."
    assert error.retry_after_s is None


@pytest.mark.parametrize("text", ["nonsense", "{}", "[1]", '{"message": 3}', ""])
def test_an_error_event_that_says_nothing_is_a_500_and_a_breach(text: str) -> None:
    error = event_error(answered(200, b"").request, text)
    assert isinstance(error, PeerError)
    assert (error.response.status_code, error.response.text) == (500, text)


@pytest.mark.parametrize("status", ["true", '"x"', "99", "1000", "null"])
def test_a_status_that_is_none_is_a_500(status: str) -> None:
    error = event_error(answered(200, b"").request, f'{{"status_code": {status}, "message": "m"}}')
    assert error.response.status_code == 500


@pytest.mark.parametrize("kind", [AssertionError, ValueError, httpx.RemoteProtocolError])
def test_a_breach_is_ours_and_what_langserve_s_callers_catch(kind: type[Exception]) -> None:
    error = broken("A sentence.", kind)
    assert isinstance(error, PeerError)
    assert isinstance(error, kind)
    assert str(error) == error.message == "A sentence."
    assert error.code == "peer_error"


def test_half_a_letter_in_a_message_can_be_printed() -> None:
    event = '{"status_code": 503, "message": "no \\ud83d", "code": "queue_full"}'
    error = event_error(answered(200, b"").request, event)
    assert isinstance(error, QueueFull)
    assert str(error) == error.message == error.response.text == "no ?"
