"""Hold what callers say of a run, and what they are told of it.

The bodies of `/feedback`, `/token_feedback` and `/public_trace_link`, and their answers.  The names
are LangServe's: they stand in the OpenAPI document.  What becomes of a body is `feedback`'s to say.
"""

from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict

__all__ = [
    "Feedback",
    "FeedbackCreateRequest",
    "FeedbackCreateRequestTokenBased",
    "PublicTraceLink",
    "PublicTraceLinkCreateRequest",
]

_Score: TypeAlias = float | int | bool | None
_Value: TypeAlias = float | int | bool | str | dict | None  # type: ignore[type-arg]  # its name is in errors


class FeedbackCreateRequest(BaseModel):
    """What a caller thinks of a run."""

    model_config = ConfigDict(from_attributes=True)

    run_id: UUID | None
    key: str
    score: _Score = None
    value: _Value = None
    comment: str | None = None


class Feedback(BaseModel):
    """What was sent on of it."""

    model_config = ConfigDict(from_attributes=True)

    run_id: UUID | None
    key: str
    score: _Score = None
    value: _Value = None
    comment: str | None = None
    id: UUID
    created_at: datetime
    modified_at: datetime
    correction: dict[Any, Any] | None = None


class FeedbackCreateRequestTokenBased(BaseModel):
    """What a caller thinks of the run that a token stands for."""

    model_config = ConfigDict(from_attributes=True)

    token_or_url: UUID | str
    score: _Score = None
    value: _Value = None
    comment: str | None = None
    correction: dict[Any, Any] | None = None
    metadata: dict[Any, Any] | None = None


class PublicTraceLinkCreateRequest(BaseModel):
    """A run whose trace anybody is to be able to read."""

    model_config = ConfigDict(from_attributes=True)

    run_id: UUID


class PublicTraceLink(BaseModel):
    """Where the trace can be read."""

    public_url: str
