"""Learn from a model's file or folder how its chats are written.

A GGUF file says it in its header; a Hugging Face folder in `tokenizer.json`,
`tokenizer_config.json` and `chat_template.jinja`.  Nothing heavy is loaded for it: the service
reads these itself, because it renders the chats, and the engine's process only encodes them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from jinja2 import TemplateError

from locktender.core.errors import ConfigError
from locktender.model.gguf import read_vocabulary
from locktender.prompting.chat_format import ChatFormat
from locktender.prompting.chat_template import ChatTemplate
from locktender.prompting.control_token import AddedToken, ControlTokens

__all__ = ["folder_chat_format", "gguf_chat_format"]

_MAX_FILE_BYTES = 256 << 20  # a `tokenizer.json` of 262,144 tokens has 33 MB
# Of the tokens that templates may call by a name.
_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def gguf_chat_format(path: Path) -> ChatFormat:
    """Return how the chats of the GGUF file at `path` are written.  Raises: ConfigError."""
    vocabulary = read_vocabulary(path)
    template = _compiled(vocabulary.chat_template, path)
    return ChatFormat(template, ControlTokens(vocabulary.tokens), vocabulary.named_tokens)


def folder_chat_format(folder: Path) -> ChatFormat:
    """Return the same of a Hugging Face folder.  Raises: ConfigError."""
    config = _read_json(folder / "tokenizer_config.json")
    named = _named_tokens({**_read_json(folder / "special_tokens_map.json"), **config})
    tokens = _tokens(_read_json(folder / "tokenizer.json"), config, named.get("unk_token"))
    source = _read_text(folder / "chat_template.jinja") or _template_of(config)
    return ChatFormat(_compiled(source, folder), ControlTokens(tokens), named)


def _compiled(source: str | None, path: Path) -> ChatTemplate | None:
    if source is None:
        return None
    try:
        return ChatTemplate(source)
    except TemplateError as error:
        message = f"The chat template of {str(path)!r} cannot be read: {error}."
        raise ConfigError(message) from error


def _template_of(config: Mapping[str, Any]) -> str | None:
    """Return the template that is used where none is asked for by name."""
    template = config.get("chat_template")
    if isinstance(template, list):  # of several, each with its name
        named = {each.get("name"): each.get("template") for each in template if _is_object(each)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    found = {f"{name}_token": _text_of(config.get(f"{name}_token")) for name in _NAMES}
    return {name: text for name, text in found.items() if text is not None}


def _tokens(
    tokenizer: Mapping[str, Any], config: Mapping[str, Any], unknown: str | None
) -> Iterator[AddedToken]:
    """Yield the added tokens, of which newer folders and older ones keep their lists apart."""
    listed = tokenizer.get("added_tokens") or []
    older = config.get("added_tokens_decoder") or {}
    entries = [(each.get("id"), each) for each in listed if _is_object(each)]
    if _is_object(older):
        entries += [(number, each) for number, each in older.items() if _is_object(each)]
    for number, each in entries:
        text = _text_of(each)
        if text and str(number).isdecimal():
            is_special = each.get("special") is True
            yield AddedToken(text, int(number), is_special, is_unknown=text == unknown)


def _text_of(token: Any) -> str | None:
    text = token.get("content") if _is_object(token) else token
    return text if isinstance(text, str) else None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _read_json(path: Path) -> Mapping[str, Any]:
    """Return the object in the file; an empty one where there is no file."""
    text = _read_bytes(path)
    if text is None:
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        message = f"The file {str(path)!r} is no JSON: {error}."
        raise ConfigError(message) from error
    return value if isinstance(value, dict) else {}


def _read_text(path: Path) -> str | None:
    text = _read_bytes(path)
    return None if text is None else text.decode("utf-8", errors="replace")


def _read_bytes(path: Path) -> bytes | None:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            message = f"The file {str(path)!r} is longer than {_MAX_FILE_BYTES:,} bytes."
            raise ConfigError(message)
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"The file {str(path)!r} cannot be read: {error.strerror}."
        raise ConfigError(message) from error
