"""A chat is rendered before the gate, on the event loop only if it is short."""

import threading

import pytest

from harness.tiny_tokenizer import CHATML
from locktender.core.errors import InvalidRequest
from locktender.core.request import (
    ChatInput,
    GenerationRequest,
    Input,
    Message,
    RenderedInput,
    TextInput,
)
from locktender.model.rendering import rendered
from locktender.prompting.chat_format import ChatFormat
from locktender.prompting.chat_template import ChatTemplate
from locktender.prompting.control_token import AddedToken, ControlTokens


class Watched(ChatFormat):
    """A format that notes in which thread it is used."""

    def __init__(self) -> None:
        control = ControlTokens([AddedToken("<|im_end|>", 2, is_special=True)])
        super().__init__(ChatTemplate(CHATML), control)
        self.threads: list[threading.Thread] = []

    def render(self, *arguments: object) -> RenderedInput:
        self.threads.append(threading.current_thread())
        return super().render(*arguments)  # type: ignore[arg-type]  # whatever it is given


def request_for(prompt: Input) -> GenerationRequest:
    return GenerationRequest("1", "m", prompt, 8, stop=("x",))


@pytest.mark.parametrize(
    ("messages", "is_here"),
    [
        ([Message("user", "hi")] * 20, True),
        ([Message("user", "hi")] * 21, False),
        ([Message("user", "x" * 40_001)], False),
    ],
)
async def test_a_long_chat_is_rendered_beside_the_loop(
    messages: list[Message], *, is_here: bool
) -> None:
    watched = Watched()
    request = await rendered(request_for(ChatInput(tuple(messages))), watched)
    assert isinstance(request.input, RenderedInput)
    assert request.input.text.count("user\n") == len(messages)
    assert request.stop == ("x",)
    assert [each is threading.current_thread() for each in watched.threads] == [is_here]


@pytest.mark.parametrize("has_format", [True, False])
async def test_what_is_no_chat_or_has_no_format_stays_as_it_is(*, has_format: bool) -> None:
    prompt = TextInput("<|im_end|>") if has_format else ChatInput((Message("user", "hi"),))
    request = request_for(prompt)
    assert await rendered(request, Watched() if has_format else None) is request


async def test_a_template_that_tells_speakers_apart_is_told_their_names() -> None:
    source = "{% for m in messages %}{{ m.name | default(m.role) }}: {{ m.content }}\n{% endfor %}"
    names = ChatFormat(
        ChatTemplate(source), ControlTokens([AddedToken("<end>", 2, is_special=True)])
    )
    chat = ChatInput((Message("user", "hi", "ann<end>"), Message("user", "ho")))
    prompt = (await rendered(request_for(chat), names)).input
    assert isinstance(prompt, RenderedInput)
    assert prompt.text == "ann<end>: hi\nuser: ho\n"
    assert prompt.cuts  # a name is a caller's text


async def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        await rendered(request_for(ChatInput((Message("user", "a\udfff"),))), Watched())
