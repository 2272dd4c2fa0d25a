"""Write a conversation as the prompt that a model was trained on.

That is the business of the tokenizer's chat template, which is asked exactly as `ChatHuggingFace`
asks it; but what looks like a control token in a message, or a tool, is marked as text, for
`chat_ids`.  No text is tokenized here.  A template that knows tools is given them; for one that
does not, `prompting.hermes` writes them.  What a model answers to this is read by `tool_call`;
above both is `pipeline_chat`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from locktender.adopt.chat_ids import refuse_control_tokens
from locktender.core.errors import InvalidRequest
from locktender.core.request import RenderedInput
from locktender.prompting.control_token import control_of
from locktender.prompting.hermes import Apply, Tool, Turn, apply_hermes, hermes_json
from locktender.prompting.marked_text import joined
from locktender.prompting.safe_prompt import render_safely

__all__ = ["call_start", "is_plain", "refuse_forged", "render"]

_PROBE = {
    "type": "function",
    "function": {
        "name": "locktender_probe",
        "description": "It asks nothing.",
        "parameters": {"type": "object", "properties": {}},
    },
}
# What an answer of another model may hold beside its text; none of it is part of a prompt.
_NO_TEXT = {
    "invalid_tool_call",
    "reasoning",
    "thinking",
    "tool_call",
    "tool_call_chunk",
    "tool_use",
}


def render(
    tokenizer: Any,
    messages: Sequence[BaseMessage],
    tools: Sequence[Tool] | None = None,
    *,
    starts_call: bool = False,
) -> RenderedInput:
    """Return the prompt for the model's next turn; where it `starts_call`, with `call_start`.

    `tools` are in OpenAI's form.  What looks like a control token in a message or a tool is text.
    Raises: InvalidRequest for what the template or its model cannot take.
    """
    if not messages:
        raise InvalidRequest("A chat needs at least one message.", "messages")
    is_about_tools = bool(tools) or any(map(_is_about_tools, messages))
    is_native = not is_about_tools or _takes_tools(tokenizer)
    values = {"turns": [_native_turn(each) for each in messages], "tools": [*(tools or ())]}

    def write(apply: Apply, values: Mapping[str, Any]) -> str:
        turns, tools = values["turns"], values["tools"]
        prompt = apply(turns, tools) if is_native else apply_hermes(apply, turns, tools)
        return joined([prompt, call_start(tokenizer, tools)]) if starts_call else prompt

    return render_safely(
        partial(write, partial(_applied, tokenizer)),
        partial(write, partial(_applied_to_marked, tokenizer)),
        values,
        control_of(tokenizer),
    )


def refuse_forged(chat: Any, messages: Sequence[BaseMessage]) -> None:
    """Refuse what a bare `ChatHuggingFace` over a pipeline would obey, and not take as text.

    For where the bare object itself is called.  Raises: InvalidRequest.
    """
    is_local = getattr(getattr(chat, "llm", None), "pipeline", None) is not None
    tokenizer = getattr(chat, "tokenizer", None)
    if is_local and hasattr(tokenizer, "apply_chat_template") and render(tokenizer, messages).cuts:
        refuse_control_tokens()


def is_plain(messages: Sequence[BaseMessage], tools: Sequence[Tool] | None = None) -> bool:
    """Whether `ChatHuggingFace` takes the conversation without us."""
    return (
        not tools
        and bool(messages)
        and isinstance(messages[-1], HumanMessage)
        and not any(map(_is_about_tools, messages))
    )


def call_start(tokenizer: Any, tools: Sequence[Tool]) -> str:
    """Return how a call of one of `tools` begins, as far as it is certain.

    Of a single tool that is the call up to its first argument, so that a small model cannot but
    go on with it.
    """
    before, arguments = '<tool_call>\n{"name": ', "arguments"
    if _takes_tools(tokenizer):
        template = str(tokenizer.chat_template)
        if "[TOOL_CALLS]" in template:
            before = '[TOOL_CALLS] [{"name": '
        elif "<tool_call>" not in template and '"parameters": ' in template:
            before, arguments = '{"name": ', "parameters"
    if len(tools) > 1:
        return f'{before}"'
    function = tools[0]["function"]
    named = [before, hermes_json(function["name"]), f', "{arguments}": ']
    return joined([*named, _first_argument(function)])


def _first_argument(function: Mapping[str, Any]) -> str:
    """Return how the arguments of `function` begin."""
    schema = function.get("parameters") or {}
    properties = schema.get("properties") or {}
    name = next((name for name in schema.get("required") or () if name in properties), None)
    if name is None:
        return "{"
    # A value's first character decides what the model writes; a space before a number would not
    # be one that its tokenizer knows.
    opening = {"string": ' "', "array": " [", "object": " {"}.get(properties[name].get("type"), "")
    return joined(["{", hermes_json(name), ":", opening])


def _applied(tokenizer: Any, turns: Sequence[Turn], tools: Sequence[Tool] | None = None) -> str:
    """Return what the tokenizer itself writes, as the bare object asks it to."""
    options: dict[str, Any] = {"tools": [*tools]} if tools else {}
    try:
        prompt: str = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **options
        )
        return prompt
    except ValueError as error:
        message = "The model's tokenizer has no chat template that can be used."
        raise InvalidRequest(message) from error
    except _template_error() as error:
        message = f"The model's chat template does not take these messages: {error}."
        raise InvalidRequest(message, "messages") from error


def _applied_to_marked(
    tokenizer: Any, turns: Sequence[Turn], tools: Sequence[Tool] | None = None
) -> str:
    """Return the same of strings that are marked."""
    method = getattr(type(tokenizer), "apply_chat_template", None)
    if getattr(method, "__qualname__", "") != "PreTrainedTokenizerBase.apply_chat_template":
        return _applied(tokenizer, turns, tools)  # it renders as only it knows how
    source = tokenizer.get_chat_template(tools=[*tools] if tools else None)
    template = import_module("locktender.prompting.chat_template").compile_template(source)
    values = {
        **tokenizer.special_tokens_map,
        # As newer versions of transformers do, and older ones do not.
        "messages": [{k: each for k, each in turn.items() if each is not None} for turn in turns],
        "tools": [*tools] if tools else None,
        "documents": None,
        "add_generation_prompt": True,
    }
    written: str = template.render(values)
    return written


def _template_error() -> type[Exception]:
    """Return what templates raise; their package is there when one has been rendered."""
    error: type[Exception] = import_module("jinja2").TemplateError
    return error


def _takes_tools(tokenizer: Any) -> bool:
    """Whether the template writes tools down; most just pass over them."""
    try:
        written = _applied(tokenizer, [{"role": "user", "content": "-"}], [_PROBE])
    except InvalidRequest:
        return False
    return "locktender_probe" in written


def _is_about_tools(message: BaseMessage) -> bool:
    return isinstance(message, ToolMessage | FunctionMessage) or bool(_calls(message))


def _calls(message: BaseMessage) -> Sequence[Mapping[str, Any]]:
    return message.tool_calls if isinstance(message, AIMessage) else ()


def _native_turn(message: BaseMessage) -> Turn:
    """Return the turn as templates that know tools expect it."""
    turn: Turn = {"role": _role(message), "content": _text(message)}
    if isinstance(message, ToolMessage | FunctionMessage):
        turn["name"] = message.name
    if isinstance(message, ToolMessage):
        turn["tool_call_id"] = message.tool_call_id
    if calls := _calls(message):
        turn["tool_calls"] = [
            {
                "type": "function",
                "id": call["id"],
                "function": {"name": call["name"], "arguments": call["args"]},
            }
            for call in calls
        ]
    return turn


def _role(message: BaseMessage) -> str:
    match message:
        case SystemMessage():
            return "system"
        case HumanMessage():
            return "user"
        case AIMessage():
            return "assistant"
        case ToolMessage() | FunctionMessage():
            return "tool"
        case ChatMessage():
            return message.role
        case _:
            sentence = f"A chat model takes no message of type {message.type!r}."
            raise InvalidRequest(sentence, "messages")


def _text(message: BaseMessage) -> str:
    content = message.content
    return content if isinstance(content, str) else "".join(_texts(message, content))


def _texts(message: BaseMessage, blocks: Sequence[str | dict[Any, Any]]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, str):
            yield block
        elif block.get("type") in {"text", "text-plain"} and isinstance(block.get("text"), str):
            yield block["text"]
        elif not (isinstance(message, AIMessage) and block.get("type") in _NO_TEXT):
            sentence = f"The model takes text only, and no content of type {block.get('type')!r}."
            raise InvalidRequest(sentence, "messages")
