"""Count the tokens of a chat with the model that is served.

A whole chat is counted as the model's template writes it, the beginning of its answer included:
that is what an answer's usage says.  Above it, `chat_model` knows how the service is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from locktender.core.errors import InvalidRequest

__all__ = ["AskTokens", "count_chat"]

# The body of a tokenization to its tokens.
AskTokens: TypeAlias = Callable[[Mapping[str, Any]], list[int]]


def count_chat(ask: AskTokens, messages: Sequence[Mapping[str, Any]]) -> int:
    """Return how many tokens `messages` are.  Raises: InvalidRequest, and what `ask` does.

    Whoever trims a history counts parts of it, such as one that begins with an answer, and some
    templates refuse those.  Their messages are counted one by one, each as a chat of its own:
    that is rather too many than too few.
    """
    if not messages:
        return 0
    try:
        return len(ask({"messages": messages}))
    except InvalidRequest as refusal:
        if refusal.param != "messages":
            raise
        alone = ({"messages": [{**message, "role": "user"}]} for message in messages)
        return sum(len(ask(body)) for body in alone)
