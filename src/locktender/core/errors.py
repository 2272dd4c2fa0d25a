"""Every way a request or a start can fail, as one tree of typed errors.

    LocktenderError                code (stable string), retryable
    |- ConfigError                 the operator's; before anything starts
    |- RequestError                the caller's; again changes nothing
    |  |- InvalidRequest
    |  |  `- TemplateRefusal
    |  |- RequestTooLarge
    |  |- UnknownModel
    |  |- UnknownPath
    |  |- UnknownMethod
    |  |- ContextTooLong
    |  |- Unauthenticated
    |  |- Forbidden
    |  |- HeadTooLarge
    |  `- HeadTooSlow
    |- CapacityError               nobody's; again, later; retry_after_s
    |  |- QueueFull
    |  |- WaitTooLong
    |  |- NoReplicaReady
    |  |- TooManyConnections
    |  `- Draining
    |- DeadlineExceeded
    |- AnswerUnread                the caller's; nothing can be told to him
    |- EngineError                 ours
    |  |- EngineStartError         the supervisor's
    |  |- EngineFailed
    |  |- PoisonedRequest          not retryable
    |  `- ReplicaLost
    `- PeerError                   the other side broke the protocol

The message of an error is one plain sentence for the caller; its cause, for the log, is chained
with ``raise ... from``.  No class knows an HTTP status: `wire.problem` holds the one table.
Cancellation is not an error and is not here.
"""

from typing import ClassVar

__all__ = [
    "AnswerUnread",
    "CapacityError",
    "ConfigError",
    "ContextTooLong",
    "DeadlineExceeded",
    "Draining",
    "EngineError",
    "EngineFailed",
    "EngineStartError",
    "Forbidden",
    "HeadTooLarge",
    "HeadTooSlow",
    "InvalidRequest",
    "LocktenderError",
    "NoReplicaReady",
    "PeerError",
    "PoisonedRequest",
    "QueueFull",
    "ReplicaLost",
    "RequestError",
    "RequestTooLarge",
    "TemplateRefusal",
    "TooManyConnections",
    "Unauthenticated",
    "UnknownMethod",
    "UnknownModel",
    "UnknownPath",
    "WaitTooLong",
]


class LocktenderError(Exception):
    """The root.  `code` is stable and safe to match on; `retryable` says if again may help."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    @property
    def message(self) -> str:
        """The sentence for the caller."""
        return str(self.args[0]) if self.args else self.code

    def __str__(self) -> str:
        """Say what is wrong and nothing else: this is what tracebacks and tracers show."""
        return self.message


class ConfigError(LocktenderError):
    """The operator's configuration cannot work; raised before anything starts."""

    code = "config_error"


class RequestError(LocktenderError):
    """The caller's request cannot be served, now or later."""

    code = "invalid_request"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)  # every argument, so that the error survives pickling
        self.param = param  # the field of the body that is wrong, where there is one


class InvalidRequest(RequestError):
    """A field is missing, of the wrong type, out of range or not supported."""


class TemplateRefusal(InvalidRequest):
    """The model's chat template does not take the messages, or there is none.

    The reason is the template's own, and the operator's to know as well: it may be his template.
    """


class RequestTooLarge(RequestError):
    """The body is longer than the service reads, or has more values in it."""

    code = "request_too_large"


class UnknownModel(RequestError):
    """No model of that name is served here."""

    code = "model_not_found"


class UnknownPath(RequestError):
    """Nothing is served at that path."""

    code = "path_not_found"


class UnknownMethod(RequestError):
    """The path is served, and not by that method; `allowed` names those that it has."""

    code = "method_not_allowed"

    def __init__(self, message: str, allowed: str = "") -> None:
        LocktenderError.__init__(self, message, allowed)
        self.param = None
        self.allowed = allowed


class ContextTooLong(RequestError):
    """The prompt and its answer do not fit the model's context."""

    code = "context_length_exceeded"  # the name OpenAI's clients know


class Unauthenticated(RequestError):
    """The request carries no key, or one that is not the service's."""

    code = "invalid_api_key"  # the name OpenAI's clients know


class Forbidden(RequestError):
    """The request names a host, or comes from a page, that the service does not answer to."""

    code = "forbidden"


class HeadTooLarge(RequestError):
    """The request line and the headers are longer, or more, than the service reads."""

    code = "headers_too_large"


class HeadTooSlow(RequestError):
    """The headers of the request did not arrive in time."""

    code = "headers_too_slow"


class CapacityError(LocktenderError):
    """There is no room now; the same request may be served later."""

    code = "capacity"
    retryable = True

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s  # seconds, from the measured drain rate


class QueueFull(CapacityError):
    """The gate holds as many requests, or tokens, as it may."""

    code = "queue_full"


class WaitTooLong(CapacityError):
    """The request waited its `max_wait_s` and was not started."""

    code = "wait_too_long"


class NoReplicaReady(CapacityError):
    """No engine runs, and to start one has failed many times in a row; it is tried on."""

    code = "no_replica_ready"


class TooManyConnections(CapacityError):
    """The service holds as many connections as it may, and each of them is being answered."""

    code = "too_many_connections"


class Draining(CapacityError):
    """The service is shutting down and takes no new request."""

    code = "draining"


class DeadlineExceeded(LocktenderError):
    """The request's own time limit passed, while it waited or while it ran."""

    code = "deadline_exceeded"
    retryable = True


class AnswerUnread(LocktenderError):
    """The caller did not read its answer, which was complete; its connection was cut off."""

    code = "answer_unread"


class EngineError(LocktenderError):
    """The engine, not the caller, is at fault."""

    code = "engine_error"


class EngineStartError(EngineError):
    """An engine could not be started; seen by the supervisor, never by a caller."""

    code = "engine_start_error"


class EngineFailed(EngineError):
    """The engine failed at this one request and lives on."""

    code = "engine_failed"


class PoisonedRequest(EngineError):
    """This prompt has ended engines in which it was alone, and is not tried again for a while."""

    code = "poisoned_request"


class ReplicaLost(EngineError):
    """The engine process died or hung while it held the request.

    `loss` names that one death, so that the requests which died together can be told from those
    that died one after another; `present` has the digests of all that were in the engine, in the
    order in which it was given them.
    """

    code = "replica_lost"
    retryable = True

    def __init__(self, message: str, loss: str = "", present: tuple[bytes, ...] = ()) -> None:
        super().__init__(message, loss, present)
        self.loss = loss
        self.present = present


class PeerError(LocktenderError):
    """The other side of a connection broke the protocol."""

    code = "peer_error"
