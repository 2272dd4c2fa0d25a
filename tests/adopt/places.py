"""Places in which a user may have a model: each function returns a chain that runs it there."""

# ruff: noqa: PLC0415 - an import within a function is a place
import asyncio
import functools
import importlib
import itertools
import operator
import queue
import threading
import weakref
from collections import ChainMap, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, cast

from langchain_core.runnables import (
    ConfigurableField,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph

from adopt import shelf

__all__ = ["LATE", "PRESENT", "made_by_a_coroutine", "made_by_a_function"]

_slot: Any = None
_table: dict[str, Any] = {}
_lazy: Any = None
_variable: ContextVar[Any] = ContextVar("variable")


def _asks(model: Any) -> Any:
    return RunnableLambda(lambda text: model.invoke(str(text)))


def closure(model: Any) -> Any:
    return _asks(model)


def global_name(model: Any) -> Any:
    global _slot  # noqa: PLW0603 - the place
    _slot = model
    return RunnableLambda(lambda text: _slot.invoke(text))


def dispatch_table(model: Any) -> Any:
    _table["a"] = model
    return RunnableLambda(lambda text: _table["a"].invoke(text))


def class_attribute(model: Any) -> Any:
    class Kept:
        llm = model

    return RunnableLambda(lambda text: Kept.llm.invoke(text))


def class_of_a_table(model: Any) -> Any:
    class Kept:
        llm = model

    kinds = {"a": Kept}
    return RunnableLambda(lambda text: kinds["a"].llm.invoke(text))


def class_that_is_made_in_the_run(model: Any) -> Any:
    class Service:
        def answer(self, text: str) -> Any:
            return model.invoke(text)

    return RunnableLambda(lambda text: Service().answer(text))


def attribute_of_a_metaclass(model: Any) -> Any:
    class Kind(type):
        llm = model

    class Kept(metaclass=Kind):
        pass

    return RunnableLambda(lambda text: Kept.llm.invoke(text))


def descriptor(model: Any) -> Any:
    class Gives:
        def __get__(self, owner: object, kind: type) -> Any:
            return model

    class Kept:
        llm = Gives()

    kept = Kept()
    return RunnableLambda(lambda text: kept.llm.invoke(text))


def slots(model: Any) -> Any:
    class Kept:
        __slots__ = ("llm",)

    kept: Any = Kept()
    kept.llm = model
    return RunnableLambda(lambda text: kept.llm.invoke(text))


def bound_method(model: Any) -> Any:
    class Kept:
        def __init__(self) -> None:
            self.llm = model

        def answer(self, text: str) -> Any:
            return self.llm.invoke(text)

    return RunnableLambda(Kept().answer)


def callable_object(model: Any) -> Any:
    class Kept:
        def __init__(self) -> None:
            self.llm = model

        def __call__(self, text: str) -> Any:
            return self.llm.invoke(text)

    kept = Kept()
    return RunnableLambda(lambda text: kept(text))


def data_class(model: Any) -> Any:
    @dataclass
    class Kept:
        llm: Any

    kept = Kept(model)
    return RunnableLambda(lambda text: kept.llm.invoke(text))


def named_tuple(model: Any) -> Any:
    class Kept(NamedTuple):
        llm: Any

    kept = Kept(model)
    return RunnableLambda(lambda text: kept.llm.invoke(text))


def member_of_an_enum(model: Any) -> Any:
    class Kept(Enum):
        LLM = (model,)

    return RunnableLambda(lambda text: Kept.LLM.value[0].invoke(text))


def default_argument(model: Any) -> Any:
    def answer(text: str, llm: Any = model) -> Any:
        return llm.invoke(text)

    return RunnableLambda(lambda text: answer(text))


def partial_call(model: Any) -> Any:
    return RunnableLambda(functools.partial(lambda llm, text: llm.invoke(text), model))


def partial_method(model: Any) -> Any:
    class Kept:
        def answer(self, llm: Any, text: str) -> Any:
            return llm.invoke(text)

        ask = functools.partialmethod(answer, model)

    kept = Kept()
    return RunnableLambda(lambda text: kept.ask(text))


def single_dispatch(model: Any) -> Any:
    @functools.singledispatch
    def answer(text: object) -> Any:
        return text

    answer.register(str, lambda text: model.invoke(text))
    return RunnableLambda(lambda text: answer(text))


def decorated(model: Any) -> Any:
    def twice(call: Any) -> Any:
        @functools.wraps(call)
        def wrapped(text: str) -> Any:
            return call(text)

        return wrapped

    @twice
    @twice
    def answer(text: str) -> Any:
        return model.invoke(text)

    return RunnableLambda(lambda text: answer(text))


def import_in_the_function(model: Any) -> Any:
    shelf.llm = model

    def answer(text: str) -> Any:
        import adopt.shelf

        return adopt.shelf.llm.invoke(text)

    return RunnableLambda(answer)


def import_of_a_name(model: Any) -> Any:
    shelf.llm = model

    def answer(text: str) -> Any:
        from adopt import shelf as mine

        return mine.llm.invoke(text)

    return RunnableLambda(answer)


def attribute_by_a_text(model: Any) -> Any:
    shelf.llm = model
    return RunnableLambda(lambda text: getattr(shelf, "llm").invoke(text))  # noqa: B009 - the place


def attribute_by_a_computed_name(model: Any) -> Any:
    shelf.llm, name = model, "llm".lower()
    return RunnableLambda(lambda text: getattr(shelf, name).invoke(text))


def globals_by_a_text(model: Any) -> Any:
    global _slot  # noqa: PLW0603 - the place
    _slot = model
    return RunnableLambda(lambda text: globals()["_slot"].invoke(text))


def names_of_a_module(model: Any) -> Any:
    shelf.llm = model
    return RunnableLambda(lambda text: vars(shelf)["llm"].invoke(text))


def module_by_its_name(model: Any) -> Any:
    shelf.llm = model
    return RunnableLambda(lambda text: importlib.import_module("adopt.shelf").llm.invoke(text))


def attribute_getter(model: Any) -> Any:
    shelf.llm = model
    return RunnableLambda(lambda text: operator.attrgetter("llm")(shelf).invoke(text))


def class_of_a_module(model: Any) -> Any:
    shelf.Drawer.llm = model
    return RunnableLambda(lambda text: shelf.Drawer.llm.invoke(text))


def cached_function(model: Any) -> Any:
    @functools.lru_cache
    def llm() -> Any:
        return model

    return RunnableLambda(lambda text: llm().invoke(text))


def cached_value(model: Any) -> Any:
    held = [model]

    @functools.lru_cache
    def llm() -> Any:
        return held.pop()

    llm()
    return RunnableLambda(lambda text: llm().invoke(text))


def cached_property(model: Any) -> Any:
    held = [model]

    class Kept:
        @functools.cached_property
        def llm(self) -> Any:
            return held.pop()

    kept = Kept()
    kept.llm.get_name()
    return RunnableLambda(lambda text: kept.llm.invoke(text))


def variable_of_the_context(model: Any) -> Any:
    variable: ContextVar[Any] = ContextVar("variable", default=model)
    return RunnableLambda(lambda text: variable.get().invoke(text))


def chain_map(model: Any) -> Any:
    kept = ChainMap({}, {"llm": model})
    return RunnableLambda(lambda text: kept["llm"].invoke(text))


def weak_reference(model: Any) -> Any:
    kept: Any = weakref.ref(model)
    shelf.late = [model]
    return RunnableLambda(lambda text: kept().invoke(text))


def weak_values(model: Any) -> Any:
    kept = weakref.WeakValueDictionary({"llm": model})
    shelf.late = [model]
    return RunnableLambda(lambda text: kept["llm"].invoke(text))


def weak_keys(model: Any) -> Any:
    class Key:
        pass

    key = Key()
    kept = weakref.WeakKeyDictionary({key: model})
    return RunnableLambda(lambda text: kept[key].invoke(text))


def waiting_queue(model: Any) -> Any:
    kept: queue.Queue[Any] = queue.Queue()
    kept.put(model)
    return RunnableLambda(lambda text: kept.queue[0].invoke(text))


def simple_queue(model: Any) -> Any:
    kept: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(16):
        kept.put(model)
    return RunnableLambda(lambda text: kept.get().invoke(text))


def future(model: Any) -> Any:
    kept: Future[Any] = Future()
    kept.set_result(model)
    return RunnableLambda(lambda text: kept.result().invoke(text))


def asynchronous_future(model: Any) -> Any:
    loop = asyncio.new_event_loop()
    kept = loop.create_future()
    kept.set_result(model)
    loop.close()
    return RunnableLambda(lambda text: kept.result().invoke(text))


def cycle(model: Any) -> Any:
    kept = itertools.cycle([model])
    return RunnableLambda(lambda text: next(kept).invoke(text))


def repeat(model: Any) -> Any:
    kept = itertools.repeat(model)
    return RunnableLambda(lambda text: next(kept).invoke(text))


def generator(model: Any) -> Any:
    def gives() -> Iterator[Any]:
        llm = model
        while True:
            yield llm

    kept, lock = gives(), threading.Lock()
    next(kept)

    def answer(text: str) -> Any:
        with lock:
            llm = next(kept)
        return llm.invoke(text)

    return RunnableLambda(answer)


def mapping_proxy(model: Any) -> Any:
    kept = MappingProxyType({"llm": model})
    return RunnableLambda(lambda text: kept["llm"].invoke(text))


def name_space(model: Any) -> Any:
    kept = SimpleNamespace(llm=model)
    return RunnableLambda(lambda text: kept.llm.invoke(text))


def user_dict(model: Any) -> Any:
    kept = UserDict({"llm": model})
    return RunnableLambda(lambda text: kept["llm"].invoke(text))


def default_dict(model: Any) -> Any:
    kept: Any = defaultdict(lambda: model)
    return RunnableLambda(lambda text: kept["llm"].invoke(text))


def double_ended_queue(model: Any) -> Any:
    kept = deque([model])
    return RunnableLambda(lambda text: kept[0].invoke(text))


def keys_of_a_dict(model: Any) -> Any:
    class Key:
        llm = model

    kept = {Key(): 1}
    return RunnableLambda(lambda text: next(iter(kept)).llm.invoke(text))


def end_of_a_long_list(model: Any) -> Any:
    kept = [*range(1000), model]
    return RunnableLambda(lambda text: kept[-1].invoke(text))


def tool_of_an_agent(model: Any) -> Any:
    @tool
    def ask(text: str) -> str:
        """Ask."""
        return str(model.invoke(text))

    return RunnableLambda(lambda text: ask.invoke({"text": text}))


def node_of_a_graph(model: Any) -> Any:
    graph: Any = StateGraph(cast("Any", dict))
    graph.add_node("ask", lambda state: {"text": model.invoke(state["text"])})
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return RunnableLambda(lambda text: {"text": text}) | graph.compile()


def two_places(model: Any) -> Any:
    return RunnableParallel(a=_asks(model), b=model)


def alternative(model: Any) -> Any:
    chain: Any = RunnablePassthrough().configurable_alternatives(
        ConfigurableField("which"), default_key="none", llm=model
    )
    return chain.with_config(configurable={"which": "llm"})


PRESENT = [
    value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__ and not name.startswith("_")
]

# From here on the model is not there when the route is added: it is made when the app starts, or
# within a run.  Each function returns a chain, and what the app does when it starts.
_Late = tuple[Any, Callable[[], object]]


def dict_of_the_lifespan(make: Callable[[], Any]) -> _Late:
    models: dict[str, Any] = {}
    chain = RunnableLambda(lambda text: models["llm"].invoke(text))
    return chain, lambda: models.update(llm=make())


def global_of_the_lifespan(make: Callable[[], Any]) -> _Late:
    shelf.late = None
    return RunnableLambda(lambda text: shelf.late.invoke(text)), lambda: setattr(
        shelf, "late", make()
    )


def registry_of_a_module(make: Callable[[], Any]) -> _Late:
    shelf.registry.clear()
    chain = RunnableLambda(lambda text: shelf.registry["llm"].invoke(text))
    return chain, lambda: shelf.registry.update(llm=make())


def attribute_of_the_lifespan(make: Callable[[], Any]) -> _Late:
    class Service:
        def __init__(self) -> None:
            self.llm: Any = None

        def start(self) -> None:
            self.llm = make()

        def answer(self, text: str) -> Any:
            return self.llm.invoke(text)

    service = Service()
    return RunnableLambda(service.answer), service.start


def state_of_the_app(make: Callable[[], Any]) -> _Late:
    from fastapi import FastAPI

    app = FastAPI()
    chain = RunnableLambda(lambda text: app.state.llm.invoke(text))
    return chain, lambda: setattr(app.state, "llm", make())


def growing_table(make: Callable[[], Any]) -> _Late:
    models: dict[str, Any] = {"other": RunnableLambda(str)}
    chain = RunnableLambda(lambda text: models["llm"].invoke(text))
    return chain, lambda: models.update(llm=make())


def replaced_global(make: Callable[[], Any]) -> _Late:
    shelf.late = make()
    return RunnableLambda(lambda text: shelf.late.invoke(text)), lambda: setattr(
        shelf, "late", make()
    )


def future_of_the_lifespan(make: Callable[[], Any]) -> _Late:
    kept: Future[Any] = Future()
    chain = RunnableLambda(lambda text: kept.result().invoke(text))
    return chain, lambda: kept.set_result(make())


def queue_of_the_lifespan(make: Callable[[], Any]) -> _Late:
    kept: queue.Queue[Any] = queue.Queue()
    return RunnableLambda(lambda text: kept.queue[0].invoke(text)), lambda: kept.put(make())


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return what makes a model at the first call, and gives it out to every caller."""
    lock, made = threading.Lock(), list[Any]()

    def once() -> Any:
        with lock:
            if not made:
                made.append(make())
        return made[0]

    return once


def lazy_global(make: Callable[[], Any]) -> _Late:
    global _lazy
    _lazy, once = None, _once(make)

    def llm() -> Any:
        global _lazy  # noqa: PLW0603 - the place
        _lazy = once()
        return _lazy

    return RunnableLambda(lambda text: llm().invoke(text)), lambda: None


def lazy_cache(make: Callable[[], Any]) -> _Late:
    cached = functools.lru_cache(_once(make))
    return RunnableLambda(lambda text: cached().invoke(text)), lambda: None


def lazy_property(make: Callable[[], Any]) -> _Late:
    once = _once(make)

    class Kept:
        @functools.cached_property
        def llm(self) -> Any:
            return once()

    kept = Kept()
    return RunnableLambda(lambda text: kept.llm.invoke(text)), lambda: None


def lazy_alternative(make: Callable[[], Any]) -> _Late:
    chain: Any = RunnablePassthrough().configurable_alternatives(
        ConfigurableField("which"), default_key="none", llm=_once(make)
    )
    return chain.with_config(configurable={"which": "llm"}), lambda: None


def lazy_local(make: Callable[[], Any]) -> _Late:
    local, once = threading.local(), _once(make)

    def answer(text: str) -> Any:
        local.llm = once()
        return local.llm.invoke(text)

    return RunnableLambda(answer), lambda: None


def unset_variable(make: Callable[[], Any]) -> _Late:
    once = _once(make)

    def answer(text: str) -> Any:
        _variable.set(once())
        return _variable.get().invoke(text)

    return RunnableLambda(answer), lambda: None


def made_by_a_function(make: Callable[[], Any]) -> _Late:
    once = _once(make)
    return RunnableLambda(lambda text: once().invoke(text)), lambda: None


def made_by_a_coroutine(make: Callable[[], Any]) -> _Late:
    once = _once(make)

    async def answer(text: str) -> Any:
        return await once().ainvoke(text)

    return RunnableLambda(answer), lambda: None


LATE = [
    value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__
    and not name.startswith("_")
    and value not in PRESENT
]
