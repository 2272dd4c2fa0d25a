"""Agree with a server on our extensions: ask once, before anything extended is sent.

A server that knows them has a page that says so, and LangServe's has none.  What a server that does
not know them would pass over in silence is never sent to it: keyword arguments are refused, and
values go as LangServe has them.  What the extended form is stands in `extension`; `client` asks for
the codec before each call.
"""

from collections.abc import Mapping
from typing import Any

import httpx

from locktender.app.client_codec import Codec
from locktender.app.client_error import Response, broken, status_error
from locktender.app.extension import ExtensionSerializer
from locktender.wire.extension import EXTENSIONS_VERSION

__all__ = ["Agreement", "PeerSerializer", "check_carried"]

_PAGE = "/extensions"
_NO_SUCH_PAGE = (404, 405)


class PeerSerializer(ExtensionSerializer):
    """The extended form, in which a server's mistake is a PeerError."""

    def loadd(self, obj: Any) -> Any:
        """Return the objects that parsed JSON stands for.  Raises: PeerError, a ValueError too."""
        try:
            return super().loadd(obj)
        except ValueError as error:
            raise broken(f"The server sent what is no value. {error}", ValueError) from error


class Agreement:
    """What is spoken with one server: `plain` unless there is an `extended` that it knows."""

    def __init__(self, plain: Codec, extended: Codec | None) -> None:
        self._plain = plain
        self._extended = extended
        self._agreed = plain if extended is None else None

    def find(self, client: httpx.Client, *, is_needed: bool = True) -> Codec:
        """Return the codec for a call; for one that sends nothing, nobody is asked.

        Raises: httpx.HTTPStatusError, httpx's other errors.
        """
        if self._agreed is None and not is_needed:
            return self._extended or self._plain
        if self._agreed is None:
            self._agreed = self._understood(client.get(_PAGE))
        return self._agreed

    async def find_async(self, client: httpx.AsyncClient, *, is_needed: bool = True) -> Codec:
        """Do as `find`."""
        if self._agreed is None and not is_needed:
            return self._extended or self._plain
        if self._agreed is None:
            self._agreed = self._understood(await client.get(_PAGE))
        return self._agreed

    def check_streamed(self, kwargs: Mapping[str, Any], codec: Codec) -> None:
        """Refuse keyword arguments of a stream that would get lost.  Raises: NotImplementedError.

        LangServe's client sends them, whatever becomes of them; so does ours unless it was asked
        for more.
        """
        if self._extended is not None:
            check_carried(kwargs, codec)

    def _understood(self, answer: Response) -> Codec:
        return self._extended if self._extended and _is_known(answer) else self._plain


def check_carried(kwargs: Mapping[str, Any], codec: Codec) -> None:
    """Refuse keyword arguments that `codec` does not carry.  Raises: NotImplementedError."""
    if kwargs and not codec.is_extended:
        message = (
            "Keyword arguments are carried only with `extensions=True`, to a server that knows "
            f"them, and this call has {sorted(kwargs)}."
        )
        raise NotImplementedError(message)


def _is_known(answer: Any) -> bool:
    if answer.status_code in _NO_SUCH_PAGE:
        return False
    if not answer.is_success:
        raise status_error(answer)  # a server that is full or asks for a key may know them
    try:
        told = answer.json()
    except ValueError:
        return False  # some page that a server has for every address
    return isinstance(told, dict) and told.get("version") == int(EXTENSIONS_VERSION)
