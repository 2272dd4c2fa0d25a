"""An engine that fails at a request that asks for it, and lives on."""

from collections.abc import Sequence

from locktender.core.errors import EngineFailed
from locktender.core.request import GenerationRequest
from locktender.model.engine import EngineSpec, Output
from locktender.model.engines.echo import EchoStepper

__all__ = ["FaultyStepper"]


class FaultyStepper(EchoStepper):
    """Echo, which fails in the first step of a request with "fail" in it, or when it is added."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self._faulty: list[int] = []

    def add(self, key: int, request: GenerationRequest) -> None:
        """Take a request."""
        if "refuse" in str(request.input):
            raise ZeroDivisionError("in add")
        super().add(key, request)
        if "fail" in str(request.input):
            self._faulty.append(key)

    def step(self) -> Sequence[tuple[int, Output]]:
        """Fail at those that ask for it."""
        failed: list[tuple[int, Output]] = []
        for key in self._faulty:
            self.cancel(key)
            error = EngineFailed("The model failed at this request.")
            error.__cause__ = ZeroDivisionError("in step")
            failed.append((key, error))
        self._faulty.clear()
        return failed or super().step()
