"""Read and write one request's values: as LangServe has them, or with our extensions.

A client that sends the header `X-Locktender-Extensions: 1` is answered with the same header, and
input, keyword arguments and output are in the form of `wire.extension`.  Everybody else gets
LangServe's wire, in which keyword arguments are ignored.  Decides what such a client may ask of a
run: the keyword arguments that the route's author admits, and of a graph's `Command` the fields
that he does.  What is not admitted is refused with a sentence that says how to admit it.
Above it, `endpoint` runs what is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from pydantic import ValidationError
from starlette.requests import Request

from locktender.app.extension import GRAPH_KINDS, LANGCHAIN_KINDS, kind_of
from locktender.app.graph import arguments_of, first_graph
from locktender.app.graph_state import removals_back, with_removals
from locktender.app.input import InputReader
from locktender.app.keyword_argument import is_taken_by
from locktender.app.output import OutputWriter
from locktender.app.serialization import Serializer
from locktender.wire.extension import EXTENSIONS, EXTENSIONS_VERSION, TAG, Codec
from locktender.wire.langserve import Unprocessable, error_details

__all__ = ["Dialect", "Dialects", "Rights"]

# What only shapes a caller's own run.  An author who admits more answers for it.
_OF_ALL = ("stop",)
_OF_GRAPHS = ("context", "durability", "interrupt_after", "interrupt_before")
# By these an answer shows what a graph does within, which without them only its streams do.
_TELLING = ("output_keys", "stream_mode", "subgraphs")
_HEADER = (EXTENSIONS.lower().encode("ascii"), EXTENSIONS_VERSION.encode("ascii"))
_COMMAND = "Command"
_COMMAND_KEYS = frozenset({"graph", "update", "resume", "goto"})
# They would be taken for what the request says elsewhere.
_TAKEN = {"callbacks", "config", "input", "inputs", "return_exceptions", "self", "version"}


@dataclass(frozen=True, slots=True)
class Rights:
    """What a client with extensions may ask of a run, besides its input and config.

    Raises: ValueError for a name that no route can admit.
    """

    kwarg_keys: Sequence[str] | None = None  # None: those that harm nobody
    shows_steps: bool = True  # by other endpoints, so that these names may too
    command_keys: Sequence[str] = ("resume",)  # with it, an input of None, which goes on too

    def __post_init__(self) -> None:
        keys = self.kwarg_keys or ()
        _check_names("kwarg_keys", keys, set(keys) & _TAKEN)
        _check_names("command_keys", self.command_keys, set(self.command_keys) - _COMMAND_KEYS)

    def admitted(self, *, is_graph: bool) -> Sequence[str]:
        """Return the keyword arguments that a caller of a graph, or of something else, may give."""
        if self.kwarg_keys is not None:
            return self.kwarg_keys
        more = (*_OF_GRAPHS, *(_TELLING if self.shows_steps else ())) if is_graph else ()
        return (*_OF_ALL, *more)


class Dialect:
    """LangServe's own."""

    headers: Mapping[str, str] = {}  # of an answer in it

    def __init__(
        self, runnable: Runnable[Any, Any], inputs: InputReader, outputs: OutputWriter
    ) -> None:
        self._runnable = runnable
        self._inputs = inputs
        self.write: Callable[[Any], bytes] = outputs.write  # an output of an invoke or a batch
        self.chunk: Callable[[Any], bytes] = outputs.chunk  # what is sent of a stream

    def read(self, value: Any, config: RunnableConfig, *at: str | int) -> Any:
        """Return the input that `value` stands for; `at` is its place.  Raises: Unprocessable."""
        return self._inputs.read(value, config, *at)

    def bound(self, _kwargs: Any) -> Runnable[Any, Any]:
        """Return what is to run; keyword arguments are ignored, whatever they are."""
        return self._runnable

    def call(
        self, value: Any, kwargs: Any, config: RunnableConfig
    ) -> tuple[Any, Runnable[Any, Any]]:
        """Return the input of a run, and what is to run.  Raises: Unprocessable."""
        return self.read(value, config), self.bound(kwargs)

    def calls(
        self, values: Sequence[Any], kwargs: Any, configs: Sequence[RunnableConfig]
    ) -> tuple[list[Any], Runnable[Any, Any]]:
        """Return the inputs of a batch, and what is to run.  Raises: Unprocessable."""
        read = [
            self.read(value, config, "inputs", n)
            for n, (value, config) in enumerate(zip(values, configs, strict=True))
        ]
        return read, self.bound(kwargs)


class Dialects:
    """The two dialects of one route."""

    def __init__(
        self,
        runnable: Runnable[Any, Any],
        inputs: InputReader,
        outputs: OutputWriter,
        serializer: Serializer,
        rights: Rights,
        *,
        has_extensions: bool = True,
    ) -> None:
        self._plain = Dialect(runnable, inputs, outputs)
        self._extended = _Extended(runnable, inputs, outputs, serializer, rights)
        self._has_extensions = has_extensions

    def of(self, request: Request) -> Dialect:
        """Return the one that `request` asks for."""
        is_extended = self._has_extensions and _HEADER in request.scope["headers"]
        return self._extended if is_extended else self._plain

    def described(self) -> bytes:
        """Return, as JSON, what the extended one admits."""
        return orjson.dumps(
            {
                "version": int(EXTENSIONS_VERSION),
                "kwarg_keys": list(self._extended.kwarg_keys),
                "command_keys": list(self._extended.command_keys),
            }
        )


