"""Write a chat as the prompt of one model: its template, its control tokens, and their names.

What a model's file or folder says of these is read by `model.chat_source`.  Below it,
`chat_template` renders, and `safe_prompt` sees to it that what callers wrote is text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from locktender.core.errors import TemplateRefusal
from locktender.core.request import RenderedInput
from locktender.prompting.chat_template import ChatTemplate
from locktender.prompting.control_token import ControlTokens
from locktender.prompting.safe_prompt import render_safely

__all__ = ["ChatFormat"]


class ChatFormat:
    """How one model's chats are written."""

    def __init__(
        self,
        template: ChatTemplate | None,
        control: ControlTokens,
        named_tokens: Mapping[str, str] | None = None,
    ) -> None:
        """`named_tokens` are those that templates know by a name, `bos_token` and the like."""
        self._template = template
        self._control = control
        self._named_tokens = named_tokens or {}

    def unframed(self, text: str) -> RenderedInput:
        """Return `text` as a prompt, with nothing before or behind it; its author's own."""
        return self._control.rendered(text)

    def render(self, messages: Sequence[Mapping[str, Any]]) -> RenderedInput:
        """Return the prompt for the model's next turn.

        Raises: TemplateRefusal with the template's own reason, InvalidRequest.
        """
        template = self._template
        if template is None:
            raise TemplateRefusal(
                "The model has no chat template, so it takes no chats: serve its instruct variant, "
                "or put a `chat_template.jinja` into its folder.",
                "messages",
            )
        fixed = {**self._named_tokens, "tools": None, "documents": None}

        def write(chat: Any) -> str:
            return template.render({**fixed, "messages": chat, "add_generation_prompt": True})

        return render_safely(write, write, [dict(each) for each in messages], self._control)
