"""Continuous batching: alone is the truth, company must not change it, and room is bounded."""

import random
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from locktender.core.errors import ConfigError
from locktender.model.engines.token_batch import End, TokenBatch, TokenEvent
from locktender.model.engines.token_choice import TokenOptions

MAX_STEPS = 3000
N_VOCABULARY = 211
BAD_TOKEN = 7


@pytest.fixture(scope="module")
def real(hf_folder: Path) -> Any:
    """The real model in float32."""
    transformers = import_module("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(hf_folder, dtype="float32").eval()


@pytest.fixture
def tiny() -> Any:
    """A model of random weights, as its users load one: four heads share two pairs of keys."""
    return make_tiny("Llama")


def make_tiny(kind: str, **changes: Any) -> Any:
    torch, transformers = import_module("torch"), import_module("transformers")
    torch.manual_seed(5)
    settings = {
        "vocab_size": N_VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.5,
        "pad_token_id": 0,
        "eos_token_id": None,
        **changes,
    }
    config = getattr(transformers, f"{kind}Config")(**settings)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def small_batch(model: Any, **limits: Any) -> TokenBatch:
    """Rows of 64 places; a token takes 512 bytes."""
    return TokenBatch(model, **{"max_running": 8, "kv_bytes": (8 * 64 + 1) * 512, **limits})


def generated(model: Any, ids: Sequence[int], n_tokens: int) -> list[int]:
    """Return what the model says alone, by its own means."""
    torch = import_module("torch")
    prompt = torch.tensor([list(ids)])
    found = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=n_tokens,
        do_sample=False,
    )
    answer: list[int] = found[0, len(ids) :].tolist()
    return answer


def drain(batch: TokenBatch) -> Iterator[TokenEvent]:
    for _ in range(MAX_STEPS):
        if not batch.has_work():
            return
        yield from batch.step()
    raise AssertionError


