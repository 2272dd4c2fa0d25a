"""Gather what an answer tells of its runs beside their outputs: callback events, feedback tokens.

A route has a `NoteSettings` only if it tells either; for all others nothing is done at all.  Notes
never make a run fail, and never keep its answer for long.
Above it, `endpoint` runs; `callback_event` and `feedback_token` know what is noted.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

from locktender.app.callback_event import CallbackEventWriter
from locktender.app.feedback_token import TokenSource
from locktender.app.heavy_body import Work
from locktender.app.serialization import Serializer
from locktender.app.streaming import LateFrame
from locktender.wire.feedback import tokens_json
from locktender.wire.langserve import RunNotes, metachunk_frame

__all__ = ["NoteSettings", "Notes", "late_head"]


@dataclass(frozen=True, slots=True)
class NoteSettings:
    """What a route tells of its runs."""

    tokens: TokenSource | None = None
    has_callback_events: bool = False


class Notes:
    """The notes on the runs of one request; run with its `configs`, then take what was `told`."""

    def __init__(
        self,
        settings: NoteSettings,
        configs: Sequence[RunnableConfig],
        serializer: Serializer,
        work: Work,
    ) -> None:
        self.configs = list(configs)
        self._has_events = settings.has_callback_events
        self._writers: list[CallbackEventWriter] = []
        if self._has_events:
            self._writers = [CallbackEventWriter(serializer, work) for _ in configs]
            self.configs = list(map(_listened, configs, self._writers))
        tokens = settings.tokens
        self._tokens = [tokens.begin(str(each["run_id"])) if tokens else None for each in configs]

    @classmethod
    def of(
        cls,
        settings: NoteSettings | None,
        configs: Sequence[RunnableConfig],
        serializer: Serializer,
        work: Work,
    ) -> "Notes | None":
        """Begin to take notes, if any are to be taken; `work` writes the large ones."""
        return None if settings is None else cls(settings, configs, serializer, work)

    async def told(self) -> RunNotes:
        """Return what there is to tell, once it is there."""
        return RunNotes(
            [tokens_json(await task if task else ()) for task in self._tokens],
            [writer.json() for writer in self._writers] if self._has_events else None,
        )


def late_head(
    settings: NoteSettings | None, config: RunnableConfig, otherwise: bytes = b""
) -> LateFrame | None:
    """Return the event that names a run and its tokens, which a stream's chunks do not wait for.

    None where there are no tokens.  `otherwise` is for a stream that fails before they come.
    """
    if settings is None or settings.tokens is None:
        return None
    run_id = str(config["run_id"])
    tokens = settings.tokens.begin(run_id)

    async def frame() -> bytes:
        return metachunk_frame(run_id, await tokens)

    return LateFrame(asyncio.create_task(frame()), otherwise)


def _listened(config: RunnableConfig, writer: CallbackEventWriter) -> RunnableConfig:
    listened = merge_configs(config, {"callbacks": [writer]})
    return cast("RunnableConfig", {**config, "callbacks": listened["callbacks"]})
