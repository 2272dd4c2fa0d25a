"""What a worker of an app is told beside who may come in: how it logs, how many threads it has.

It stands in the worker's environment, as JSON, until it has been read.
"""

import json
from dataclasses import asdict, dataclass
from typing import Self

from locktender.config import Settings
from locktender.core.log_line import LogFormat

__all__ = ["ORDERS", "Orders"]

ORDERS = "LOCKTENDER_WORKER_ORDERS"  # in a worker's environment


@dataclass(frozen=True, slots=True)
class Orders:
    """For one worker, or for each of them."""

    log_format: LogFormat | None = None  # None: text on a terminal, else JSON
    access_log: bool = False
    threads: int = 128  # of synchronous chains

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the workers of a service with these settings are told."""
        return cls(settings.log_format, settings.access_log, settings.threads)

    def to_json(self) -> str:
        """Write them, for a process that is told of nobody else."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` has written."""
        return cls(**json.loads(text))
