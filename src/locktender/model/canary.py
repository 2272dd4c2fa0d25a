"""Ask an engine that has loaded for a few tokens, before it is ready.

Weights that are noise, or half there, load without a word, and then every token is the end: each
caller would get 200 and an empty text.  So the engine is asked in the form in which chats reach it,
and one that has nothing to say is not ready.  One answer of any text is enough, and the first
question is nearly always the last: it costs a few milliseconds.  There are several because the
honest first token of a model may be the end of its text; whose model answers none of them, switches
them off.

Runs where the engine does, in its process (`child`), before the first request.
"""

from collections.abc import Sequence

from locktender.core.errors import EngineStartError, LocktenderError, RequestError
from locktender.core.request import (
    ChatInput,
    GenerationRequest,
    Input,
    Message,
    RenderedInput,
    Sampling,
)
from locktender.model.engine import Stepper

__all__ = ["QUESTIONS", "ask_canary"]

# Texts that go on, whether or not a template has written them as a turn.
QUESTIONS: Sequence[str] = (
    "The capital of France is",
    "1, 2, 3, 4,",
    "Once upon a time",
    "Say hello.",
)
_MAX_TOKENS = 8  # one character of some languages has four
_MAX_STEPS = 1000  # for one question: an engine may take a prompt in parts, or pace itself
_KEY = 0  # the owner's keys begin at 1


def ask_canary(stepper: Stepper, *, is_chat: bool) -> None:
    """Return once `stepper` has answered; `is_chat` where it gets chats as they come.

    Raises: EngineStartError.
    """
    n_unanswered = 0
    for question in QUESTIONS:
        prompt = ChatInput((Message("user", question),)) if is_chat else RenderedInput(question)
        text = _ask(stepper, prompt)
        if text:
            return
        n_unanswered += text is not None
    if n_unanswered:
        message = (
            f"The engine has loaded but answers nothing: {n_unanswered} questions got no text. "
            "Its weights are probably damaged. If the model is meant to be so, set "
            "`canary = false`."
        )
        raise EngineStartError(message)


def _ask(stepper: Stepper, prompt: Input) -> str | None:
    """Return the first text of the answer, empty if there is none; None if it does not fit."""
    request = GenerationRequest("canary", "", prompt, _MAX_TOKENS, Sampling(temperature=0.0))
    try:
        stepper.add(_KEY, request)
    except RequestError:  # It has the smallest of contexts: whoever asks more is told so.
        return None
    text = ""
    for _ in range(_MAX_STEPS):
        for _key, output in stepper.step():
            if isinstance(output, LocktenderError):
                message = f"The engine has loaded but fails at its first request: {output.message}"
                raise EngineStartError(message) from output
            text += output.text
        if text or not stepper.has_work():
            break
    stepper.cancel(_KEY)
    if stepper.has_work():
        stepper.step()  # What a cancelled request leaves behind.
    return text
