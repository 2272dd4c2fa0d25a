"""Say what a call of a `ChatHuggingFace` over a pipeline asks for, and make messages of its answer.

What the plain object can do keeps its result: for a conversation that ends with the user and has no
tools, the content is what the pipeline returns, with the prompt before it where the pipeline says
so.  The rest is ours: tools, their results, stop strings and options, usage and finish reasons.
A tool that must be called is called: the prompt ends with the beginning of the call.
`chat_prompt` writes the prompt, `tool_call` reads the answer, `pipeline_llm` merges the options.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    InvalidToolCall,
    ToolCall,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool

from locktender.adopt.chat_prompt import call_start, is_plain, render
from locktender.adopt.pipeline_llm import stream_head, text_settings, token_usage
from locktender.adopt.text_pipeline import Completion, TextSettings, TextTask
from locktender.adopt.tool_call import CallFilter, Parsed, parse
from locktender.core.errors import InvalidRequest

__all__ = ["ChatCall", "ChunkMaker", "chat_call", "chat_result"]

# Fields of the chat object that are options of a call.
_FIELDS = ("max_tokens", "seed", "stop", "temperature", "top_p")
# What other chat models can do, by the values that ask for nothing.
_REFUSED: Mapping[str, Sequence[Any]] = {
    "frequency_penalty": (None, 0),
    "function_call": (None, "auto", "none"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "n": (None, 1),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "top_logprobs": (None, 0),
}


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A call of the chat object: the task that it is, and how the task's answer is to be read."""

    task: TextTask
    keeps_text: bool  # the content is the pipeline's text, whatever that begins with
    reads_calls: bool
    start: str = ""  # of the answer, as it stands at the end of the prompt
    max_calls: int | None = None
    head: str = ""  # what a stream begins with
    tells_usage: bool = True  # in a stream


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which of the tools may be called, and which must be."""

    tools: Sequence[Mapping[str, Any]] = ()
    must_call: bool = False


def chat_call(
    chat: Any,
    messages: Sequence[BaseMessage],
    stop: Sequence[str] | str | None,
    kwargs: Mapping[str, Any],
    *,
    wants_pieces: bool,
) -> ChatCall:
    """Return what `messages` ask for.  Raises: InvalidRequest."""
    _refuse_unsupported(chat, kwargs)
    choice = _choice(kwargs)
    prompt = render(chat.tokenizer, messages, choice.tools, starts_call=choice.must_call)
    start = call_start(chat.tokenizer, choice.tools) if choice.must_call else ""
    settings = _settings(chat, stop, kwargs, start)
    keeps_text = is_plain(messages, kwargs.get("tools"))
    return ChatCall(
        task=TextTask(prompt.text, settings, wants_pieces=wants_pieces, chat=prompt),
        keeps_text=keeps_text,
        reads_calls=bool(choice.tools),
        start=start,
        max_calls=1 if kwargs.get("parallel_tool_calls") is False else None,
        head=stream_head(chat.llm, prompt.text, kwargs) if keeps_text else "",
        tells_usage=kwargs.get("stream_usage", chat.stream_usage) is not False,
    )


def chat_result(chat: Any, call: ChatCall, completion: Completion) -> ChatResult:
    """Return the whole answer."""
    if call.keeps_text:
        parsed = Parsed(completion.text)
    elif call.reads_calls:
        parsed = _limited(call, parse(call.start + completion.new_text))
    else:
        parsed = Parsed(completion.new_text)
    message = AIMessage(
        content=parsed.content,
        tool_calls=[*parsed.tool_calls],
        invalid_tool_calls=[*parsed.invalid_tool_calls],
        usage_metadata=_usage(completion),
    )
    generation = ChatGeneration(message=message, generation_info=_facts(chat, parsed, completion))
    output = {"token_usage": token_usage(completion), "model_name": chat.model_id}
    return ChatResult(generations=[generation], llm_output=output)


class ChunkMaker:
    """The chunks of one stream: `piece` for each piece of text, then `last`."""

    def __init__(self, chat: Any, call: ChatCall) -> None:
        self._chat = chat
        self._call = call
        self._head = call.head
        self._filter = CallFilter() if call.reads_calls else None
        if self._filter:
            self._filter.feed(call.start)

    def piece(self, text: str) -> ChatGenerationChunk | None:
        """Return the chunk that has become certain with `text`, if there is one."""
        given = self._head + (self._filter.feed(text) if self._filter else text)
        self._head = ""
        return _chunk(given) if given else None

    def last(self, completion: Completion) -> list[ChatGenerationChunk]:
        """Return what was held back, and the end with all that is known then."""
        parsed = _limited(self._call, self._filter.end()) if self._filter else Parsed("")
        held = _chunk(parsed.content) if parsed.content else None
        end = AIMessageChunk(
            content="",
            tool_call_chunks=_call_chunks(parsed),
            usage_metadata=_usage(completion) if self._call.tells_usage else None,
            chunk_position="last",
        )
        facts = _facts(self._chat, parsed, completion)
        last = ChatGenerationChunk(message=end, generation_info=facts)
        return [last] if held is None else [held, last]


def _chunk(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


def _refuse_unsupported(chat: Any, kwargs: Mapping[str, Any]) -> None:
    for name, harmless in _REFUSED.items():
        if kwargs.get(name, getattr(chat, name, None)) not in harmless:
            raise InvalidRequest(f"A pipeline's chat model does not support {name!r}.", name)


def _settings(
    chat: Any, stop: Sequence[str] | str | None, kwargs: Mapping[str, Any], start: str
) -> TextSettings:
    fields = {name: getattr(chat, name, None) for name in _FIELDS}
    # Unless they were given, they are what the model was loaded with.
    if chat.model_kwargs and chat.model_kwargs != chat.llm.model_kwargs:
        fields = {**chat.model_kwargs, **{n: v for n, v in fields.items() if v is not None}}
    settings = text_settings(chat.llm, stop, kwargs, fields)
    if not start.startswith("<tool_call>"):
        return settings
    return TextSettings(settings.parameters, (*settings.stop, "</tool_call>"), settings.seed)


def _choice(kwargs: Mapping[str, Any]) -> _Choice:
    """Read `tools` and `tool_choice`.  Raises: InvalidRequest."""
    tools = [convert_to_openai_tool(tool) for tool in kwargs.get("tools") or ()]
    wanted = kwargs.get("tool_choice")
    if wanted in (None, False, "auto"):
        return _Choice(tools)
    if wanted == "none":
        return _Choice()
    names = [tool["function"]["name"] for tool in tools]
    name = _wanted_name(wanted)
    if name in names:
        return _Choice([tools[names.index(name)]], must_call=True)
    # `bind_tools` writes "any" as if it were the name of a function.
    if tools and (wanted is True or name in {"any", "required"}):
        return _Choice(tools, must_call=True)
    message = "tool_choice must be 'auto', 'none', 'required', 'any' or the name of a bound tool."
    raise InvalidRequest(message, "tool_choice")


def _wanted_name(wanted: Any) -> str | None:
    if isinstance(wanted, Mapping):
        function = wanted.get("function")
        wanted = function.get("name") if isinstance(function, Mapping) else None
    return wanted if isinstance(wanted, str) else None


def _limited(call: ChatCall, parsed: Parsed) -> Parsed:
    """Leave out what was not asked for: further calls, or talk beside one that was forced."""
    return Parsed(
        "" if call.start else parsed.content,
        parsed.tool_calls[: call.max_calls],
        parsed.invalid_tool_calls,
    )


def _call_chunks(parsed: Parsed) -> list[ToolCallChunk]:
    calls: list[ToolCall | InvalidToolCall] = [*parsed.tool_calls, *parsed.invalid_tool_calls]
    return [
        # An invalid call's text is a JSON string here, so that LangChain, which completes JSON that
        # breaks off, makes no call of it.
        tool_call_chunk(
            name=call["name"],
            args=json.dumps(call["args"], ensure_ascii=False),
            id=call["id"],
            index=index,
        )
        for index, call in enumerate(calls)
    ]


def _usage(completion: Completion) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=completion.prompt_tokens,
        output_tokens=completion.n_tokens,
        total_tokens=completion.prompt_tokens + completion.n_tokens,
    )


def _facts(chat: Any, parsed: Parsed, completion: Completion) -> dict[str, Any]:
    """Return what becomes the message's `response_metadata`."""
    reason = "tool_calls" if parsed.tool_calls else completion.finish_reason
    return {"finish_reason": reason, "model_name": chat.model_id}
