"""Write tools, calls and results as text, for models whose chat template has no place for them.

The tools are described in the system message, calls stand in ``<tool_call>`` and their results in
``<tool_response>``: the form of the Hermes models, which others take up best.  How turns become a
prompt is an argument; their strings may be marked (`marked_text`), and stay so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from locktender.core.errors import InvalidRequest
from locktender.prompting.marked_json import marked_json
from locktender.prompting.marked_text import joined

__all__ = ["Apply", "Tool", "Turn", "apply_hermes", "hermes_json"]

Turn: TypeAlias = dict[str, Any]
Tool: TypeAlias = Mapping[str, Any]

# Before and behind the signatures of the tools.
_INSTRUCTIONS = (
    """\
You may call functions to answer the user. These are their signatures, one in a line:
<tools>
""",
    """
</tools>
To call a function, answer with its name and its arguments as a JSON object, for each call between \
<tool_call></tool_call> tags:
<tool_call>
{"name": "function_name", "arguments": {"argument_name": "value"}}
</tool_call>
The results then come between <tool_response></tool_response> tags.""",
)


class Apply(Protocol):
    """Writes turns, and tools if there are any, with the model's template."""

    def __call__(self, turns: Sequence[Turn], tools: Sequence[Tool] | None = None, /) -> str: ...


def apply_hermes(apply: Apply, turns: Sequence[Turn], tools: Sequence[Tool]) -> str:
    """Return the prompt of `turns`, whose calls are OpenAI's, with `tools` if there are any."""
    written = list(_hermes_turns(turns))
    if not tools:
        return apply(written)
    before, after = _INSTRUCTIONS
    return _instructed(apply, written, joined([before, _lines(map(hermes_json, tools)), after]))


def _instructed(apply: Apply, turns: Sequence[Turn], instructions: str) -> str:
    first, *others = turns
    if first["role"] == "system":
        told = {**first, "content": joined([first["content"], "\n\n", instructions])}
        return apply([told, *others])
    try:
        return apply([{"role": "system", "content": instructions}, *turns])
    except InvalidRequest:  # Some models have no system messages: their first turn says it all.
        told = {**first, "content": joined([instructions, "\n\n", first["content"]])}
        return apply([told, *others])


def _hermes_turns(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Yield turns in which calls and their results are text; results in a row are one turn."""
    responses: list[str] = []
    for turn in turns:
        if turn["role"] == "tool":
            responses.append(joined(["<tool_response>\n", turn["content"], "\n</tool_response>"]))
            continue
        if responses:
            yield {"role": "user", "content": _lines(responses)}
            responses = []
        written = [_written(call["function"]) for call in turn.get("tool_calls", ())]
        yield {"role": turn["role"], "content": _lines([turn["content"], *written])}
    if responses:
        yield {"role": "user", "content": _lines(responses)}


def _written(function: Mapping[str, Any]) -> str:
    body = hermes_json({"name": function["name"], "arguments": function["arguments"]})
    return joined(["<tool_call>\n", body, "\n</tool_call>"])


def _lines(texts: Iterable[str]) -> str:
    """Join those that are not empty, one in a line."""
    lines = [part for text in texts if text for part in ("\n", text)]
    return joined(lines[1:])


def hermes_json(value: Any) -> str:
    """Write a tool, a call or a part of one."""
    return marked_json(value, ensure_ascii=False, default=str)
