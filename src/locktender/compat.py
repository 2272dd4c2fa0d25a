"""Let `import langserve` mean locktender, where an app's own imports cannot be changed.

Nothing happens before `install()`: no wheel of ours owns the name.  Afterwards `langserve` and the
modules of it that apps import are windows on our modules.  Holds the table of what stands for what,
and nothing else: a name is looked up at its home each time that it is asked for, so a client needs
no server here either, and what is set on a window (`langserve.serialization.default = ...`) is set
at its home, where it takes effect.  Above it are the user's apps alone; below it, every name that
has one of LangServe's to stand for.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from locktender.core.errors import ConfigError
from locktender.wire import lzstring

__all__ = ["LANGSERVE_VERSION", "LZString", "install", "uninstall"]

# Apps compare it with the versions that they know: it is whose names and wire these are.
LANGSERVE_VERSION = "0.3.3"

_HOMES: Mapping[str, Mapping[str, str]] = {
    "langserve": {
        "APIHandler": "locktender.deploy.api:APIHandler",
        "CustomUserType": "locktender.app.user_type:CustomUserType",
        "RemoteRunnable": "locktender.app.client:RemoteRunnable",
        "__version__": "locktender.compat:LANGSERVE_VERSION",
        "add_routes": "locktender.deploy.routes:add_routes",
    },
    "langserve.api_handler": {
        "APIHandler": "locktender.deploy.api:APIHandler",
        "PerRequestConfigModifier": "locktender.app.run_config:PerRequestConfigModifier",
        "TokenFeedbackConfig": "locktender.app.feedback:TokenFeedbackConfig",
        # Tests replace these two.
        "ls_client": "locktender.app.feedback:ls_client",
        "tracing_is_enabled": "locktender.app.feedback:tracing_is_enabled",
    },
    "langserve.callbacks": {
        name: f"locktender.app.callback_event:{name}" for name in ("AsyncEventAggregatorCallback",)
    },
    "langserve.client": {"RemoteRunnable": "locktender.app.client:RemoteRunnable"},
    "langserve.lzstring": {"LZString": "locktender.compat:LZString"},
    "langserve.playground": {"serve_playground": "locktender.compat_page:serve_playground"},
    # LangServe left this module out in 0.3; apps written for 0.2 still import it.
    "langserve.pydantic_v1": {"BaseModel": "pydantic:BaseModel", "Field": "pydantic:Field"},
    "langserve.schema": {
        "CustomUserType": "locktender.app.user_type:CustomUserType",
        "Feedback": "locktender.app.feedback_body:Feedback",
        "FeedbackCreateRequest": "locktender.app.feedback_body:FeedbackCreateRequest",
    },
    "langserve.serialization": {
        "Serializer": "locktender.app.serialization:Serializer",
        "WellKnownLCSerializer": "locktender.app.serialization:WellKnownSerializer",
        "default": "locktender.app.serialization:default",
    },
    "langserve.server": {
        "APIHandler": "locktender.deploy.api:APIHandler",
        "PerRequestConfigModifier": "locktender.app.run_config:PerRequestConfigModifier",
        "TokenFeedbackConfig": "locktender.app.feedback:TokenFeedbackConfig",
        "add_routes": "locktender.deploy.routes:add_routes",
    },
    "langserve.validation": {
        name: f"locktender.wire.langserve:{name}"
        for name in ("BatchRequestShallowValidator", "InvokeRequestShallowValidator")
    },
    "langserve.version": {"__version__": "locktender.compat:LANGSERVE_VERSION"},
}


def install() -> None:
    """Make `import langserve` give our modules in this process.  Twice does no more than once.

    Raises: ConfigError when LangServe itself has been imported: who holds its names would go on
    with them, and one half of the app would not understand the other.
    """
    if any(not isinstance(module, _Window) for module in _imported().values()):
        raise ConfigError(
            "`langserve` has been imported already: "
            "call `locktender.compat.install()` before the first import of it."
        )
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def uninstall() -> None:
    """Undo `install()`, and what was set since.  Imported names stay with who imported them."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name, module in _imported().items():
        if isinstance(module, _Window):
            module.restore()
            del sys.modules[name]


class LZString:
    """The two methods that make a config a part of a path, by the names of the JavaScript ones."""

    @staticmethod
    def compressToEncodedURIComponent(text: str) -> str:  # noqa: N802 - the library's name
        """Return `text` in letters that a path may have."""
        return lzstring.compress_to_encoded_uri_component(text)

    @staticmethod
    def decompressFromEncodedURIComponent(text: str) -> str:  # noqa: N802 - the library's name
        """Return the text that was compressed.  Raises: ValueError."""
        return lzstring.decompress_from_encoded_uri_component(text)


class _Window(ModuleType):
    """A module whose names live elsewhere.  What is set here is set there; deleting undoes that."""

    _replaced: dict[str, object]

    def __init__(self, name: str) -> None:
        super().__init__(name, f"What locktender has in the place of `{name}`.")
        self.__dict__["_replaced"] = {}

    def __getattr__(self, name: str) -> object:
        if name in _HOMES[self.__name__]:
            return getattr(*self._home(name))
        below = f"{self.__name__}.{name}"
        if below in _HOMES:
            return import_module(below)  # LangServe imports all of its modules with the first
        message = f"locktender has no `{name}` in its place of `{self.__name__}`"
        raise AttributeError(message, name=name, obj=self)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOMES[self.__name__]:
            super().__setattr__(name, value)
            return
        home, attribute = self._home(name)
        self._replaced.setdefault(name, getattr(home, attribute))
        setattr(home, attribute, value)

    def __delattr__(self, name: str) -> None:
        if name not in self._replaced:
            super().__delattr__(name)
            return
        home, attribute = self._home(name)
        setattr(home, attribute, self._replaced.pop(name))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_HOMES[self.__name__]})

    def restore(self) -> None:
        """Undo all that was set."""
        for name in list(self._replaced):
            delattr(self, name)

    def _home(self, name: str) -> tuple[ModuleType, str]:
        module, _, attribute = _HOMES[self.__name__][name].partition(":")
        return import_module(module), attribute


class _Finder(MetaPathFinder, Loader):
    """Finds what stands in the table, before any folder is searched."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the import system's signature
        target: ModuleType | None = None,  # noqa: ARG002 - as above
    ) -> ModuleSpec | None:
        if fullname not in _HOMES:
            return None
        # A package without folders: a module of it that is not in the table is not found at all.
        return ModuleSpec(fullname, self, origin=__name__, is_package=fullname == "langserve")

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Window(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__all__"] = sorted(_HOMES[module.__name__])


_FINDER = _Finder()


def _imported() -> dict[str, ModuleType]:
    return {
        name: module
        for name, module in list(sys.modules.items())
        if name == "langserve" or name.startswith("langserve.")
    }
