"""What the tests of engines share: the real model as a folder of transformers."""

from harness.hf_folder import hf_folder

__all__ = ["hf_folder"]
