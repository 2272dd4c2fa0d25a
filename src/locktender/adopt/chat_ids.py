"""Put the token ids of a chat in which callers' texts are text in the place of a pipeline's own.

A pipeline encodes a prompt as it stands, so that the text of a control token is one, whoever wrote
it.  Only where a message has brought one is anything changed: an honest prompt has the very ids,
with whatever a pipeline's settings put around them, that the bare pipeline gives it.
"""

from collections.abc import MutableMapping
from typing import Any, NoReturn

from locktender.core.errors import InvalidRequest
from locktender.core.request import RenderedInput
from locktender.prompting.control_token import control_of
from locktender.prompting.token_ids import encode_rendered

__all__ = ["put_chat_ids", "refuse_control_tokens"]


def put_chat_ids(tokenizer: Any, prompt: RenderedInput, inputs: MutableMapping[str, Any]) -> None:
    """Change `inputs`, which a pipeline made of the text of `prompt`, where it has to be changed.

    Raises: InvalidRequest for a token that cannot be written as text.
    """

    def encode(texts: list[str]) -> list[list[int]]:
        return list(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])

    (plain,) = encode([prompt.text])
    ids = encode_rendered(
        prompt,
        lambda texts: [plain] if texts == [prompt.text] else encode(texts),
        control_of(tokenizer),
    )
    if ids == plain:
        return
    whole = inputs["input_ids"][0].tolist()
    n_around = len(whole) - len(plain)
    starts = range(n_around + 1)
    start = next((at for at in starts if whole[at : at + len(plain)] == plain), None)
    if start is None:  # cut off, or behind a prefix that melts into it
        refuse_control_tokens()
    changed = [*whole[:start], *ids, *whole[start + len(plain) :]]
    shape = inputs["input_ids"].shape
    for name, value in list(inputs.items()):
        if name == "input_ids":
            inputs[name] = value.new_tensor([changed])
        elif getattr(value, "shape", None) == shape:
            filled = value.new_ones if name == "attention_mask" else value.new_zeros
            inputs[name] = filled((1, len(changed)))


def refuse_control_tokens() -> NoReturn:
    """Raise InvalidRequest: the pipeline would obey what a message only quotes."""
    raise InvalidRequest(
        "A message holds a control token of the model, which this pipeline cannot take as text.",
        "messages",
    )
