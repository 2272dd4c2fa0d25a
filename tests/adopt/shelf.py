"""A module of a user's, in which a model is put by name."""

from typing import Any

llm: Any = None
late: Any = None
registry: dict[str, Any] = {}


class Drawer:
    """A class of that module."""

    llm: Any = None
