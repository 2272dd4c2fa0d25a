"""Each model is found once, wherever it hides, and nothing is run to find it."""

from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel, ConfigDict, PrivateAttr

from adopt.chains.models import UNNAMED, Echo, EchoChat, chat_over, pipeline, remote
from locktender.adopt.contents import contents_of, is_opaque
from locktender.adopt.discover import discover, survey
from locktender.adopt.guard import guard
from locktender.adopt.hazards import hazard_of

CHAINS = sorted(
    path.stem for path in (Path(__file__).parent / "chains").glob("*.py") if path.stem != "models"
)


def test_there_are_ten_sample_chains() -> None:
    assert len(CHAINS) == 10


@pytest.mark.parametrize("name", CHAINS)
def test_every_planted_model_of_a_sample_chain_is_found_and_nothing_else(name: str) -> None:
    module = import_module(f"adopt.chains.{name}")
    found = discover(module.chain)
    unsafe = [each.model for each in found if hazard_of(each.model) is not None]
    assert _ids(unsafe) == _ids(module.PLANTED)
    assert len(unsafe) == len(module.PLANTED)


@pytest.mark.parametrize("name", CHAINS)
def test_the_models_of_a_chain_come_in_the_same_order_each_time(name: str) -> None:
    chain = import_module(f"adopt.chains.{name}").chain
    assert [each.path for each in discover(chain)] == [each.path for each in discover(chain)]


def test_a_path_says_how_to_get_to_the_model() -> None:
    model, other, inner = Echo(), Echo(), pipeline()
    chat = chat_over(inner)
    chain = (
        RunnableLambda(str)
        | {"a": model.bind(stop=["."]), "b": RunnableLambda(lambda _: other.invoke(""))}
        | chat.with_fallbacks([remote()])
    )
    paths = [each.path for each in discover(chain)]
    assert paths == [
        "chain.steps[2].runnable",
        "chain.steps[2].runnable.llm",
        "chain.steps[2].fallbacks[0]",
        "chain.steps[1].steps['a'].bound",
        "chain.steps[1].steps['b'].func:other",
    ]


def test_a_model_that_is_the_root_has_the_name_of_the_root() -> None:
    model = Echo()
    assert [(each.path, each.model) for each in discover(model, "model")] == [("model", model)]


def test_a_model_in_two_places_is_found_once() -> None:
    model = Echo()
    assert len(discover({"a": model | model, "b": [model.bind(stop=[])]})) == 1


def test_equal_models_are_two() -> None:
    assert len(discover([Echo(), Echo()])) == 2


