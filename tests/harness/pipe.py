"""Pipelines for the tests of hazards: the real model, and a tiny one where only the order counts.

The weights are loaded once.  Each pipeline has a model of its own over them, so that an owner, a
hook or a guarded class of one test is none of another's; all share one tokenizer.  The engine on a
real model takes a second to prove itself, so a later test gets that model, as it was before.
"""

import copy
import gc
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

import pytest

from locktender import guard
from locktender.adopt import owner as owner_module
from locktender.adopt.heavy import owner_of
from locktender.adopt.job import Job
from locktender.adopt.own_copy import OwnCopies
from locktender.adopt.swap import OWNER, plain_class
from locktender.adopt.text_pipeline import Completion, TextTask
from locktender.adopt.text_together import engine_of, make_job

LIMIT_S = 30.0  # for what is to come
IN_VAIN_S = 0.2  # for what is not
KV_BYTES = 1 << 26  # of an engine on a model

MakePipe: TypeAlias = Callable[..., Any]  # takes the options of a pipeline
_Model = TypeVar("_Model")


@dataclass(frozen=True, slots=True)
class Guarding:
    """One half of a test: with the guard, or without it."""

    is_on: bool

    def __call__(self, model: _Model, **settings: Any) -> _Model:
        return guard(model, **settings) if self.is_on else model

    @property
    def patience_s(self) -> float:
        """How long to wait for what happens on the bare object only."""
        return IN_VAIN_S if self.is_on else LIMIT_S


class Meeting:
    """Where callers wait for one another, so that all who can be there at once are."""

    def __init__(self, n_callers: int, *, patience_s: float) -> None:
        self._barrier = threading.Barrier(n_callers)
        self._patience_s = patience_s
        self.has_met = False

    def __call__(self, *_: Any) -> None:
        with suppress(threading.BrokenBarrierError):  # Once in vain, nobody waits any more.
            self._barrier.wait(self._patience_s)
            self.has_met = True


class ProvenCopies(OwnCopies):
    """Copies whose engine on a model of ours has proved itself before the test."""

    known: ClassVar[WeakKeyDictionary[Any, OwnCopies]] = WeakKeyDictionary()  # by the model

    def engine(self, model: Any, make: Callable[[Any], Any]) -> Any:
        if self.held is None and model in self.known:
            self.held = self.known[model].held
        return super().engine(model, make)

    @classmethod
    def proven(cls, model: Any) -> Any:
        """Return the engine and the view of `model`, made now if it is not known."""
        copies = cls.known.setdefault(model, OwnCopies())
        engine_of(model, copies, KV_BYTES)
        return copies.held


def job_of(pipe: Any, task: TextTask) -> Job[Completion]:
    """Return the job that has `pipe`, which nobody guards, answer `task`."""
    copies = ProvenCopies.known.setdefault(pipe.model, OwnCopies())
    return make_job(pipe, task, copies=copies, kv_bytes=KV_BYTES)


