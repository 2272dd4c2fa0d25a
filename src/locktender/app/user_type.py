"""The class by which a user says that a route's input stays a model.

LangServe turns each plain pydantic input into a dict, and leaves those alone that derive from this
class; so do we (`app.input`).
"""

from pydantic import BaseModel

__all__ = ["CustomUserType"]


class CustomUserType(BaseModel):
    """Derive an input's type from this to receive the model itself rather than a dict."""
