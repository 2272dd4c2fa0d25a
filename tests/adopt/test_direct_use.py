"""Those who use a guarded model past LangChain get what they get alone, and leave it as it was.

The model is small and random: what is shown is whose numbers a call gets, not what they mean.
`checks/test_direct_use.py` does the same on the real model.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.direct_use import DirectUses, Traffic, use_beside_callers
from harness.pipe import MakePipe, make_tiny_pipe, one_torch_thread
from locktender import guard
from locktender.adopt.guard import guard_all
from locktender.adopt.heavy import owner_of
from locktender.adopt.swap import OWNER, is_swapped, plain_class

__all__ = ["make_tiny_pipe", "one_torch_thread"]

N_USES = 2000


@pytest.fixture
def pipe(make_tiny_pipe: MakePipe) -> Any:
    return make_tiny_pipe(max_new_tokens=12)


@pytest.mark.parametrize("n_users", [1, 2])
def test_direct_users_and_callers_get_what_each_gets_alone(pipe: Any, n_users: int) -> None:
    traffic = use_beside_callers(pipe, n_uses=N_USES, n_users=n_users)
    assert traffic.wrong == []
    assert traffic.n_right > 0


def test_a_guarded_object_has_another_class_and_one_attribute_more(pipe: Any) -> None:
    things = (pipe.model, pipe.tokenizer, pipe.model.config, pipe.model.generation_config)
    before = [(type(thing), set(vars(thing))) for thing in things]
    llm = Traffic(pipe, n_callers=1).llm
    guard(llm)
    llm.invoke("One")
    for thing, (kind, names) in zip(things, before, strict=True):
        assert plain_class(thing) is kind
        assert set(vars(thing)) - names <= {OWNER}


def test_no_more_than_one_runs_the_weights_at_once(pipe: Any) -> None:
    inside, most, lock = 0, 0, threading.Lock()
    layer = pipe.model.model.layers[0].self_attn
    plain = type(layer).forward

    def forward(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        try:
            return plain(self, *arguments, **options)
        finally:
            with lock:
                inside -= 1

    layer.__class__ = type("Counted", (type(layer),), {"forward": forward})
    uses, traffic = DirectUses(pipe), Traffic(pipe, n_callers=4)
    guard(traffic.llm)
    wrong: list[str] = []
    with traffic:
        users = [threading.Thread(target=lambda: wrong.extend(uses.run(60))) for _ in range(3)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert (wrong, traffic.wrong, most) == ([], [], 1)


def test_what_torch_is_told_for_a_thread_counts_for_its_direct_calls(pipe: Any) -> None:
    import torch  # noqa: PLC0415 - it takes seconds

    guard(Traffic(pipe, n_callers=1).llm)
    ids = torch.tensor([[5, 6, 7]])
    assert pipe.model(ids).logits.requires_grad
    with torch.no_grad():
        assert not pipe.model(ids).logits.requires_grad
    with torch.inference_mode():
        assert pipe.model(ids).logits.is_inference()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pipe.model(ids).logits.dtype == torch.bfloat16


def test_a_model_that_is_cast_after_its_first_call_goes_on(pipe: Any) -> None:
    import torch  # noqa: PLC0415 - it takes seconds

    traffic = Traffic(pipe, n_callers=1)
    guard(traffic.llm)
    traffic.llm.invoke("One")
    pipe.model.to(torch.bfloat16)
    assert traffic.llm.invoke("One").startswith("One")
    pipe.model.to(torch.float32)
    assert traffic.llm.invoke(traffic.prompts[0]) == traffic.alone[0]


def test_a_model_that_is_cast_between_two_tokens_goes_on(pipe: Any) -> None:
    import torch  # noqa: PLC0415 - it takes seconds

    traffic = Traffic(pipe, n_callers=1)
    guard(traffic.llm)
    stream = traffic.llm.stream("One", pipeline_kwargs={"max_new_tokens": 200})
    head = next(stream)
    pipe.model.to(torch.float64)
    tail = [each for each in stream if each]
    assert head or tail
    pipe.model.to(torch.float32)
    assert traffic.llm.invoke(traffic.prompts[0]) == traffic.alone[0]


def test_two_models_over_one_config_have_their_own_answers(pipe: Any, hf_folder: Path) -> None:  # noqa: ARG001 - the folder is loaded
    import copy  # noqa: PLC0415 - for this test

    other = copy.copy(pipe)
    other.model = type(pipe.model)(pipe.model.config).eval()
    other.model.generation_config.eos_token_id = None
    assert other.model.config is pipe.model.config
    sides = [Traffic(each, n_callers=4) for each in (pipe, other)]
    assert sides[0].alone != sides[1].alone
    for side in sides:
        guard(side.llm)
    with sides[0], sides[1]:
        for side in sides:
            side.wait(40)
    assert [side.wrong for side in sides] == [[], []]
    assert "locktender" not in str(vars(pipe.model.config))


def test_a_hook_of_the_users_sees_what_it_would_without_the_guard(pipe: Any) -> None:
    shapes: list[tuple[int, ...]] = []
    traffic = Traffic(pipe, n_callers=1)
    traffic.llm.invoke("One")
    guard(traffic.llm)
    traffic.llm.invoke("One")
    layer = pipe.model.model.layers[0]
    hook = layer.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape)))
    assert traffic.llm.invoke(traffic.prompts[0]) == traffic.alone[0]
    guarded = list(shapes)
    shapes.clear()
    plain_class(pipe)(
        model=pipe.model, tokenizer=pipe.tokenizer, max_new_tokens=12, do_sample=False
    )(traffic.prompts[0])
    assert guarded == shapes
    assert len(shapes) == 12
    hook.remove()
    assert traffic.llm.invoke(traffic.prompts[0]) == traffic.alone[0]
    assert len(shapes) == 12


def test_a_thread_of_a_model_in_a_way_of_the_users_own_gets_its_turn(pipe: Any) -> None:
    """A text streamer is fed by a thread, which knows nothing of the call that has begun it."""
    from langchain_huggingface import HuggingFacePipeline  # noqa: PLC0415 - it takes seconds

    class Mine(HuggingFacePipeline):
        def _generate(self, *arguments: Any, **options: Any) -> Any:
            return super()._generate(*arguments, **options)

    mine, plain = Mine(pipeline=pipe), Mine(pipeline=pipe)
    alone = "".join(plain.stream("One"))
    guard(mine)
    assert "".join(mine.stream("One")) == alone
    assert mine.invoke("One") == plain.invoke("One")


def test_a_tokenizer_beside_a_raw_model_is_used_in_turns(hf_folder: Path) -> None:
    from langchain_core.runnables import RunnableLambda  # noqa: PLC0415 - it takes seconds
    from transformers import AutoTokenizer  # noqa: PLC0415 - as above

    tokenizer = AutoTokenizer.from_pretrained(hf_folder)
    network = _network()
    chain: Any = RunnableLambda(lambda text: (network, tokenizer(text)["input_ids"]))
    guard_all(RunnableLambda(lambda text: tokenizer(text)["input_ids"]))
    assert plain_class(tokenizer) is type(tokenizer)  # nobody is in danger there
    guard_all(chain)
    assert plain_class(tokenizer) is not type(tokenizer)
    found = set[int]()

    def count(n: int) -> None:
        for _ in range(200):
            options = {"truncation": True, "max_length": n} if n else {}
            found.add(len(tokenizer("one two three four five six", **options)["input_ids"]) - n)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, (2, 3, 4, 5)))
    assert found == {0}


def _network() -> Any:
    import torch  # noqa: PLC0415 - it takes seconds

    return torch.nn.Linear(2, 2)


def test_a_copy_is_made_as_the_class_says(pipe: Any) -> None:
    import copy  # noqa: PLC0415 - for this test

    import torch  # noqa: PLC0415 - it takes seconds

    class Locked(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.lock = threading.Lock()

        def __getstate__(self) -> dict[str, Any]:
            return {name: part for name, part in vars(self).items() if name != "lock"}

        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch gives it no types
            self.lock = threading.Lock()

    network = Locked()
    guard(network)
    for other in (copy.copy(network), copy.deepcopy(network)):
        assert type(other) is type(network)
        assert other.lock is not network.lock
        assert torch.equal(other(torch.ones(2)), network(torch.ones(2)))
    assert copy.deepcopy(pipe.model).config is not pipe.model.config


def test_a_guarded_model_is_compiled_whole(pipe: Any) -> None:
    import torch  # noqa: PLC0415 - it takes seconds

    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        alone = pipe.model(ids).logits
        guard(Traffic(pipe, n_callers=1).llm)
        compiled: Any = torch.compile(pipe.model, fullgraph=True, backend="eager")
        assert torch.equal(compiled(ids).logits, alone)


def test_a_model_that_is_put_into_a_guarded_pipeline_is_guarded_at_its_first_call(
    pipe: Any, make_tiny_pipe: MakePipe
) -> None:
    other = make_tiny_pipe(max_new_tokens=12)
    traffic = Traffic(pipe, n_callers=1)
    guard(traffic.llm)
    pipe.model = other.model
    assert traffic.llm.invoke("One").startswith("One")
    assert is_swapped(other.model)


def test_a_context_that_was_copied_within_a_direct_call_has_no_turn_after_it(pipe: Any) -> None:
    import contextvars  # noqa: PLC0415 - for this test

    import torch  # noqa: PLC0415 - it takes seconds

    guard(Traffic(pipe, n_callers=1).llm)
    owner, copied = owner_of(pipe.model), list[contextvars.Context]()
    hook = pipe.model.register_forward_hook(lambda *_: copied.append(contextvars.copy_context()))
    with torch.no_grad():
        pipe.model(torch.tensor([[5, 6]]))
    hook.remove()
    assert copied[0].run(owner.turn) is None


def test_a_pipeline_is_as_lazy_as_without_the_guard(pipe: Any) -> None:
    def n_taken() -> int:
        taken: list[int] = []

        def texts() -> Iterator[str]:
            for n in range(50):
                taken.append(n)
                yield "One"

        answers = iter(pipe(texts(), max_new_tokens=2))
        assert len([next(answers) for _ in range(3)]) == 3
        return len(taken)

    alone = n_taken()  # all of them in some versions of transformers, three in others
    guard(Traffic(pipe, n_callers=1).llm)
    assert n_taken() == alone
    assert pipe("One", max_new_tokens=2)  # nobody has kept the model


def test_direct_calls_of_a_script_are_not_sent_away_for_being_many(pipe: Any) -> None:
    import torch  # noqa: PLC0415 - it takes seconds

    guard(Traffic(pipe, n_callers=1).llm, max_waiting=1)
    ids, together = torch.tensor([[5, 6]]), threading.Barrier(40)

    def generate(_: int) -> int:
        together.wait(60)
        return int(pipe.model.generate(ids, max_new_tokens=2, do_sample=False).shape[-1])

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(generate, range(40))) == [4] * 40


def test_two_networks_over_one_model_do_not_run_it_at_once(pipe: Any) -> None:
    import torch  # noqa: PLC0415 - it takes seconds

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = pipe.model

        def forward(self, ids: Any) -> Any:
            return self.body(ids).logits.sum()

    inside, most, together = Counter[str](), [0], threading.Barrier(2)

    def enter(*_: Any) -> None:
        inside["body"] += 1
        most[0] = max(most[0], inside["body"])

    def leave(*_: Any) -> None:
        inside["body"] -= 1

    heads = [guard(Head()), guard(Head())]
    pipe.model.register_forward_pre_hook(enter)
    pipe.model.register_forward_hook(leave, always_call=True)

    def run(head: Any) -> None:
        together.wait(60)
        for _ in range(100):
            head(torch.tensor([[5, 6]]))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, heads))
    assert most == [1]