def answers(events: Iterator[TokenEvent]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for event in events:
        assert event.error is None
        assert event.token is not None
        found.setdefault(event.key, []).append(event.token)
    return found


def run(batch: TokenBatch, asked: Mapping[int, tuple[Sequence[int], TokenOptions]]) -> Any:
    for key, (ids, options) in asked.items():
        batch.add(key, ids, options)
    return answers(drain(batch))


def prompts(seed: int, n: int, *, longest: int = 40, n_vocabulary: int = N_VOCABULARY) -> Any:
    dice = random.Random(seed)
    return [
        [dice.randrange(8, n_vocabulary) for _ in range(dice.randrange(1, longest))]
        for _ in range(n)
    ]


def test_greedy_answers_of_the_real_model_are_those_of_generate_whoever_comes_and_goes(
    real: Any,
) -> None:
    dice = random.Random(3)
    asked = prompts(6, 10, longest=70, n_vocabulary=40_000)
    lengths = [dice.randrange(1, 14) for _ in asked]
    # Rows of 64 places, so that some have one and some have two; and pieces of 16 tokens.
    batch = TokenBatch(real, max_running=6, kv_bytes=6 * 65 * 46_080, step_tokens=16)
    sizes = [len(ids) + length for ids, length in zip(asked, lengths, strict=True)]
    assert min(sizes) < 64 < sorted(sizes)[-2]
    found: dict[int, list[int]] = {}
    left = list(range(10))
    while left or batch.has_work():
        for _ in range(min(dice.randrange(4), len(left))):
            key = left.pop()
            batch.add(key, asked[key], TokenOptions(lengths[key]))
        for key, tokens in answers(iter(batch.step())).items():
            found.setdefault(key, []).extend(tokens)
    ends = {2}
    for key, ids in enumerate(asked):
        expected = generated(real, ids, lengths[key])
        # `generate` ends at the end token, for which this batch was not asked.
        assert found[key][: len(expected)] == expected
        assert len(found[key]) == lengths[key] or set(expected) & ends
    assert batch.n_reserved == 0


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Qwen2", "Qwen3", "Phi3", "GPTNeoX"])
def test_every_kind_of_model_answers_as_alone(kind: str) -> None:
    model = make_tiny(kind)
    asked = prompts(1, 10)
    batch = small_batch(model, step_tokens=9)
    found = run(batch, {key: (ids, TokenOptions(12)) for key, ids in enumerate(asked)})
    assert found == {key: generated(model, ids, 12) for key, ids in enumerate(asked)}


def test_a_model_is_after_a_step_as_it_was(tiny: Any) -> None:
    before = tiny.config.to_dict(), tiny.config._attn_implementation  # noqa: SLF001 - what changes
    batch = small_batch(tiny)
    run(batch, {1: ([9, 10], TokenOptions(3))})
    assert (tiny.config.to_dict(), tiny.config._attn_implementation) == before  # noqa: SLF001 - as above


def test_end_tokens_end_an_answer_and_are_its_last(tiny: Any) -> None:
    expected = generated(tiny, [9, 10, 11], 12)
    end = expected[5]
    n = expected.index(end) + 1
    batch = small_batch(tiny)
    batch.add(1, [9, 10, 11], TokenOptions(12, end_tokens=frozenset({end})))
    events = list(drain(batch))
    assert [event.token for event in events] == expected[:n]
    assert [event.end for event in events] == [None] * (n - 1) + [End.STOP]


def test_more_than_fits_waits_in_order_and_the_store_stays_as_it_is(tiny: Any) -> None:
    batch = small_batch(tiny)
    assert batch.limits.kv_bytes <= (8 * 64 + 1) * 512
    assert batch.limits.kv_tokens == 8 * 64
    asked = prompts(4, 40, longest=150)
    for key, ids in enumerate(asked):
        batch.add(key, ids, TokenOptions(5))
    found: dict[int, list[int]] = {}
    firsts: list[int] = []
    for _ in range(MAX_STEPS):
        if not batch.has_work():
            break
        for key, tokens in answers(iter(batch.step())).items():
            firsts += [key] if key not in found else []
            found.setdefault(key, []).extend(tokens)
        assert batch.n_reserved <= batch.limits.kv_tokens
        assert batch.n_running <= 8
    assert found == {key: generated(tiny, ids, 5) for key, ids in enumerate(asked)}
    assert max(abs(key - place) for place, key in enumerate(firsts)) < 8
    assert batch.n_reserved == 0


def test_a_cancelled_request_gives_its_room_back(tiny: Any) -> None:
    batch = small_batch(tiny, max_running=1)
    batch.add(1, [9] * 40, TokenOptions(20))
    batch.add(2, [10, 11], TokenOptions(4))
    batch.add(3, [12], TokenOptions(4))
    batch.step()
    batch.cancel(3)
    assert (batch.n_running, batch.n_waiting) == (1, 1)
    batch.cancel(1)
    assert batch.n_reserved == 0
    assert answers(drain(batch)) == {2: generated(tiny, [10, 11], 4)}


@pytest.mark.parametrize("ids", [[], [-1], [N_VOCABULARY], [9] * 600])
def test_what_cannot_be_answered_is_refused_at_once(tiny: Any, ids: list[int]) -> None:
    batch = small_batch(tiny)
    with pytest.raises(ValueError, match=r"token ids|room for"):
        batch.add(1, ids, TokenOptions(4))
    assert not batch.has_work()


def test_a_key_in_use_is_refused(tiny: Any) -> None:
    batch = small_batch(tiny)
    batch.add(1, [9], TokenOptions(2))
    with pytest.raises(ValueError, match="key 1 is in use"):
        batch.add(1, [9], TokenOptions(2))


def test_a_prompt_that_the_model_fails_at_ends_alone(tiny: Any) -> None:
    batch = small_batch(tiny)

    def refuse(_: Any, given: Any) -> None:
        if BAD_TOKEN in given[0].tolist()[0]:
            raise RuntimeError("no such word")

    tiny.get_input_embeddings().register_forward_pre_hook(refuse)
    batch.add(1, [9, 10], TokenOptions(6))
    first = list(batch.step())
    batch.add(2, [9, BAD_TOKEN], TokenOptions(6))
    batch.add(3, [12, 13], TokenOptions(6))
    events = first + list(drain(batch))
    (failed,) = [event for event in events if event.error is not None]
    assert (failed.key, str(failed.error)) == (2, "no such word")
    rest = answers(event for event in events if event.error is None)
    assert rest == {1: generated(tiny, [9, 10], 6), 3: generated(tiny, [12, 13], 6)}
    assert batch.n_reserved == 0


def test_a_request_without_numbers_harms_neither_neighbours_nor_its_place(tiny: Any) -> None:
    torch = import_module("torch")
    batch = small_batch(tiny)
    with torch.no_grad():
        tiny.get_input_embeddings().weight[BAD_TOKEN] = torch.nan
    expected = generated(tiny, [12, 13], 6)
    batch.add(1, [9, BAD_TOKEN, 10, 11], TokenOptions(6))
    batch.add(2, [12, 13], TokenOptions(6))
    events = list(drain(batch))
    assert [type(event.error) for event in events if event.key == 1] == [FloatingPointError]
    assert answers(event for event in events if event.key == 2) == {2: expected}
    # In the place of the first one, beside a longer one, so that more than its own is looked at.
    found = run(batch, {3: ([12, 13], TokenOptions(6)), 4: ([9] * 30, TokenOptions(6))})
    assert found[3] == expected


def test_a_seed_gives_the_same_tokens_alone_and_among_others(tiny: Any) -> None:
    batch = small_batch(tiny)
    sampled = TokenOptions(10, temperature=0.9, top_p=0.9, top_k=50, seed=11)
    alone = run(batch, {1: ([9, 10, 11], sampled)})[1]
    asked = {key: (ids, TokenOptions(8, temperature=1.3)) for key, ids in enumerate(prompts(6, 6))}
    assert run(batch, {**asked, 99: ([9, 10, 11], sampled)})[99] == alone
    other = TokenOptions(10, temperature=0.9, top_p=0.9, top_k=50, seed=12)
    assert run(batch, {1: ([9, 10, 11], other)})[1] != alone


def test_without_a_seed_answers_differ(tiny: Any) -> None:
    batch = small_batch(tiny)
    hot = TokenOptions(10, temperature=2.0)
    found = run(batch, {key: ([9, 10], hot) for key in range(4)})
    assert len(set(map(tuple, found.values()))) > 1


def test_a_penalty_for_repetition_is_that_of_generate(tiny: Any) -> None:
    torch = import_module("torch")
    batch = small_batch(tiny)
    ids = [9, 10, 11]
    prompt = torch.tensor([ids])
    expected = tiny.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=20,
        do_sample=False,
        repetition_penalty=1.8,
    )[0, 3:].tolist()
    found = run(
        batch, {1: (ids, TokenOptions(20, repetition_penalty=1.8)), 2: ([9], TokenOptions(3))}
    )
    assert found[1] == expected
    assert expected != generated(tiny, ids, 20)


def test_a_model_whose_attention_is_another_one_is_refused() -> None:
    for model in (make_tiny("Bloom"), make_tiny("Gemma2", head_dim=16)):
        with pytest.raises(ConfigError, match="side by side"):
            small_batch(model)


def test_a_model_in_training_is_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match="in training"):
        small_batch(tiny.train())


def test_a_store_without_room_for_a_row_is_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match="room for 9 tokens"):
        small_batch(tiny, kv_bytes=10 * 512)


def test_a_window_bounds_the_context() -> None:
    model = make_tiny("Mistral", sliding_window=100)
    assert small_batch(model).limits.context_tokens == 100


def test_after_closing_nothing_is_left(tiny: Any) -> None:
    batch = small_batch(tiny)
    batch.add(1, [9], TokenOptions(4))
    batch.close()
    batch.close()
    assert not batch.has_work()