class _Pydantic(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    field: Any = None
    _private: Any = PrivateAttr(default=None)


class _Slotted:
    __slots__ = ("model", "unset")

    def __init__(self, model: object) -> None:
        self.model = model


class _OfTheClass:
    model = Echo()


class _PydanticOfTheClass(BaseModel):
    model: ClassVar[Any] = Echo()


class _Static:
    @staticmethod
    def answer() -> str:
        return UNNAMED.invoke("?")


class _Heavy:
    """Looks like what holds the weights."""

    __module__ = "torch.nn.modules.module"


class _Network(_Heavy):
    """And so is this, but what is in it is the user's."""

    def __init__(self, model: object) -> None:
        self.model = model


def _weights() -> object:
    weights = _Heavy()
    vars(weights)["by"] = Echo()
    return weights


class _Property:
    @property
    def model(self) -> object:
        return UNNAMED


def _private(model: object) -> _Pydantic:
    held = _Pydantic()
    held._private = model  # noqa: SLF001 - what a method of its own would do
    return held


def _noted(model: object) -> object:
    def note() -> None: ...

    vars(note)["model"] = model
    return note


@pytest.mark.parametrize(
    "hide",
    [
        lambda model: [1, ("a", {"b": model})],
        lambda model: OrderedDict(a=deque([model])),
        lambda model: SimpleNamespace(model=model),
        lambda model: partial(print, 1, model, sep=""),
        lambda model: partial(print, end=model),
        _Slotted,
        lambda model: _Pydantic(field=model),
        lambda model: _Pydantic.model_validate({"extra": model}),
        _private,
        _noted,
        lambda model: model.invoke,
        lambda model: Echo(inner=model),
        lambda model: remote().bind(tools=[model]),
        lambda model: RunnableLambda(lambda _: [lambda: model]),
    ],
)
def test_a_hidden_model_is_found(hide: Callable[[Any], object]) -> None:
    model = Echo()
    assert _ids([model]) <= _ids(each.model for each in discover(hide(model)))


def test_attributes_of_a_users_class_and_globals_of_its_properties_are_found() -> None:
    assert [each.path for each in discover(_OfTheClass())] == ["chain.model"]
    assert [each.path for each in discover(_Property())] == ["chain.model:UNNAMED"]
    assert [each.path for each in discover(_Static())] == ["chain.answer:UNNAMED"]


def test_the_code_of_a_bound_method_is_looked_at() -> None:
    class Methods(dict[str, object]):
        pass

    def answer(_self: object) -> str:
        return UNNAMED.invoke("?")

    assert [each.path for each in discover(MethodType(answer, Methods()))] == ["chain:UNNAMED"]


def test_weights_documents_and_owners_are_not_looked_into() -> None:
    model = guard(Echo())
    held: list[object] = [_weights(), Document("text", metadata={"by": Echo()})]
    held.append(AIMessage("text", response_metadata={"by": Echo()}))
    assert discover(held) == []
    assert not [name for name in _names(model) if "owner" in name]


def test_what_a_library_defines_is_not_looked_into() -> None:
    chain = RunnableLambda(str) | Echo() | str
    assert survey([("chain", chain)], max_objects=20).is_complete


def test_what_a_users_own_network_holds_is_found() -> None:
    assert [each.path for each in discover(_Network(Echo()))] == ["chain.model"]


def test_a_users_class_and_a_users_module_are_looked_into() -> None:
    paths = [each.path for each in discover([_OfTheClass, _PydanticOfTheClass])]
    assert paths == ["chain[0].model", "chain[1].model"]
    module = import_module("adopt.chains.models")
    assert {each.path for each in discover([module])} == {
        "chain[0].LATE",
        "chain[0].SHARED",
        "chain[0].UNNAMED",
    }


def test_circles_do_no_harm() -> None:
    ring: list[object] = [Echo()]
    ring.append({"ring": ring})
    assert len(discover(ring)) == 1


def test_a_search_that_meets_its_bound_says_so() -> None:
    near, far = Echo(), EchoChat()
    deep: object = far
    for _ in range(10):
        deep = [deep]
    assert survey([("all", [near, deep])]).is_complete
    too_deep = survey([("all", [near, deep])], max_depth=8)
    assert ([each.model for each in too_deep.found], too_deep.is_complete) == ([near], False)
    assert too_deep.cuts == ("all[1][0][0][0][0][0][0][0]",)
    too_many = survey([("all", [near, deep])], max_objects=5)
    assert ([each.model for each in too_many.found], too_many.is_complete) == ([near], False)


def test_a_long_container_is_looked_through() -> None:
    model = Echo()
    assert survey([("all", list(range(1_000_000)))]).is_complete  # in which nothing can hide
    texts: dict[int, object] = dict.fromkeys(range(300_000), "text")
    assert discover({**texts, -1: model})[0].model is model
    assert discover([*range(100_000), model])[0].model is model
    assert discover([*([] for _ in range(50_000)), model])[0].model is model


def test_of_a_container_without_end_the_beginning_is_looked_at() -> None:
    near = Echo()
    long: list[object] = [near] * 200_001
    cut = survey([("all", {"near": near, "long": [*long, Echo()]})])
    assert ([each.model for each in cut.found], cut.cuts) == ([near], ("all['long']",))


def test_a_class_whose_module_is_no_text_does_no_harm() -> None:
    kind = type("Kind", (type,), {"__module__": property(lambda _: "mine")})
    assert discover([kind("Class", (), {}), kind, Echo()])[0].path == "chain[2]"


class _Nosy:
    """Counts whatever is done to it."""

    touched: list[str] = []  # noqa: RUF012 - one count for all

    def __init__(self, inner: object = None) -> None:
        self.__dict__["inner"] = inner

    def __getattribute__(self, name: str) -> Any:
        if name != "__dict__":  # which `__init__` needs
            _Nosy.touched.append(name)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        _Nosy.touched.append(name)
        raise AssertionError(name)

    @property
    def model(self) -> object:
        _Nosy.touched.append("model")
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        _Nosy.touched.append("eq")
        return False

    def __hash__(self) -> int:
        _Nosy.touched.append("hash")
        return 1

    def __repr__(self) -> str:
        _Nosy.touched.append("repr")
        return ""

    def __len__(self) -> int:
        _Nosy.touched.append("len")
        return 0


class _NosyDict(dict[str, object]):
    def items(self) -> Any:
        raise AssertionError

    def __iter__(self) -> Any:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


class _NosyList(list[object]):
    def __iter__(self) -> Any:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


class _NosyRunnable(Runnable[Any, Any]):
    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)

    def invoke(self, *_arguments: Any, **_options: Any) -> Any:
        raise AssertionError


def _wraps() -> st.SearchStrategy[Callable[[object], object]]:
    return st.sampled_from(
        [
            _Nosy,
            _NosyRunnable,
            _Slotted,
            lambda inner: _NosyDict(a=inner),
            lambda inner: _NosyList([inner]),
            lambda inner: (1, inner),
            lambda inner: lambda: inner,
            lambda inner: partial(_Nosy, inner),
            lambda inner: _Pydantic(field=inner),
            lambda inner: RunnableLambda(lambda _: inner),
        ]
    )


@given(st.lists(_wraps(), max_size=12))
def test_nothing_is_run_to_find_a_model(wraps: list[Callable[[object], object]]) -> None:
    model = Echo()
    hidden: object = model
    for wrap in wraps:
        hidden = wrap(hidden)
    _Nosy.touched.clear()
    found = discover(hidden)
    assert _Nosy.touched == []
    assert [each.model for each in found] == [model]


def _names(value: object) -> list[str]:
    """Return what the walk looks into."""
    return [name for name, part in contents_of(value) if not is_opaque(part)]


def _ids(models: Any) -> set[int]:
    return {id(model) for model in models}
