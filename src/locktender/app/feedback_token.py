"""Fetch tokens with which the callers of a route can send feedback on their runs.

A run's tokens are fetched beside it, and it never waits long for them nor fails with them: a
LangSmith that is slow, off or broken leaves the run without tokens.  LangServe fails then.
Above it, `run_note` asks for the tokens of a run; feedback itself is `feedback`'s.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from locktender.app import feedback
from locktender.app.side_thread import SideThreads
from locktender.wire.feedback import FeedbackToken

__all__ = ["TokenSource"]

_log = logging.getLogger(__name__)

_MAX_CALLS = 64  # at once, for a route; each is a thread
_TIMEOUT_S = 5.0
_ONE_KEY = (
    "Only one key is supported for now for token feedback configuration. For example specify: "
    "{'key_configs': [{'key': 'correctness'}]}"
)


class TokenSource:
    """The tokens of one route's runs."""

    def __init__(
        self,
        desk: feedback.FeedbackDesk,
        config: Mapping[str, Any],
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """Take the key.  Raises: NotImplementedError if there are several, or none."""
        keys = config.get("key_configs", ())
        if len(keys) != 1:
            raise NotImplementedError(_ONE_KEY)
        self._key: str = keys[0]["key"]
        self._desk = desk
        self._threads = SideThreads("LangSmith", max_calls=_MAX_CALLS, timeout_s=timeout_s)

    def begin(self, run_id: str) -> asyncio.Task[Sequence[FeedbackToken]]:
        """Begin to fetch a run's tokens.  The task does not fail, and ends after a while."""
        return asyncio.create_task(self._fetch(run_id), name="token")

    async def _fetch(self, run_id: str) -> Sequence[FeedbackToken]:
        if not feedback.tracing_is_enabled():
            return ()
        try:
            token = await self._threads.call(
                lambda: self._desk.client.create_presigned_feedback_token(run_id, self._key)
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the run is to have its answer
            _log.warning("run %s has no feedback token: %s", run_id, error)
            return ()
        return [FeedbackToken(self._key, token.url, token.expires_at)]