def hook_engine(
    model: Any, enter: Callable[..., Any], leave: Callable[..., Any] = lambda *_: None
) -> Callable[[], None]:
    """Have both called around each forward of `model`, and of the engine on it, until it is undone.

    To the guard they pass for hooks of transformers' own, for which an engine is not given up.
    """
    view = ProvenCopies.proven(model).view  # before anything is counted

    def as_theirs(hook: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> None:
            hook(*arguments, **options)

        called.__module__ = "transformers.utils.output_capturing"
        return called

    hooks = [
        hook
        for each in (model, view.model)
        for hook in (
            each.register_forward_pre_hook(as_theirs(enter), with_kwargs=True),
            each.register_forward_hook(as_theirs(leave), always_call=True),
        )
    ]
    view.accept()

    def undo() -> None:
        for hook in hooks:
            hook.remove()
        view.accept()

    return undo


class Forwards:
    """The forward passes of a model, with `begin` called at the beginning of each."""

    def __init__(self, model: Any, begin: Callable[[int], object] = lambda _: None) -> None:
        self._lock = threading.Lock()
        self._begin = begin
        self._n_inside = 0
        self.n = self.n_at_once = 0
        self.n_tokens: list[int] = []  # of each prompt
        hook_engine(model, self._enter, self._leave)

    def _enter(self, _model: Any, _arguments: Any, options: dict[str, Any]) -> None:
        with self._lock:
            self.n += 1
            self._n_inside += 1
            self.n_at_once = max(self.n_at_once, self._n_inside)
            n = self.n
            self.n_tokens += _prompts_in(options)
        self._begin(n)

    def _leave(self, *_: Any) -> None:
        with self._lock:
            self._n_inside -= 1


def _prompts_in(options: dict[str, Any]) -> list[int]:
    """Return the lengths of the prompts in a pass, which may have others' next tokens as well."""
    positions = options.get("position_ids")
    if positions is None:
        length = options["input_ids"].shape[-1]
        return [length] if length > 1 else []
    places = positions[0].tolist()
    starts = [at for at, place in enumerate(places) if place == 0]
    return [
        next((n for n in range(1, len(places) - at) if places[at + n] != n), len(places) - at)
        for at in starts
    ]


@pytest.fixture(params=[False, True], ids=["bare", "guarded"])
def guarding(request: pytest.FixtureRequest) -> Guarding:
    """Have a test run twice: on the bare object and on the guarded one."""
    return Guarding(request.param)


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Compute in one thread: on a busy machine, several would wait for one another."""
    import torch  # noqa: PLC0415 - it takes seconds

    n_before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_before)


@pytest.fixture
def make_pipe(hf_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePipe]:
    """Give a function that makes pipelines of the real model: greedy, and 8 tokens long."""
    monkeypatch.setattr(owner_module, "OwnCopies", ProvenCopies)
    lender, known = _lender(hf_folder), set(threading.enumerate())
    lent: list[_Lent] = []

    def lend() -> Any:
        lent.append(lender.lend())
        return lent[-1].model

    yield _maker(lend, _tokenizer(hf_folder))
    for thread in set(threading.enumerate()) - known:
        if thread.name.startswith("Thread-"):  # of a stream; the owners' have other names
            thread.join(LIMIT_S)
    for each in lent:
        lender.take_back(each)
    _release(_tokenizer(hf_folder))


@pytest.fixture
def make_tiny_pipe(hf_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePipe]:
    """Give a function that makes pipelines of a random model, which never ends by itself."""
    monkeypatch.setattr(owner_module, "OwnCopies", ProvenCopies)
    model = _tiny_weights(hf_folder)
    yield _maker(lambda: _over_weights_of(model), _tokenizer(hf_folder))
    gc.collect()
    _release(_tokenizer(hf_folder))


def _release(tokenizer: Any) -> None:
    """Make a tokenizer that all tests share what it was before it was guarded."""
    object.__setattr__(tokenizer, "__class__", plain_class(tokenizer))
    vars(tokenizer).pop(OWNER, None)


def _over_weights_of(model: Any) -> Any:
    """Return another model over the same weights."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


class _Lent:
    """A model with a proven engine, and what makes it again as it is now."""

    def __init__(self, model: Any) -> None:
        proven = ProvenCopies.proven(model)
        self._engine, self.model = proven.made, model
        self._view = proven.view
        things = (model, model.config, model.generation_config, self._view.model)
        self._restore = [_snapshot(thing) for thing in things]

    def restore(self) -> bool:
        """Forget the hooks, the owner and the settings of a test, unless it is still at work."""
        if not re.search(r"at rest|waiting 0 \| running 0", repr(owner_of(self.model))):
            return False
        assert not self._engine.has_work()
        assert self._engine.n_reserved == 0
        for restore in self._restore:
            restore()
        object.__setattr__(self.model, "__class__", plain_class(self.model))
        self._view.accept()
        return True


class _Lender:
    """Lends models over the real weights, each to one test at a time."""

    def __init__(self, weights: Any) -> None:
        self._weights = weights
        self._free: list[_Lent] = []

    def lend(self) -> _Lent:
        return self._free.pop() if self._free else _Lent(_over_weights_of(self._weights))

    def take_back(self, lent: _Lent) -> None:
        if lent.restore():
            self._free.append(lent)


def _snapshot(thing: Any) -> Callable[[], None]:
    """Return a function that gives `thing` back the attributes that it has now."""
    attributes = vars(thing)
    # Others hold the tables of hooks and modules, so these are changed in place.
    tables = [attributes, *(value for value in attributes.values() if isinstance(value, dict))]
    contents = [dict(table) for table in tables]

    def restore() -> None:
        for table, content in zip(tables, contents, strict=True):
            table.clear()
            table.update(content)

    return restore


# Not fixtures: each module that imports one would load the weights again.
@lru_cache(maxsize=1)
def _lender(folder: Path) -> _Lender:
    return _Lender(_real_weights(folder))


@lru_cache(maxsize=1)
def _real_weights(folder: Path) -> Any:
    """Return the real model, of which nothing may be changed: see `_over_weights_of`."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - it takes seconds

    return AutoModelForCausalLM.from_pretrained(folder)


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - it takes seconds

    return AutoTokenizer.from_pretrained(folder)


@lru_cache(maxsize=1)
def _tiny_weights(folder: Path) -> Any:
    import torch  # noqa: PLC0415 - it takes seconds
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - it takes seconds

    tokenizer = _tokenizer(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = cast("Any", LlamaForCausalLM)(config).eval()
    model.generation_config.eos_token_id = None  # every answer is as long as it may be
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # What has been imported stays: to look through it takes longer than a test.
    gc.collect()
    gc.freeze()
    return model


def _maker(own_model: Callable[[], Any], tokenizer: Any) -> MakePipe:
    def make(**options: Any) -> Any:
        from transformers import pipeline  # noqa: PLC0415 - it takes seconds

        defaults = {"do_sample": False, "max_new_tokens": 8}
        return pipeline(
            "text-generation",
            model=own_model(),
            tokenizer=tokenizer,
            device="cpu",
            **defaults | options,
        )

    return make
