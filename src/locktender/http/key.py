"""Decide whether a request carries a key that opens.

Keys are compared by their hashes and in constant time, so that the time of a refusal tells neither
how much of a guess was right nor how long the key is.  Pure: headers in, a verdict out.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence

__all__ = ["IS_STRANGER", "KEY_IS_WANTED", "NOT_FOR_STRANGERS", "Keys"]

# In the scope of a page that is shown without a key, and so must tell nothing itself.
KEY_IS_WANTED = "locktender.key_is_wanted"
# In the scope of a probe of somebody who would be let in to nothing else: he is told states, and
# in place of what may name files this sentence.
IS_STRANGER = "locktender.is_stranger"
NOT_FOR_STRANGERS = "Not told to strangers: send the key, or see the log."

_BEARER = b"bearer"


class Keys:
    """The keys of one server; `takes_x_api_key` is the wire's to say."""

    def __init__(self, keys: Sequence[str], *, takes_x_api_key: bool) -> None:
        self._digests = [_digest(key.encode()) for key in keys]
        self._takes_x_api_key = takes_x_api_key

    @property
    def is_needed(self) -> bool:
        """Whether there is any key; without one the door is open."""
        return bool(self._digests)

    def open_for(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether one of ASGI's `headers` has one of the keys."""
        for name, value in headers:
            if name == b"authorization":
                scheme, _, key = value.partition(b" ")
                if scheme.lower() == _BEARER and self._opens(key.strip(b" ")):
                    return True
            elif (
                name == b"x-api-key" and self._takes_x_api_key and self._opens(value.strip(b" \t"))
            ):
                return True
        return False

    def _opens(self, given: bytes) -> bool:
        digest = _digest(given)
        return True in [hmac.compare_digest(digest, key) for key in self._digests]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