class _Extended(Dialect):
    """LangServe's with our extensions."""

    headers: Mapping[str, str] = {EXTENSIONS: EXTENSIONS_VERSION}

    def __init__(
        self,
        runnable: Runnable[Any, Any],
        inputs: InputReader,
        outputs: OutputWriter,
        serializer: Serializer,
        rights: Rights,
    ) -> None:
        super().__init__(runnable, inputs, outputs)
        self._graph = first_graph(runnable)
        self._untaken = [name for name in _OF_ALL if not is_taken_by(runnable, name)]
        admitted = rights.admitted(is_graph=self._graph is not None)
        is_chosen = rights.kwarg_keys is not None  # by an author, who may know more
        self.kwarg_keys = [name for name in admitted if is_chosen or name not in self._untaken]
        self.command_keys = rights.command_keys
        # What a caller's own classes are written as is for the input's schema to read.
        codec = Codec(
            writing=kind_of,
            reading=LANGCHAIN_KINDS,
            plain=serializer.dumpd,
            revive=lambda tree: tree,
        )
        self._load = codec.load
        self.write = self.chunk = codec.dumps

    def read(self, value: Any, config: RunnableConfig, *at: str | int) -> Any:
        if self._graph is None:
            return self._inputs.read(self._loaded(value, *at), config, *at)
        if value is None and "resume" in self.command_keys:
            return None
        if isinstance(value, dict) and value.get(TAG) == _COMMAND:
            return self._command(value.get("value"), *at)
        # The union of all messages has no place for a removal, and a graph takes it.
        shown, removals = with_removals(self._loaded(value, *at))
        return removals_back(self._inputs.read(shown, config, *at), removals)

    def bound(self, kwargs: Any) -> Runnable[Any, Any]:
        """Return the runnable with the caller's keyword arguments.  Raises: Unprocessable."""
        if not kwargs:
            return self._runnable
        arguments = self._loaded(kwargs, "kwargs")
        if not isinstance(arguments, dict):
            raise _unprocessable(kwargs, "Input should be a valid dictionary", "kwargs")
        for name in arguments:
            if name in self._untaken:
                message = f"Nothing in this runnable takes the keyword argument `{name}`"
                raise _unprocessable(arguments[name], message, "kwargs", name)
        _check_admitted("kwarg_keys", "keyword argument", arguments, self.kwarg_keys)
        try:
            arguments = arguments_of(self._runnable, arguments)
        except ValidationError as error:
            raise Unprocessable(error_details(error, "kwargs")) from error
        return RunnableBinding(bound=self._runnable, kwargs=arguments)

    def _command(self, fields: Any, *at: str | int) -> Any:
        if not isinstance(fields, dict):
            raise _unprocessable(fields, "A Command has fields", *at)
        _check_admitted("command_keys", "field of a Command", fields, self.command_keys)
        goto = fields.get("goto", ())
        read = {key: self._loaded(value, *at) for key, value in fields.items() if key != "goto"}
        try:
            return GRAPH_KINDS[_COMMAND].read({**read, "goto": self._places(goto, *at)})
        except (TypeError, ValueError) as error:
            raise _unprocessable(fields, "Input should be a Command", *at) from error

    def _places(self, value: Any, *at: str | int) -> Any:
        """Return where a Command goes: the only place where a `Send` may stand."""
        if isinstance(value, list):
            return [self._places(item, *at) for item in value]
        if isinstance(value, dict) and value.get(TAG) == "Send":
            return GRAPH_KINDS["Send"].read(self._loaded(value.get("value"), *at))
        return self._loaded(value, *at)

    def _loaded(self, tree: Any, *at: str | int) -> Any:
        try:
            return self._load(tree)
        except ValueError as error:
            raise _unprocessable(tree, str(error), *at) from error


def _check_names(parameter: str, names: Sequence[str], wrong: set[str]) -> None:
    if isinstance(names, str):
        raise ValueError(f"`{parameter}` must be a list of names, not one string.")  # noqa: TRY004 - as of the other lists
    if wrong:
        raise ValueError(f"`{parameter}` cannot have {', '.join(sorted(wrong))} in it.")


def _check_admitted(
    parameter: str, what: str, given: Mapping[Any, Any], admitted: Sequence[str]
) -> None:
    for name in given:
        if name not in admitted:
            message = (
                f"The {what} `{name}` has been disallowed by the server. This can be modified "
                f"server side by adding `{name}` to the list of `{parameter}` argument in "
                "`add_routes`"
            )
            raise Unprocessable(message)


def _unprocessable(value: Any, sentence: str, *at: str | int) -> Unprocessable:
    return Unprocessable(
        [{"type": "value_error", "loc": list(at), "msg": sentence, "input": value}]
    )
