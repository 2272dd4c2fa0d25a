"""A `ChatLocktender` that hands on each word by itself, whatever has come with it."""

import re
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from locktender import ChatLocktender

__all__ = ["Unmerged"]


class Unmerged(ChatLocktender):
    """What merging is compared with; the same model in all else."""

    async def _astream(self, *arguments: Any, **options: Any) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(*arguments, **options):
            words = re.findall(r"\s*\S+", chunk.text)
            for word in words[:-1]:
                yield ChatGenerationChunk(message=AIMessageChunk(content=word))
            chunk.message.content = words[-1] if words else ""
            yield chunk
