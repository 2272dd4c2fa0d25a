"""locktender: LangChain runnables over local models, served to many callers at once.

The public names are imported when they are first asked for: a client needs no server, and a
command line that only prints its help needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from locktender.core.version import __version__

if TYPE_CHECKING:
    from locktender.adopt.guard import guard
    from locktender.adopt.owner import GuardSettings
    from locktender.app.chat_model import ChatLocktender
    from locktender.app.client import RemoteRunnable
    from locktender.app.user_type import CustomUserType
    from locktender.deploy.api import APIHandler
    from locktender.deploy.routes import add_routes

__all__ = [
    "APIHandler",
    "ChatLocktender",
    "CustomUserType",
    "GuardSettings",
    "RemoteRunnable",
    "__version__",
    "add_routes",
    "guard",
]

_HOMES = {
    "APIHandler": "locktender.deploy.api",
    "ChatLocktender": "locktender.app.chat_model",
    "CustomUserType": "locktender.app.user_type",
    "GuardSettings": "locktender.adopt.owner",
    "RemoteRunnable": "locktender.app.client",
    "add_routes": "locktender.deploy.routes",
    "guard": "locktender.adopt.guard",
}


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message) from None
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != __name__:
            error.add_note(f'`{name}` needs more: pip install "locktender[server]".')
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
