"""Whether a prompt fits a model: its token ids the vocabulary, its length the context.

Pure checks that every engine makes in `add`, so that all of them refuse in the same words.  Some
engines take an unknown token id, or a prompt beyond what the model was trained for, without a
word, and then answer nonsense or hold up everybody else.

How many tokens a prompt has is counted by the engines, above; the bounds of `max_tokens` itself
are checked by `wire`.
"""

from collections.abc import Sequence

from locktender.core.errors import ContextTooLong, InvalidRequest
from locktender.core.request import GenerationRequest

__all__ = ["answer_room", "check_ids", "not_rendered"]


def answer_room(
    request: GenerationRequest, n_prompt_tokens: int, context_tokens: int, *, is_exact: bool = True
) -> int:
    """Return how many tokens the answer may have.

    It is the caller's `max_tokens`, which must fit, or the model's default, shrunk to what the
    prompt leaves.  `is_exact` is False where the prompt has at least `n_prompt_tokens`.
    Raises: ContextTooLong.
    """
    room = context_tokens - n_prompt_tokens
    if request.max_tokens <= room and is_exact:
        return request.max_tokens
    if request.is_default_max_tokens and room > 0 and is_exact:
        return room
    at_least = "" if is_exact else "at least "
    wanted = "" if request.is_default_max_tokens else f" and `max_tokens` is {request.max_tokens}"
    raise ContextTooLong(
        f"The prompt has {at_least}{n_prompt_tokens} tokens{wanted}, "
        f"but prompt and answer together may have {context_tokens}."
    )


def check_ids(ids: Sequence[int], n_vocabulary: int) -> None:
    """Raise InvalidRequest unless there are ids and the vocabulary has every one of them."""
    if not ids:
        raise InvalidRequest("The prompt is empty.", "prompt")
    if min(ids) < 0 or max(ids) >= n_vocabulary:
        raise InvalidRequest(
            f"A token id is outside of the model's vocabulary, which ends at {n_vocabulary - 1}.",
            "prompt",
        )


def not_rendered() -> InvalidRequest:
    """Return the refusal of a chat that no template has written."""
    return InvalidRequest("The engine takes prompts, and no chat that is not rendered.", "messages")
