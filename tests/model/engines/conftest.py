"""What the tests of engines share: the real model as a folder of transformers, and loaded."""

from harness.hf_folder import hf_folder, transformers_stepper

__all__ = ["hf_folder", "transformers_stepper"]
