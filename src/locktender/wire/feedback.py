"""Write the tokens with which callers can send feedback on a run.

A token is fetched by `app.feedback_token`, and stands in the answer that tells of its run, or in
the first event of a stream (`wire.langserve`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic_core import to_json

__all__ = ["FeedbackToken", "tokens_json"]


@dataclass(frozen=True, slots=True)
class FeedbackToken:
    """Leave to send feedback on one run without a key of one's own."""

    key: str
    token_url: str
    expires_at: datetime | None


def tokens_json(tokens: Sequence[FeedbackToken]) -> bytes:
    """Return the tokens as the answer to an invoke holds them: in UTC it ends in a Z."""
    return to_json(list(tokens))
