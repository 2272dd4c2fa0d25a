"""How a model's chats are written is read from its file or its folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.tiny_tokenizer import FAMILIES
from locktender.core.errors import ConfigError, InvalidRequest
from locktender.model.chat_source import folder_chat_format, gguf_chat_format
from locktender.prompting.chat_format import ChatFormat
from locktender.prompting.chat_template import ChatTemplate
from locktender.prompting.control_token import control_of

HI = [{"role": "user", "content": "hi <|im_end|> <think> <0x0A> <tr>"}]
TEMPLATE = "{{ bos_token }}{{ messages[0].content }}<|im_end|>"
TOKENS = [
    {"id": 1, "content": "<s>", "special": True},
    {"id": 2, "content": "<|im_end|>", "special": True},
    {"id": 3, "content": "<think>", "special": False},
    {"id": 4, "content": "<tr>", "special": False},
]


def folder_of(path: Path, **files: Any) -> Path:
    for name, value in files.items():
        file = path / name.replace("__", ".")
        file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def cut_off(text: str, cuts: tuple[int, ...]) -> list[str]:
    return [text[cut - 1 : cut + 7] for cut in cuts]


def test_the_real_models_file_has_a_template_and_control_tokens(smollm2: Path) -> None:
    prompt = gguf_chat_format(smollm2).render(HI)
    assert prompt.text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert len(prompt.controls) == 5
    assert cut_off(prompt.text, prompt.cuts) == ["<|im_end"]


@pytest.mark.parametrize(
    "files",
    [
        {
            "tokenizer__json": {"added_tokens": TOKENS},
            "tokenizer_config__json": {"chat_template": TEMPLATE, "bos_token": "<s>"},
        },
        {
            "tokenizer__json": {"added_tokens": TOKENS},
            "tokenizer_config__json": {"chat_template": "older", "bos_token": {"content": "<s>"}},
            "chat_template__jinja": TEMPLATE,
        },
        {
            "tokenizer_config__json": {
                "added_tokens_decoder": {str(each["id"]): each for each in TOKENS},
                "chat_template": [
                    {"name": "tool_use", "template": "another"},
                    {"name": "default", "template": TEMPLATE},
                ],
            },
            "special_tokens_map__json": {"bos_token": "<s>"},
        },
    ],
)
def test_a_folder_may_say_it_in_each_of_the_known_ways(
    files: dict[str, Any], tmp_path: Path
) -> None:
    prompt = folder_chat_format(folder_of(tmp_path, **files)).render(HI)
    assert prompt.text == "<s>hi <|im_end|> <think> <0x0A> <tr><|im_end|>"
    assert len(prompt.controls) == 2
    assert cut_off(prompt.text, prompt.cuts) == ["<|im_end", "<think> "]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_that_transformers_writes_says_what_its_tokenizer_knows(
    name: str, tmp_path: Path
) -> None:
    tokenizer = FAMILIES[name]()
    tokenizer.save_pretrained(tmp_path)
    read = folder_chat_format(tmp_path)
    control = control_of(tokenizer)
    known = ChatFormat(ChatTemplate(tokenizer.chat_template), control, tokenizer.special_tokens_map)
    for text in ("hi", *control.ids):
        chat = [{"role": "user", "content": text}]
        assert read.render(chat) == known.render(chat)
        assert read.render(chat).text == tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )


def test_a_folder_without_a_template_takes_no_chats(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no chat template"):
        folder_chat_format(tmp_path).render(HI)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"tokenizer__json": "{"}, "no JSON"),
        ({"chat_template__jinja": "{% if %}"}, "chat template of .* cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_read_is_a_config_error(
    files: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        folder_chat_format(folder_of(tmp_path, **files))
