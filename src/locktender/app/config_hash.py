"""Read the config that a path carries: `/c/{config_hash}/invoke`.

A share link, or a client whose base URL ends in one, sets the config of its runs that way.  The
text is JSON, compressed by lz-string and put into the alphabet of URLs.
"""

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from locktender.wire.lzstring import decompress_from_encoded_uri_component

__all__ = ["parse_config_hash"]


def parse_config_hash(text: str) -> Mapping[str, Any]:
    """Return the config that `text` holds.  Raises: HTTPException (400)."""
    try:
        config = json.loads(decompress_from_encoded_uri_component(text))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "Invalid config hash") from error
    if not isinstance(config, dict):
        raise HTTPException(400, "Invalid config hash")
    return config
