"""locktender: LangChain runnables over local models, served to many callers at once."""

from locktender.core.version import __version__

__all__ = ["__version__"]
