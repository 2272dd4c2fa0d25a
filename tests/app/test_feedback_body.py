"""What callers say of a run, as it is read."""

from uuid import UUID

import pytest
from pydantic import ValidationError

from locktender.app.feedback_body import FeedbackCreateRequest


def test_a_score_stays_what_it_was() -> None:
    scores = (1, 1.5, True, None)
    read = [FeedbackCreateRequest(run_id=UUID(int=1), key="k", score=score) for score in scores]
    assert [(type(each.score), each.score) for each in read] == [
        (type(score), score) for score in scores
    ]


def test_a_run_must_be_named_even_if_by_nothing() -> None:
    with pytest.raises(ValidationError):
        FeedbackCreateRequest.model_validate({"key": "k"})
    assert FeedbackCreateRequest.model_validate({"key": "k", "run_id": None}).run_id is None
