"""What only the engine of transformers can show, beside the contract that it shares."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from harness.rendered_chat import user
from locktender.core.errors import ConfigError, EngineFailed, EngineStartError, InvalidRequest
from locktender.core.request import (
    Delta,
    FinishReason,
    GenerationRequest,
    Input,
    RenderedInput,
    Sampling,
    TextInput,
)
from locktender.model.engine import EngineSpec
from locktender.model.engines.token_choice import TokenOptions
from locktender.model.engines.transformers import TransformersStepper

MAX_STEPS = 500


def paris() -> RenderedInput:
    return user("What is the capital of France?")


@pytest.fixture(scope="module")
def loaded(hf_folder: Path) -> tuple[Any, Any]:
    """A model and a tokenizer, as a program has them."""
    transformers = import_module("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(hf_folder, dtype="float32").eval()
    return model, transformers.AutoTokenizer.from_pretrained(hf_folder)


@pytest.fixture(scope="module")
def stepper(loaded: tuple[Any, Any]) -> TransformersStepper:
    return TransformersStepper.over(*loaded, max_running=4, kv_bytes=64 << 20)


def request_for(prompt: Input, max_tokens: int = 20, **sampling: Any) -> GenerationRequest:
    return GenerationRequest(
        "1", "m", prompt, max_tokens, Sampling(**{"temperature": 0.0, **sampling})
    )


def drain(stepper: TransformersStepper) -> list[Any]:
    outputs: list[Any] = []
    for _ in range(MAX_STEPS):
        if not stepper.has_work():
            return outputs
        outputs += [output for _, output in stepper.step()]
    raise AssertionError


def answer(stepper: TransformersStepper, request: GenerationRequest, **more: Any) -> Delta:
    stepper.add(1, request, **more)
    whole = Delta()
    for delta in drain(stepper):
        whole += delta
    return whole


def test_the_end_token_ends_an_answer_has_no_text_and_counts(stepper: TransformersStepper) -> None:
    whole = answer(stepper, request_for(paris()))
    assert (whole.text, whole.n_tokens) == ("The capital of France is Paris.", 8)
    assert whole.finish_reason is FinishReason.STOP


def test_the_memory_of_a_store_bounds_its_tokens(stepper: TransformersStepper) -> None:
    assert stepper.limits.kv_tokens <= (64 << 20) // 46_080
    assert stepper.limits.context_tokens == stepper.limits.kv_tokens


def test_the_users_tokenizer_is_not_touched(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    stepper = TransformersStepper.over(model, tokenizer, max_running=1, kv_bytes=8 << 20)
    tokenizer.split_special_tokens, before = True, tokenizer.split_special_tokens
    try:
        assert answer(stepper, request_for(paris())).text.endswith("Paris.")
    finally:
        tokenizer.split_special_tokens = before


def test_options_of_a_pipeline_count_instead_of_the_requests(stepper: TransformersStepper) -> None:
    expected = answer(stepper, request_for(paris(), 4)).text
    hot = request_for(paris(), 4, temperature=2.0)
    assert answer(stepper, hot, options=TokenOptions(99, temperature=1.0, top_k=1)).text == expected


def test_a_character_of_several_tokens_comes_out_whole(stepper: TransformersStepper) -> None:
    stepper.add(1, request_for(TextInput("🎉 🎉 🎉 🎉 🎉 🎉 🎉 🎉"), 12))
    texts = [output.text for output in drain(stepper)]
    assert "👩👩" in "".join(texts)
    assert "" in texts  # a token that was only a part of a character
    assert "\ufffd" not in "".join(texts[:-1])  # the last one is cut off


def test_half_a_surrogate_pair_is_refused(stepper: TransformersStepper) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        stepper.add(1, request_for(TextInput("a\ud800")))
    assert not stepper.has_work()


def test_a_model_that_fails_ends_the_request_with_a_typed_error(
    loaded: tuple[Any, Any], stepper: TransformersStepper
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("out of memory")

    hook = loaded[0].register_forward_pre_hook(refuse)
    stepper.add(1, request_for(paris()))
    (failed,) = [output for output in drain(stepper) if not isinstance(output, Delta)]
    hook.remove()
    assert isinstance(failed, EngineFailed)
    assert answer(stepper, request_for(paris())).text.endswith("Paris.")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((("kv_byte", 5),), "no option 'kv_byte'"),
        ((("dtype", "int3"),), "no dtype 'int3'"),
        ((("kv_bytes", "many"),), "'kv_bytes' must be a whole number"),
    ],
)
def test_an_option_that_cannot_work_is_a_config_error(
    options: tuple[tuple[str, str | int], ...], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TransformersStepper(EngineSpec("transformers", 2, str(tmp_path), options))


def test_what_is_no_folder_of_a_model_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder of a transformers model"):
        TransformersStepper(EngineSpec("transformers", 2, str(tmp_path / "absent")))


def test_a_broken_folder_is_a_start_error(tmp_path: Path) -> None:
    tmp_path.joinpath("config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EngineStartError, match="cannot load"):
        TransformersStepper(EngineSpec("transformers", 2, str(tmp_path)))
