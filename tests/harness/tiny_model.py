"""A model of no worth as a Hugging Face folder: it loads in no time, and says what it likes."""

from importlib import import_module
from pathlib import Path
from typing import Any

from harness.tiny_tokenizer import byte_level

__all__ = ["GEMMA", "make_tiny_model", "served_by_transformers"]

# What it refuses, and how, is as in Gemma's template.
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)


def make_tiny_model(folder: Path, template: str | None) -> Path:
    """Write the folder of a model whose chats `template` writes; None: it has none."""
    torch, transformers = import_module("torch"), import_module("transformers")
    tokenizer = byte_level("<|im_start|>", "<|im_end|>", chat_template=template)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.5,  # far enough apart that there is a likeliest token
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.LlamaForCausalLM(config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def served_by_transformers(folder: Path) -> dict[str, Any]:
    """Return the table of a model that is served from `folder`."""
    return {"engine": "transformers", "source": str(folder), "options": {"device": "cpu"}}
