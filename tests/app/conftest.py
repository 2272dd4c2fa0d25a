"""What the tests of the app layer share."""

from harness.app_server import serve
from harness.langsmith_on import langsmith

__all__ = ["langsmith", "serve"]
