"""Say which shape the input of a runnable has, by what its author declared in it.

Declared are types (`with_types`, annotations, the types of models, tools, graphs and classes of
somebody's own) and the variables of prompts.  Everything else LangChain infers from structure:
of a map it takes the first step's type for that of all, asks for a key `root` where a step takes
anything, and of a branch knows one way only.  Here a structure takes what its parts take.
Above it, `input` reads by the shape; what is shown of it is `input_description`'s.
"""

import dis
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, TypeAlias, cast

from langchain_core.messages import AnyMessage
from langchain_core.prompts import BasePromptTemplate, PromptTemplate
from langchain_core.runnables import (
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnablePick,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.config import merge_configs
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.runnables.passthrough import RunnableAssign
from pydantic import BaseModel, RootModel, TypeAdapter

from locktender.app.input_shape import (
    ANYTHING,
    RefusedInput,
    Shape,
    all_of,
    any_of,
    dicts,
    each_of,
    first_of,
    keys,
    typed,
    with_anything,
)
from locktender.app.readable_schema import readable_input_schema

__all__ = ["shape_of"]

_Any = Runnable[Any, Any]
_Keys: TypeAlias = frozenset[str]
_Builder: TypeAlias = Callable[[Any, RunnableConfig, _Keys], Shape]
_MESSAGE: TypeAdapter[Any] = TypeAdapter(AnyMessage)
_MESSAGES: TypeAdapter[Any] = TypeAdapter(list[AnyMessage])
# Jumps that only wait: what comes after an `await` is reached whatever was awaited.
_WAITING = frozenset({"SEND", "JUMP_BACKWARD_NO_INTERRUPT"})
_JUMPS = frozenset(dis.opname[code] for code in {*dis.hasjrel, *dis.hasjabs}) - _WAITING
_TURNS = _JUMPS | {"PUSH_EXC_INFO"}  # an `except` that takes whatever comes has no jump
_SUBSCRIPTS = {("BINARY_SUBSCR", ""), ("BINARY_OP", "[]")}  # before Python 3.14, and since


def shape_of(runnable: _Any, config: RunnableConfig, given: _Keys = frozenset()) -> Shape:
    """Return what `runnable` takes under `config`, of which the keys that are `given` come later.

    Raises: what LangChain does for a config that breaks the runnable.
    """
    for kind in type(runnable).__mro__:
        if kind in _BUILDERS:
            return _BUILDERS[kind](runnable, config, given)
        if "get_input_schema" in vars(kind) or "InputType" in vars(kind):
            break  # it speaks for itself
    return _declared(runnable, config, given)


def _declared(runnable: _Any, config: RunnableConfig, given: _Keys) -> Shape:
    schema = readable_input_schema(runnable, config)
    if not given:
        return typed(schema)
    return ANYTHING if issubclass(schema, RootModel) else keys(schema, given=given)


def _prompt(prompt: Any, config: RunnableConfig, given: _Keys) -> Shape:
    schema, variables = prompt.get_input_schema(config), prompt.input_variables
    schema = with_anything(schema, _variables_of_any_type(prompt))
    bare = variables[0] if len(variables) == 1 else None
    return keys(schema, given=given, filled=prompt.partial_variables, bare=bare)


def _variables_of_any_type(part: Any) -> _Keys:
    """Return the variables in the sections and loops of a prompt: LangChain says they are texts."""
    if isinstance(part, list | tuple):
        return frozenset().union(*map(_variables_of_any_type, part))
    if not isinstance(part, BaseModel):
        return frozenset()
    fields: Any = vars(part)
    if fields.get("template_format", "f-string") != "f-string":
        return frozenset(cast("Any", part).input_variables)
    return _variables_of_any_type([fields.get("messages"), fields.get("prompt")])


def _text_prompt(prompt: Any, config: RunnableConfig, given: _Keys) -> Shape:
    if prompt.template_format != "mustache":
        return _prompt(prompt, config, given)
    # Its schema knows a section for one thing only, and gives what is left out a value.
    return first_of([_declared(prompt, config, given), dicts()])


def _binding(binding: Any, config: RunnableConfig, given: _Keys) -> Shape:
    if binding.custom_input_type is not None:
        return _declared(binding, config, given)
    return shape_of(binding.bound, merge_configs(binding.config, config), given)


def _dynamic(runnable: Any, config: RunnableConfig, given: _Keys) -> Shape:
    chosen, merged = runnable.prepare(config)
    return shape_of(chosen, merged, given)


def _sequence(sequence: Any, config: RunnableConfig, given: _Keys) -> Shape:
    return _steps(sequence.steps, config, given)


def _steps(steps: Sequence[Any], config: RunnableConfig, given: _Keys) -> Shape:
    first, rest = steps[0], steps[1:]
    assign = _within_bindings(first)
    if isinstance(assign, RunnableAssign) and rest:
        later = given | assign.mapper.steps__.keys()
        return all_of([shape_of(first, config, given), _steps(rest, config, later)])
    if isinstance(first, RunnablePick) and rest and not given:
        return _picked(first, _steps(rest, config, given))
    return shape_of(first, config, given)


def _within_bindings(runnable: _Any) -> _Any:
    while isinstance(runnable, RunnableBindingBase) and runnable.custom_input_type is None:
        runnable = runnable.bound
    return runnable


def _picked(pick: RunnablePick, rest: Shape) -> Shape:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise RefusedInput("It is no dict.")
        if isinstance(pick.keys, str):
            return (
                {**value, pick.keys: rest.take(value[pick.keys])} if pick.keys in value else value
            )
        return {**value, **rest.take({key: value[key] for key in pick.keys if key in value})}

    return Shape(read, rest.names)


def _map(runnable: Any, config: RunnableConfig, given: _Keys) -> Shape:
    return all_of([shape_of(step, config, given) for step in runnable.steps__.values()])


def _assign(assign: Any, config: RunnableConfig, given: _Keys) -> Shape:
    return all_of([dicts(), shape_of(assign.mapper, config, given)])


def _pick(_pick: Any, _config: RunnableConfig, _given: _Keys) -> Shape:
    return dicts()


def _branch(branch: Any, config: RunnableConfig, given: _Keys) -> Shape:
    ways = [branch.default, *(way for _, way in branch.branches)]
    taken = any_of([shape_of(way, config, given) for way in ways])
    always_asked = shape_of(branch.branches[0][0], config, given)
    return all_of([taken, always_asked])


def _fallbacks(runnable: Any, config: RunnableConfig, given: _Keys) -> Shape:
    return first_of([shape_of(each, config, given) for each in runnable.runnables])


def _router(router: Any, config: RunnableConfig, given: _Keys) -> Shape:
    whole = _declared(router, config, given)
    ways = {key: shape_of(way, config) for key, way in router.runnables.items()}

    def read(value: Any) -> Any:
        taken = whole.read(value)
        way = ways.get(taken["key"], ANYTHING)
        return {**value, "input": first_of([way, ANYTHING]).take(value["input"])}

    return Shape(read, whole.names)


def _each(each: Any, config: RunnableConfig, given: _Keys) -> Shape:
    item = shape_of(each.bound, config)
    if not item.is_declared or issubclass(each.bound.get_input_schema(config), RootModel):
        return each_of(item)
    return _declared(each, config, given)  # within a list a model stays one, as in LangServe


def _history(history: Any, config: RunnableConfig, given: _Keys) -> Shape:
    """Messages are read by what the history asks for, and the rest by what is told it."""
    key = history.input_messages_key
    own = {key, history.history_messages_key} - {None}
    rest = [shape_of(each, config, given | own) for each in _told_of(history)]
    within = first_of([*rest, ANYTHING])

    def read(value: Any) -> Any:
        if key is None and not _is_told_by_key(value):
            return _messages(value)
        at = key or (next(iter(value)) if len(value) == 1 else "input")
        if not (isinstance(value, dict) and at in value):
            raise RefusedInput(f"It has no {at!r}.")
        return {**within.read(value), at: _messages(value[at])}

    filled = frozenset().union(*(each.filled for each in rest)) - own
    return Shape(read, frozenset(own), filled)


def _messages(value: Any) -> Any:
    if isinstance(value, str):
        return value
    kind = _MESSAGES if isinstance(value, list | tuple) else _MESSAGE
    return kind.validate_python(value)


def _is_told_by_key(value: Any) -> bool:
    """Whether LangChain finds the messages in a dict by its only key, or by `input`."""
    return isinstance(value, dict) and (len(value) == 1 or "input" in value)


def _told_of(history: RunnableWithMessageHistory) -> list[_Any]:
    """Return the runnable whose history it is: LangChain keeps it in the last step's function."""
    last: Any = history.bound
    while isinstance(last, RunnableBindingBase | RunnableSequence):
        last = last.last if isinstance(last, RunnableSequence) else last.bound
    return last.deps if isinstance(last, RunnableLambda) else []


def _passthrough(runnable: Any, config: RunnableConfig, given: _Keys) -> Shape:
    return ANYTHING if runnable.input_type is None else _declared(runnable, config, given)


def _generator(runnable: Any, config: RunnableConfig, given: _Keys) -> Shape:
    return ANYTHING if runnable.InputType is Any else _declared(runnable, config, given)


def _function(runnable: Any, config: RunnableConfig, given: _Keys) -> Shape:
    if runnable.InputType is not Any:
        return _declared(runnable, config, given)
    schema = runnable.get_input_schema(config)
    if issubclass(schema, RootModel):  # its source names no keys
        return ANYTHING
    shape = keys(schema, given=given)
    functions = [vars(runnable)[name] for name in ("func", "afunc") if vars(runnable).get(name)]
    if all(_asks_always(each, shape.names) for each in functions):
        return shape
    return Shape(first_of([shape, ANYTHING]).read, shape.names)


def _asks_always(function: Any, names: _Keys) -> bool:
    """Whether `function` cannot end well without the keys `names`, which LangChain found there.

    LangChain looks at all that stands in the same lines, another lambda for one, takes `get` for a
    demand, and does not ask whether a key is read on every way through the function.
    """
    if isinstance(function, itemgetter):
        return True
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    instructions = list(dis.get_instructions(code))
    read = {
        constant.argval
        for constant, use in pairwise(instructions)
        if constant.opname == "LOAD_CONST" and (use.opname, use.argrepr) in _SUBSCRIPTS
    }
    return names <= read and not any(each.opname in _TURNS for each in instructions)


_BUILDERS: Mapping[type, _Builder] = {
    BasePromptTemplate: _prompt,
    PromptTemplate: _text_prompt,
    RouterRunnable: _router,
    RunnableAssign: _assign,
    DynamicRunnable: _dynamic,
    RunnableBindingBase: _binding,
    RunnableBranch: _branch,
    RunnableEachBase: _each,
    RunnableGenerator: _generator,
    RunnableLambda: _function,
    RunnableParallel: _map,
    RunnablePassthrough: _passthrough,
    RunnablePick: _pick,
    RunnableSequence: _sequence,
    RunnableWithFallbacks: _fallbacks,
    RunnableWithMessageHistory: _history,
}
