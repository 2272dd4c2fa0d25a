"""Serve the page on which a route can be tried out.

Decides which file a path below `/playground/` means, and writes into the page what it must know:
where it is served, and the schemas, as JSON in which nothing can end a script or begin a tag.  The
page itself is in `web/playground`; it loads nothing from elsewhere and runs no code but its own.
Above it, `routes` puts it on an app.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from locktender.app.answer import answered
from locktender.app.endpoint import Endpoint
from locktender.app.run_config import Asked
from locktender.http.key import KEY_IS_WANTED

__all__ = ["PLAYGROUND_TITLES", "Playground"]

PLAYGROUND_TITLES: Mapping[str, str] = {"default": "Playground", "chat": "Chat Playground"}
_INDEX = "index.html"
_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "referrer-policy": "no-referrer",  # a path may carry a config
    "x-content-type-options": "nosniff",
}
# Within JSON these stand in strings alone, and mean the same when they are spelt out.
_SPELT_OUT = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}


class Playground:
    """The page of one route."""

    def __init__(self, endpoint: Endpoint, kind: str = "default", path: str = "") -> None:
        self.endpoint = endpoint
        self._title = PLAYGROUND_TITLES[kind]
        self._path = path
        self.feedback_is_enabled = False
        self.public_trace_link_is_enabled = False

    async def answer(self, asked: Asked, file_path: str) -> Response:
        """Return the file that `file_path` means: the page if it is empty."""
        return await answered(asked.request, partial(self._answer, asked, file_path))

    async def _answer(self, asked: Asked, file_path: str) -> Response:
        name = file_path or _INDEX
        content = _files().get(name)
        if content is None:
            return Response("Not Found", 404)
        if name == _INDEX:
            content = self._page(content.decode(), asked, file_path).encode()
        suffix = name.rpartition(".")[2]
        return Response(content, headers={**_HEADERS, "content-type": _MEDIA_TYPES[suffix]})

    def _page(self, page: str, asked: Asked, file_path: str) -> str:
        names = {"CONFIG_SCHEMA": "config", "INPUT_SCHEMA": "input", "OUTPUT_SCHEMA": "output"}
        settings: dict[str, Any] = {
            name: self.endpoint.schema(part, asked).model_json_schema()
            for name, part in names.items()
        }
        if asked.request.scope.get(KEY_IS_WANTED):  # Then the page asks for them, with the key.
            settings = {"KEY_IS_WANTED": True, **{name: {} for name in names}}
        settings["FEEDBACK_ENABLED"] = _flag(is_set=self.feedback_is_enabled)
        settings["PUBLIC_TRACE_LINK_ENABLED"] = _flag(is_set=self.public_trace_link_is_enabled)
        values = {
            "BASE_URL": html.escape(self._url_of_page(asked.request, file_path)),
            "TITLE": self._title,
            "SETTINGS": json.dumps(settings).translate(_SPELT_OUT),
        }
        # In one pass: what stands in a value is no place for another.
        return re.sub(r"\{\{ (\w+) \}\}", lambda match: values[match[1]], page)

    def _url_of_page(self, request: Request, file_path: str) -> str:
        """Return the path at which a browser finds the page."""
        root = request.scope.get("root_path", "").strip("/")
        path = request.scope["path"].strip("/") + ("" if file_path else "/")
        place = path.removesuffix(f"/{file_path}")
        if place == path:  # of a route that somebody made otherwise
            place = f"{self._path.strip('/')}/playground"
        if root and not place.startswith(f"{root}/"):  # some servers have it in the path
            place = f"{root}/{place}"
        return quote(f"/{place.strip('/')}")


def _flag(*, is_set: bool) -> str:
    return "true" if is_set else "false"  # words, as LangServe's page has them


@cache
def _files() -> Mapping[str, bytes]:
    """Return every file of the page by its path; there is no way to any other."""
    return dict(_walk(resources.files("locktender") / "web" / "playground", ""))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _walk(each, f"{prefix}{each.name}/")
        else:
            yield f"{prefix}{each.name}", each.read_bytes()
