"""Send on to LangSmith what callers think of a run, and share a run's trace.

Decides who may: the endpoints must be switched on for the route, and LangSmith must be on for the
process.  LangSmith's client blocks and tries again for minutes, so its calls are made in threads
and waited for a bounded time.  `ls_client` and `tracing_is_enabled` are looked up at each call:
users' tests replace them.  Above it, `feedback_route` puts it on an app; tokens for the runs of a
route are `feedback_token`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from langsmith import client as ls_client
from langsmith.utils import (
    LangSmithError,
    LangSmithNotFoundError,
    LangSmithUserError,
    tracing_is_enabled,
)
from requests import RequestException
from starlette.exceptions import HTTPException

from locktender.app.feedback_body import (
    Feedback,
    FeedbackCreateRequest,
    FeedbackCreateRequestTokenBased,
    PublicTraceLink,
    PublicTraceLinkCreateRequest,
)
from locktender.app.side_thread import SideThreads
from locktender.core.errors import PeerError

__all__ = ["FeedbackDesk", "TokenFeedbackConfig", "ls_client", "tracing_is_enabled"]

_Result = TypeVar("_Result")
_MAX_CALLS = 16  # at once, for a route; each is a thread
_TIMEOUT_S = 15.0
_FROM = {"from_langserve": True}
_NOT_ON = "is only accessible when LangSmith is enabled on your LangServe server.\n"
_FEEDBACK_IS_OFF = (
    f"The feedback endpoint {_NOT_ON}Please set `enable_feedback_endpoint=True` on your route and "
    "set the proper environment variables"
)
_LINKS_ARE_OFF = (
    f"The public trace link endpoint {_NOT_ON}Please set "
    "`enable_public_trace_link_endpoint=True` on your route and set the proper environment "
    "variables"
)
_TOKENS_ARE_OFF = (
    f"The feedback endpoint {_NOT_ON} Please set the proper environment variables to enable "
    "LangSmith.In addition, please ensure that the token_feedback_config has been properly "
    "specified when using add_routes or APIHandler."
)


class KeyConfig(TypedDict):
    """One thing that callers may judge."""

    key: str


class TokenFeedbackConfig(TypedDict):
    """For which feedback the callers of a route get tokens."""

    key_configs: Sequence[KeyConfig]


class FeedbackDesk:
    """What one route takes from its callers for LangSmith."""

    def __init__(
        self,
        *,
        takes_feedback: bool = False,
        gives_links: bool = False,
        takes_tokens: bool = False,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self.takes_feedback = takes_feedback
        self.gives_links = gives_links
        self._takes_tokens = takes_tokens
        self._threads = SideThreads("LangSmith", max_calls=_MAX_CALLS, timeout_s=timeout_s)
        self._client: Any = None

    @property
    def client(self) -> Any:
        """LangSmith's client.  Made when it is first needed: the environment may come late."""
        if self._client is None:
            self._client = ls_client.Client()
        return self._client

    def check_feedback(self) -> None:
        """Raise: HTTPException, if there can be no feedback."""
        _check(self.takes_feedback, _FEEDBACK_IS_OFF)

    def check_links(self) -> None:
        """Raise: HTTPException, if no trace can be shared."""
        _check(self.gives_links, _LINKS_ARE_OFF)

    async def create(self, given: FeedbackCreateRequest) -> Feedback:
        """Send feedback on a run.

        Raises: HTTPException, PeerError, DeadlineExceeded.
        """
        self.check_feedback()
        sent = await self._ask(
            lambda: self.client.create_feedback(
                given.run_id,
                given.key,
                score=given.score,
                value=given.value,
                comment=given.comment,
                source_info=dict(_FROM),
            )
        )
        return Feedback.model_validate(
            {name: getattr(sent, name) for name in Feedback.model_fields if name != "correction"}
            | {"correction": sent.correction if isinstance(sent.correction, Mapping) else None}
        )

    async def create_from_token(self, given: FeedbackCreateRequestTokenBased) -> None:
        """Send feedback on the run that a token stands for.  Raises: as `create`."""
        if not (self._takes_tokens and tracing_is_enabled()):
            raise HTTPException(400, _TOKENS_ARE_OFF)
        await self._ask(
            lambda: self.client.create_feedback_from_token(
                given.token_or_url,
                score=given.score,
                value=given.value,
                comment=given.comment,
                correction=given.correction,
                metadata={**(given.metadata or {}), **_FROM},
            )
        )

    async def share(self, given: PublicTraceLinkCreateRequest) -> PublicTraceLink:
        """Make a run's trace public.  Raises: as `create`."""
        self.check_links()
        url = await self._ask(lambda: self.client.share_run(given.run_id))
        return PublicTraceLink(public_url=url)

    async def _ask(self, call: Callable[[], _Result]) -> _Result:
        try:
            return await self._threads.call(call)
        except RequestException as error:  # among them an answer that is no JSON, a ValueError too
            raise PeerError("LangSmith does not answer as it should.") from error
        except (LangSmithUserError, ValueError) as error:
            raise HTTPException(422, "LangSmith cannot tell which run is meant.") from error
        except LangSmithNotFoundError as error:
            raise HTTPException(404, "LangSmith does not know that run or token.") from error
        except LangSmithError as error:
            raise PeerError("LangSmith did not take it.") from error


def _check(is_on: bool, otherwise: str) -> None:  # noqa: FBT001 - the switch itself
    if not is_on:
        raise HTTPException(404, "Not Found")
    if not tracing_is_enabled():
        raise HTTPException(400, otherwise)
