"""What the tests of the app layer share."""

from harness.app_server import serve

__all__ = ["serve"]
