"""Read the config that a path carries: `/c/{config_hash}/invoke`.

A share link, or a client whose base URL ends in one, sets the config of its runs that way.  The
text is JSON, compressed by lz-string and put into the alphabet of URLs.  It is read on the event
loop, and so it may be no longer than an address is.
"""

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from locktender.wire.json_count import most_values
from locktender.wire.json_tree import has_slow_arguments, is_deeper
from locktender.wire.lzstring import decompress_from_encoded_uri_component

__all__ = ["parse_config_hash"]

_MAX_LETTERS = 16_384  # which are unpacked in some 15 ms; proxies take half as many
_MAX_VALUES = 10_000  # or marks that may stand between them: a few letters can be very many
_MAX_DEPTH = 200


def parse_config_hash(text: str) -> Mapping[str, Any]:
    """Return the config that `text` holds.  Raises: HTTPException (400)."""
    try:
        config = _unpacked(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "Invalid config hash") from error
    if not isinstance(config, dict) or is_deeper(config, _MAX_DEPTH) or has_slow_arguments(config):
        raise HTTPException(400, "Invalid config hash")
    return config


def _unpacked(text: str) -> Any:
    if len(text) > _MAX_LETTERS:
        raise ValueError(f"It is longer than {_MAX_LETTERS:,} letters.")
    unpacked = decompress_from_encoded_uri_component(text)
    if most_values(unpacked.encode("utf-8", "surrogatepass")) > _MAX_VALUES:
        raise ValueError(f"It may hold more than {_MAX_VALUES:,} values.")
    return json.loads(unpacked)
