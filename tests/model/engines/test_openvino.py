"""What only the real engine can show, beside the contract that it shares with its twin."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.rendered_chat import user
from locktender.core.errors import (
    ConfigError,
    ContextTooLong,
    EngineFailed,
    EngineStartError,
    InvalidRequest,
)
from locktender.core.request import (
    Delta,
    FinishReason,
    GenerationRequest,
    Input,
    RenderedInput,
    Sampling,
    TextInput,
)
from locktender.model.engine import EngineSpec, Limits
from locktender.model.engines.openvino import OpenVinoStepper

MAX_STEPS = 2000
GREEDY = Sampling(temperature=0.0)


@pytest.fixture
def stepper(openvino_stepper: OpenVinoStepper) -> Iterator[OpenVinoStepper]:
    yield openvino_stepper
    openvino_stepper.cancel(1)
    drain(openvino_stepper)


def request_for(
    prompt: Input, max_tokens: int = 40, sampling: Sampling = GREEDY
) -> GenerationRequest:
    return GenerationRequest("1", "m", prompt, max_tokens, sampling)


def drain(stepper: OpenVinoStepper) -> list[Delta]:
    deltas: list[Delta] = []
    for _ in range(MAX_STEPS):
        if not stepper.has_work():
            return deltas
        deltas += [output for _, output in stepper.step() if isinstance(output, Delta)]
    raise AssertionError


def answer(stepper: OpenVinoStepper, request: GenerationRequest) -> Delta:
    stepper.add(1, request)
    whole = Delta()
    for delta in drain(stepper):
        whole += delta
    return whole


def test_the_end_token_ends_an_answer_has_no_text_and_counts(stepper: OpenVinoStepper) -> None:
    whole = answer(stepper, request_for(user("What is the capital of France?")))
    assert whole.text == "The capital of France is Paris."
    assert whole.finish_reason is FinishReason.STOP
    assert whole.n_tokens == 8  # "The", " capital", " of", " France", " is", " Paris", ".", end


def test_a_character_of_several_tokens_comes_out_whole(stepper: OpenVinoStepper) -> None:
    stepper.add(1, request_for(TextInput("🎉 🎉 🎉 🎉 🎉 🎉 🎉 🎉"), 12))
    texts = [delta.text for delta in drain(stepper)]
    assert "🎉" in "".join(texts)
    assert "" in texts  # a token that was only a part of a character
    assert "\ufffd" not in "".join(texts)


def test_without_a_seed_answers_differ(stepper: OpenVinoStepper) -> None:
    request = request_for(user("Write a poem about the sea."), 12, Sampling(temperature=1.0))
    assert len({answer(stepper, request).text for _ in range(3)}) > 1


@pytest.mark.parametrize("seed", [-1, 1 << 32, (1 << 63) - 1])
def test_a_seed_is_taken_whole_or_not_at_all(stepper: OpenVinoStepper, seed: int) -> None:
    for fine in (0, (1 << 32) - 1):
        sampling = Sampling(temperature=1.0, seed=fine)
        assert answer(stepper, request_for(user("Hi."), 2, sampling)).n_tokens == 2
    with pytest.raises(InvalidRequest, match="seeds of 32 bits"):
        stepper.add(1, request_for(user("Hi."), 2, Sampling(temperature=1.0, seed=seed)))
    assert not stepper.has_work()


@pytest.mark.parametrize(
    "sampling",
    [Sampling(1e-30, seed=1), Sampling(1e-5, seed=1), Sampling(1.0, top_p=1e-9, seed=1)],
)
def test_hardly_any_chance_is_none(stepper: OpenVinoStepper, sampling: Sampling) -> None:
    prompt = user("What is the capital of France?")
    assert answer(stepper, request_for(prompt, sampling=sampling)).text.endswith("Paris.")


def test_the_usage_is_told_before_a_long_prompt_is_read(stepper: OpenVinoStepper) -> None:
    stepper.add(1, request_for(TextInput("one word after another " * 70), 1))
    first, *rest = drain(stepper)
    assert first == Delta(prompt_tokens=281)
    assert [delta.n_tokens for delta in rest] == [1]


def test_half_a_surrogate_pair_is_refused(stepper: OpenVinoStepper) -> None:
    for prompt in (TextInput("a\ud800"), RenderedInput("a\udfff")):
        with pytest.raises(InvalidRequest, match="surrogate"):
            stepper.add(1, request_for(prompt))
    assert not stepper.has_work()


def test_a_prompt_that_the_tokenizer_cuts_off_is_refused(stepper: OpenVinoStepper) -> None:
    with pytest.raises(ContextTooLong, match="at least 8192 tokens"):
        stepper.add(1, request_for(TextInput("word " * 8200), 1))


def test_a_cancelled_answer_gives_its_cache_back(stepper: OpenVinoStepper) -> None:
    stepper.add(1, request_for(user("Tell me a long story about a fox."), 400))
    for _ in range(3):
        stepper.step()
    assert stepper.kv_usage() > 0
    stepper.cancel(1)
    assert stepper.has_work()
    assert stepper.step() == []
    assert not stepper.has_work()
    stepper.step()  # the figures are those of the beginning of a step
    assert stepper.kv_usage() == 0


def test_the_cache_takes_a_gigabyte_and_no_more(stepper: OpenVinoStepper) -> None:
    answer(stepper, request_for(user("Hi."), 1))
    block_bytes = 32 * 30 * 3 * 2 * 64 * 4
    assert (1 << 30) - block_bytes < stepper.kv_bytes() <= 1 << 30
    # Each of 16 answers may leave 31 places of its last block empty.
    assert stepper.limits.kv_tokens == stepper.kv_bytes() // block_bytes * 32 - 16 * 31


def test_the_fast_preset_in_a_small_cache(smollm2: Path) -> None:
    options = (("preset", "fast"), ("kv_tokens", 100), ("prefix_cache", False))
    spec = EngineSpec("openvino", max_running=2, source=str(smollm2), options=options)
    small = OpenVinoStepper(spec)
    assert (small.limits.context_tokens, small.limits.kv_tokens) == (100, 100)
    assert "Paris" in answer(small, request_for(user("What is the capital of France?"))).text
    assert small.kv_bytes() == 6 * 437_760  # blocks for 100 tokens and two times 31
    with pytest.raises(ContextTooLong, match=r"may have 100\."):
        small.add(1, request_for(user("Hi."), 90))
    # What its own limits rule out: an answer for which the whole cache is too small.
    small.limits = Limits(max_running=2, context_tokens=8192, kv_tokens=8192)
    small.add(1, request_for(TextInput("one two three " * 50), 400))
    ends = [output for _ in range(200) for _, output in small.step()]
    assert isinstance(ends[-1], EngineFailed)
    assert not small.has_work()
    assert "Paris" in answer(small, request_for(user("What is the capital of France?"))).text
    small.add(1, request_for(user("Hi.")))
    small.close()
    small.close()
    assert not small.has_work()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((("preset", "exactly"),), "no preset 'exactly': use one of exact, fast"),
        ((("kv_token", 5),), "no option 'kv_token'"),
        ((("kv_tokens", "many"),), "'kv_tokens' must be a whole number"),
        ((("max_batched_tokens", 0),), "'max_batched_tokens' must be a whole number"),
    ],
)
def test_an_option_that_cannot_work_is_a_config_error(
    options: tuple[tuple[str, str | int], ...], sentence: str, smollm2: Path
) -> None:
    spec = EngineSpec("openvino", max_running=2, source=str(smollm2), options=options)
    with pytest.raises(ConfigError, match=sentence):
        OpenVinoStepper(spec)


def test_a_cache_without_room_for_the_requests_is_a_config_error(smollm2: Path) -> None:
    with pytest.raises(ConfigError, match="no room for 1000 requests"):
        OpenVinoStepper(EngineSpec("openvino", max_running=1000, source=str(smollm2)))


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        OpenVinoStepper(EngineSpec("openvino", max_running=1, source=str(tmp_path / "absent")))


def test_a_model_that_openvino_cannot_load_is_a_start_error(smollm2: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with smollm2.open("rb") as file:
        path.write_bytes(file.read(4 << 20).replace(b"llama", b"bloom"))
    os.truncate(path, smollm2.stat().st_size)  # a hole in place of the weights
    with pytest.raises(EngineStartError, match=r"OpenVINO cannot load .*model\.gguf"):
        OpenVinoStepper(EngineSpec("openvino", max_running=1, source=str(path)))


def test_to_count_a_prompt_that_is_all_forged_takes_few_calls_of_the_tokenizer(
    stepper: OpenVinoStepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One call for each of them would hold the engine up for longer than an engine may stand still.
    texts = stepper._tokenizer  # noqa: SLF001 - no other way
    calls: list[int] = []
    encode = texts._encode_texts  # noqa: SLF001 - as above

    def counted(each: list[str]) -> list[list[int]]:
        calls.append(len(each))
        return encode(each)

    monkeypatch.setattr(texts, "_encode_texts", counted)
    n_forged = 2000
    ids = stepper.encode(user("<|im_end|>" * n_forged))
    assert len(ids) > 2 * n_forged
    assert len(calls) < n_forged // 50
    # And one that would be cut off is encoded in halves, whatever stands beside it.
    calls.clear()
    whole = stepper.encode(user("<|im_end|>" + " sea" * (2 * stepper.limits.context_tokens)))
    assert whole.count(stepper.encode(TextInput(" sea"))[0]) == 2 * stepper.limits.context_tokens
