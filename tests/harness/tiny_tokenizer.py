"""Tiny tokenizers of each kind, the chat templates that go with them, and chats to write.

The vocabularies are learnt in the test from a few sentences; what a family's tokenizer does to a
text before that (byte by byte, or with a sign for the space) is as in the large ones.
"""

import json
import string
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% elif loop.first %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ raise_exception('Only the first message may be a system message.') }}"
    "{% endif %}{% endfor %}"
)
# As models that think have it: their thoughts in former turns are left out.
THINKING = (
    "{%- macro text_of(content) %}{% if content is string %}{{ content }}{% else %}"
    "{% for part in content %}{{ part.text }}{% endfor %}{% endif %}{% endmacro %}"
    "{%- for message in messages %}{%- set content = text_of(message.content) | trim %}"
    "{%- if message.role == 'assistant' and '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{ '<|im_start|>' ~ message.role ~ '\n' ~ content ~ '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{%- endif %}"
)

_WORDS = (
    "The gate lets in whoever waits his turn, and nobody waits without an end. "
    "def f(x):\n    return x + 1\n user system assistant <b>bold</b> [1, 2] {'a': 3} INST im_end"
)
_SCRIPTS = (
    *(
        "Hello, how are you?",
        "Grüße aus Köln, çà et là.",
        "Привет, как дела?",
        "你好世界。",
        "日本語です",
    ),
    *(
        "안녕하세요",
        "مرحبا بالعالم",
        "שלום עולם",
        "नमस्ते दुनिया",
        "สวัสดี",
        "Ελλάδα ζει",
        "👩‍👩‍👧 🎉 e\u0301",
    ),
    *("def f(x):\n\treturn [x < 1, x >> 2]  # a|b", "<a href='x'>&amp;</a>\n<b/>", "x < | y |> z"),
    *("{{ 1 }} {% if %} %s {0}", "a\r\nb\n\n\nc", "  two  spaces  ", "</s", "1,234.50 €"),
)
_AROUND = ("{}", " {}", "{}\n", "\n\n{} ", "\t{}\t", "{} <|", "<{}", "[{}]", "{0} {0}", "{}|>")
# Two hundred texts that anybody may write.
HONEST = tuple(
    [around.format("{}").replace("{}", text) for text in _SCRIPTS for around in _AROUND[:10]]
)


def chats_of(text: str) -> list[list[dict[str, str]]]:
    """Return chats in which `text` stands at each place."""
    user = {"role": "user", "content": text}
    return [
        [user],
        [{"role": "system", "content": text}, {"role": "user", "content": "go on"}],
        [user, {"role": "assistant", "content": text}, {"role": "user", "content": ""}],
    ]


def byte_level(*special: str, plain: Sequence[str] = (), **options: Any) -> Any:
    """Return a tokenizer that writes texts byte by byte, as GPT's family does."""
    parts = import_module("tokenizers")
    tokenizer = parts.Tokenizer(parts.models.BPE())
    tokenizer.pre_tokenizer = parts.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = parts.decoders.ByteLevel()
    alphabet = parts.pre_tokenizers.ByteLevel.alphabet()
    trainer = parts.trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([_WORDS], trainer)
    return _finished(tokenizer, special, plain, options)


def metaspace(*special: str, scheme: str = "first", **options: Any) -> Any:
    """Return a tokenizer that writes spaces as a sign of their own, as SentencePiece does.

    The sign comes before the first word (``first``), before that of each stretch (``always``), or
    is put there when texts are normalized, as in the oldest ones (``normalized``).
    """
    parts = import_module("tokenizers")
    tokenizer = parts.Tokenizer(parts.models.BPE(byte_fallback=True, unk_token="<unk>"))
    is_normalized = scheme == "normalized"
    prepend_scheme = "always" if is_normalized else scheme
    tokenizer.pre_tokenizer = parts.pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    space = parts.decoders.Metaspace(prepend_scheme=prepend_scheme)
    tokenizer.decoder = parts.decoders.Sequence([parts.decoders.ByteFallback(), space])
    trainer = parts.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator([_WORDS.replace("\n", " ")], trainer)
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for n in range(256):  # for characters that it has not: no added tokens
        vocabulary[f"<0x{n:02X}>"] = len(vocabulary)
    tokenizer = parts.Tokenizer.from_str(json.dumps(state))
    if is_normalized:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = parts.normalizers.Sequence(
            [parts.normalizers.Prepend("\u2581"), parts.normalizers.Replace(" ", "\u2581")]
        )
    return _finished(tokenizer, special, (), {"unk_token": "<unk>", **options})


def unigram(*special: str, **options: Any) -> Any:
    """Return a tokenizer that knows not every character, as T5's family has it."""
    parts = import_module("tokenizers")
    tokenizer = parts.Tokenizer(parts.models.Unigram())
    tokenizer.pre_tokenizer = parts.pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = parts.decoders.Metaspace(prepend_scheme="first")
    trainer = parts.trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([_WORDS, string.printable], trainer)
    return _finished(tokenizer, special, (), {"unk_token": "<unk>", **options})


def _finished(tokenizer: Any, special: Sequence[str], plain: Sequence[str], options: Any) -> Any:
    transformers = import_module("transformers")
    finished = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **options
    )
    finished.add_special_tokens({"additional_special_tokens": list(special)})
    finished.add_tokens(list(plain))
    return finished


def _chatml() -> Any:
    return byte_level("<|im_start|>", "<|im_end|>", chat_template=CHATML)


def _llama3() -> Any:
    special = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return byte_level(*special, bos_token="<|begin_of_text|>", chat_template=LLAMA3)


def _mistral() -> Any:
    named = {"bos_token": "<s>", "eos_token": "</s>"}
    return metaspace("[INST]", "[/INST]", chat_template=MISTRAL, **named)


def _mistral_legacy() -> Any:
    named = {"bos_token": "<s>", "eos_token": "</s>"}
    return metaspace("[INST]", "[/INST]", scheme="always", chat_template=MISTRAL, **named)


def _mistral_oldest() -> Any:
    named = {"bos_token": "<s>", "eos_token": "</s>"}
    return metaspace("[INST]", "[/INST]", scheme="normalized", chat_template=MISTRAL, **named)


def _unigram() -> Any:
    return unigram("<|im_start|>", "<|im_end|>", chat_template=CHATML)


def _thinking() -> Any:
    plain = ["<think>", "</think>", "<tool_call>"]
    return byte_level("<|im_start|>", "<|im_end|>", plain=plain, chat_template=THINKING)


FAMILIES: dict[str, Callable[[], Any]] = {
    "chatml": cache(_chatml),
    "llama3": cache(_llama3),
    "mistral": cache(_mistral),
    "mistral-legacy": cache(_mistral_legacy),
    "mistral-oldest": cache(_mistral_oldest),
    "thinking": cache(_thinking),
    "unigram": cache(_unigram),
}
