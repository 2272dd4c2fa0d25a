"""The engines, one module each, independent of one another."""
