"""What the checks share with the tests: a real service on a real socket, and the real model."""

from harness.fixture import anyio_backend, client, smollm2, start_service

__all__ = ["anyio_backend", "client", "smollm2", "start_service"]
