"""The runnables whose routes are compared: they do as little as a runnable can."""

from collections.abc import AsyncIterator

from langchain_core.runnables import RunnableGenerator, RunnableLambda

__all__ = ["N_CHUNKS", "add_one", "speak"]

N_CHUNKS = 128


async def _add_one(number: int) -> int:
    # Not a plain function: LangChain would hand it to a thread, which costs more than the route.
    return number + 1


async def _speak(numbers: AsyncIterator[int]) -> AsyncIterator[str]:
    async for number in numbers:
        for n in range(N_CHUNKS):
            yield f"word {number + n} "


add_one = RunnableLambda(_add_one)
speak = RunnableGenerator(_speak)
