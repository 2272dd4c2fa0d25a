"""The engines of the contract that take seconds to load, loaded once."""

from harness.hf_folder import hf_folder, transformers_stepper

__all__ = ["hf_folder", "transformers_stepper"]
