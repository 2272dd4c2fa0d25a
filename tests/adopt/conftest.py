"""What the tests of adopted objects share: the real model as its users have it."""

from harness.hf_folder import hf_folder

__all__ = ["hf_folder"]
