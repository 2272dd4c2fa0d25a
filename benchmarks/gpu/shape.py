"""A model of Mistral-7B-Instruct-v0.2's shape, whose random weights are made where it runs.

Nothing is fetched.  The tokenizer knows as many words as the model has tokens, and none is special:
an answer of n tokens has n words, and nothing ends it early.
"""

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

__all__ = ["DEVICE", "Sizes", "make_model", "make_pipeline", "mistral_sizes", "tiny_sizes"]

Sizes = dict[str, Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def mistral_sizes() -> Sizes:
    """Return the sizes of Mistral-7B-Instruct-v0.2."""
    return {
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32_768,
        "sliding_window": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    }


def tiny_sizes(**changes: Any) -> Sizes:
    """Return sizes with which everything is tried out in seconds."""
    return {
        **mistral_sizes(),
        "vocab_size": 499,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        **changes,
    }


def make_model(sizes: Sizes, dtype: torch.dtype, seed: int = 5) -> Any:
    """Return a model of random weights without an end token."""
    torch.manual_seed(seed)
    no_tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = transformers.MistralConfig(**sizes, **no_tokens, tie_word_embeddings=False)
    with torch.device(DEVICE):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()


def make_pipeline(*, is_tiny: bool) -> Any:
    """Return the pipeline that both servers have."""
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    model = make_model(tiny_sizes() if is_tiny else mistral_sizes(), dtype)
    words = {f"w{n}": n for n in range(model.config.vocab_size)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))  # noqa: S106 - a word, no secret
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return transformers.pipeline(
        "text-generation",
        model=model,
        tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer),
        device=model.device,
    )
