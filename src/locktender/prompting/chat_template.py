"""Run a model's chat template: Jinja2 in a sandbox, with what such templates expect.

The dialect is that of Hugging Face: `raise_exception`, `strftime_now`, ``tojson`` without HTML
escapes, ``{% generation %}``, ``{% break %}``.  A template comes with the weights and is a program,
so it may not touch what lies outside, and its steps and its output are bounded: it runs where its
end cannot be waited for.

What callers wrote may be handed in as `MarkedText`; it stays marked on its way.  What is given to
a template, and what its result means, is `chat_format`'s.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes, pass_environment
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from locktender.core.errors import LocktenderError, TemplateRefusal
from locktender.prompting.marked_json import marked_json
from locktender.prompting.marked_text import MAX_CHARACTERS, MarkedText, joined

__all__ = ["ChatTemplate", "compile_template"]

# Look-ups, calls and turns of `range`; a chat of 2,000 messages takes some 100,000.
MAX_STEPS = 2_000_000
_MAX_REASON_CHARACTERS = 300


class ChatTemplate:
    """A template that can be rendered, by any number of threads at once."""

    def __init__(self, source: str) -> None:
        """Raises: TemplateError for a source that is no template."""
        self.source = source
        self._environment = _Environment()
        self._environment.begin()
        self._template = self._environment.from_string(source)

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text, marked where `values` are.

        Raises: TemplateRefusal with the template's own reason.
        """
        self._environment.begin()
        try:
            return self._template.render(values)
        except LocktenderError:
            raise
        except Exception as error:
            # A boundary: a template is a program, and says no by whatever it raises.
            raise _refusal(error) from error


@lru_cache(maxsize=32)
def compile_template(source: str) -> ChatTemplate:
    """Return the template of that source; the same one for the same source."""
    return ChatTemplate(source)


def _refusal(error: Exception) -> TemplateRefusal:
    reason = " ".join(str(error).split()).rstrip(".")[:_MAX_REASON_CHARACTERS]
    return TemplateRefusal(
        f"The model's chat template does not take these messages: {reason}.", "messages"
    )


class _Generator(CodeGenerator):
    """Has ``a ~ b`` joined by the environment, as everything else that is put together is."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja2's name
        self.write("environment.concat(map(str, (")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write(")))")


class _Generation(Extension):
    """``{% generation %}``, by which training marks an assistant's turns: here its text."""

    tags = {"generation"}  # noqa: RUF012 - Jinja2's own form

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    def written(self, caller: Callable[[], str]) -> str:
        return caller()


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with a bound on its steps and with marks that survive."""

    code_generator_class = _Generator
    concat = staticmethod(joined)
    intercepted_binops = frozenset({"+", "*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
        )
        self._steps = threading.local()
        self.filters["tojson"] = _to_json
        self.filters["join"] = _join
        self.globals["range"] = self._range
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = _strftime_now

    def begin(self) -> None:
        """Count the steps of this thread from here on; before anything is compiled or rendered."""
        self._steps.n = 0

    def _spend(self, n_steps: int = 1) -> None:
        self._steps.n += n_steps
        if self._steps.n > MAX_STEPS:
            raise TemplateError(f"it takes more than {MAX_STEPS:,} steps")

    def getattr(self, obj: Any, attribute: str) -> Any:
        self._spend()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        self._spend()
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._spend()
        if isinstance(obj, BuiltinMethodType) and obj.__name__ == "join" and len(args) == 1:
            parts = list(args[0])
            if any(isinstance(part, MarkedText) for part in parts):
                return _join(self, parts, str(obj.__self__))
            args = (parts,)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self._spend()
        if operator == "*":
            _check_product(left, right)
        elif operator == "**" and not (_is_small(left) and _is_small(right)):
            raise TemplateError("it raises a number to too high a power")
        elif operator == "+" and {type(left), type(right)} <= {str, MarkedText}:
            return joined([left, right])
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        owner = getattr(value, "__self__", None)
        if isinstance(owner, MarkedText):  # whose result would have to know its authors
            stand_in = str.__str__(owner)
            formats = {"format": stand_in.format, "format_map": stand_in.format_map}
            value = formats.get(value.__name__, value)
        return super().wrap_str_format(value)

    def _range(self, *args: int) -> range:
        found = safe_range(*args)
        self._spend(len(found))
        return found


def _check_product(left: Any, right: Any) -> None:
    for repeated, n in ((left, right), (right, left)):
        is_repeated = isinstance(repeated, str | list | tuple) and isinstance(n, int)
        if is_repeated and len(repeated) * n > MAX_CHARACTERS:
            raise TemplateError("it repeats a text too often")


def _is_small(number: Any) -> bool:
    return isinstance(number, int | float) and abs(number) < 1000  # noqa: PLR2004 - so as to say


def _refuse(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # noqa: DTZ005 - the date where the model runs


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates pass it by position, too
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - as the other
) -> str:
    return marked_json(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


@pass_environment
def _join(
    environment: Any, values: Iterable[Any], separator: str = "", attribute: str | None = None
) -> str:
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    parts: list[str] = []
    for value in values:
        parts += [str(separator), str(value)]
    return joined(parts[1:])
