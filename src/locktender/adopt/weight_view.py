"""Look at a model's weights through modules of our own.

An engine that ran the user's modules would have to change their config while it runs, and whoever
else ran them then would get wrong numbers.  So it runs a view: modules of the same classes, with
the very parameters and buffers, and with configs of their own.  What an engine sets on a view,
nobody else sees; what the user changes in the weights, a view sees at once.

What the user has put on the modules (hooks, a compiled or replaced `forward`) a view has not:
`why_no_view` names it.  What changes later, `WeightView.is_current` notices.
Nothing is imported; of a module only its dictionary is read.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from operator import attrgetter, methodcaller
from types import MethodType
from typing import Any

from locktender.adopt.swap import OWNER, plain_class

__all__ = ["WeightView", "modules_of", "why_no_view"]

# The dictionaries of a module that hold what is called before and after its forward.
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
# And those that hold what it is made of.
_HOLDERS = ("_parameters", "_buffers", "_modules")
_HOOK_FLAGS = (
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
# torch's hooks on all modules there are.
_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")
_ATTENTION = "_attn_implementation_internal"  # by which a config of transformers is known
_has_forward = methodcaller("__contains__", "forward")
_has_compiled = methodcaller("get", "_compiled_call_impl")
_is_training = methodcaller("get", "training")
_config = methodcaller("get", "config")


def why_no_view(model: Any) -> str | None:
    """Return the sentence that says what a view of `model` would miss; None for nothing."""
    if any(_global_hooks()):
        return "There are hooks on all modules of torch, and they see one call at a time."
    for module in modules_of(model):
        place = module.__dict__
        name = plain_class(module).__name__
        if not place.keys() >= set(_HOLDERS):
            return f"The model's {name} keeps its weights where this torch does not say."
        if any(_is_users(hook) for hooks in _HOOKS for hook in place.get(hooks, {}).values()):
            return f"There are hooks on the model's {name}, and they see one call at a time."
        if place.get("_compiled_call_impl") is not None or name == "OptimizedModule":
            return f"The model's {name} is compiled, for calls of its own shapes."
        if "forward" in place:
            return f"The `forward` of the model's {name} has been replaced."
    return None


class WeightView:
    """A view of `model`, in `self.model`.  It keeps the weights alive, and not `model`.

    Where there can be none, `self.model` is None, and `self.why_not` says why.
    """

    def __init__(self, model: Any) -> None:
        places = [vars(module) for module in modules_of(model)]
        self._places = places
        self._parameters, self._buffers, self._children = (
            [place.get(name, {}) for place in places] for name in _HOLDERS
        )
        self._hooks = [place[name] for place in places for name in _HOOKS if name in place]
        self._configs = [(vars(config), _values(vars(config))) for config in _configs_of(model)]
        self.accept()
        self.why_not = why_no_view(model)
        self.model = _copied(model) if self.why_not is None else None

    def accept(self) -> None:
        """Take what is on the model's modules now for what the view was made of."""
        self._seen = self._facts()

    def is_current(self) -> bool:
        """Whether a view that is made now would be the same."""
        return self._seen == self._facts() and all(
            _values(place) == values for place, values in self._configs
        )

    def _facts(self) -> tuple[object, ...]:
        # Whole lists at once, since a model has hundreds of modules, and this is asked often.
        parameters = [each for place in self._parameters for each in place.values()]
        found = [each for each in parameters if each is not None]
        return (
            list(map(id, parameters)),
            list(map(attrgetter("dtype"), found)),
            list(map(attrgetter("device"), found)),
            [list(place) for place in self._buffers],
            list(map(id, chain.from_iterable(place.values() for place in self._children))),
            list(map(len, [*self._hooks, *_global_hooks()])),
            any(map(_has_forward, self._places)),
            any(map(_has_compiled, self._places)),
            list(map(_is_training, self._places)),
            list(map(id, map(_config, self._places))),
        )


def _global_hooks() -> list[Any]:
    torch = sys.modules.get("torch.nn.modules.module")
    return [getattr(torch, name, {}) for name in _GLOBAL_HOOKS]


def modules_of(model: Any) -> Iterator[Any]:
    """Yield `model` and all modules in it, each once."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen and module is not None:
            seen.add(id(module))
            yield module
            waiting.extend(getattr(module, "__dict__", {}).get("_modules", {}).values())


def _is_users(hook: Callable[..., Any]) -> bool:
    # transformers puts some on a model that was asked for its hidden states; else they do nothing.
    return not str(getattr(hook, "__module__", "")).startswith("transformers.")


def _copied(model: Any) -> Any:
    """Return modules of our own in the place of those of `model`."""
    # One dictionary of copies for all, so that modules that share a config still do.
    configs: dict[int, Any] = {}
    made = {id(module): object.__new__(plain_class(module)) for module in modules_of(model)}
    for module in modules_of(model):
        place = dict(vars(module))
        place.pop(OWNER, None)
        place["_parameters"] = dict(place["_parameters"])
        place["_buffers"] = dict(place["_buffers"])
        for name in (*_HOOKS, *_HOOK_FLAGS):
            if name in place:
                place[name] = copy.copy(place[name])  # there are none but transformers' own
        for name, value in place.items():
            place[name] = _own(value, made, configs)
        place["_modules"] = {
            name: None if child is None else made[id(child)]
            for name, child in place["_modules"].items()
        }
        vars(made[id(module)]).update(place)
    return made[id(model)]


def _own(value: Any, made: dict[int, Any], configs: dict[int, Any]) -> Any:
    """Return what stands for `value`, an attribute of a module, in the module's copy."""
    if id(value) in made:
        return made[id(value)]
    if type(value) is MethodType and id(value.__self__) in made:
        return MethodType(value.__func__, made[id(value.__self__)])
    return copy.deepcopy(value, configs) if _is_config(value) else value


def _configs_of(model: Any) -> list[Any]:
    found = {
        id(value): value
        for module in modules_of(model)
        for value in vars(module).values()
        if _is_config(value)
    }
    return list(found.values())


def _is_config(value: Any) -> bool:
    # Not asked for as an attribute: the user's objects may answer that by code of theirs.
    return _ATTENTION in getattr(value, "__dict__", ())


def _values(place: dict[str, Any]) -> dict[str, Any]:
    """Return what a config says; which attention is asked for is not what a view runs."""
    return {
        name: copy.copy(value)
        for name, value in place.items()
        if not name.startswith("_") and isinstance(value, str | int | float | list | tuple | dict)
    }
