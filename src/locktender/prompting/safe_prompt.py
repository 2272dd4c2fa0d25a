"""Render a chat so that what callers wrote in it is text, whatever it looks like.

The chat is rendered twice: plainly, which is what the tokenizer itself would do, and with every
string of a caller marked.  From the second it is known which control tokens the template wrote.
Where all of them are its own, the plain text is the prompt; else the marked one, with its cuts.

How a template is run is an argument.  Engines, and the guard of a chain's own model, encode the
result with `token_ids`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from locktender.core.errors import InvalidRequest
from locktender.core.request import RenderedInput
from locktender.prompting.control_token import ControlTokens
from locktender.prompting.marked_text import Slips

__all__ = ["Write", "render_safely"]

# Writes the prompt of values in which strings are plain or marked.
Write: TypeAlias = Callable[[Any], str]


def render_safely(
    write: Write, write_marked: Write, values: Any, control: ControlTokens
) -> RenderedInput:
    """Return the prompt that `write` makes of `values`, all of whose strings are callers'.

    `write_marked` does the same to marked strings.  Raises: InvalidRequest, as these do.
    """
    plain = write(values)
    try:
        prompt = control.rendered(*_marked(write_marked, values))
    except InvalidRequest:
        if _may_forge(values, control):
            raise
        return control.rendered(plain)
    if prompt.text == plain or prompt.cuts or _may_forge(values, control):
        return prompt
    # The template does to marked strings what it does not do to others.
    whole = control.rendered(plain)
    if len(whole.controls) > len(prompt.controls):
        return prompt  # It made control tokens of strings that have none: they are a caller's.
    return whole


def _marked(write: Write, values: Any) -> tuple[str, bytes]:
    slips = Slips()
    try:
        return slips.restored(write(slips.marked(values)))
    finally:
        slips.forget()


def _may_forge(values: Any, control: ControlTokens) -> bool:
    return any(map(control.are_in, _strings(values)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in (*value.keys(), *value.values()):
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
