"""Give the running loop threads for what in an app is synchronous.

LangChain runs synchronous functions and models in the loop's own executor, which asyncio makes with
a few threads more than there are processors: six on two.  A chain that waits for a model keeps one
all the while, so with that the seventh caller waits for the first to end.  The `def` routes of
FastAPI have 40 of their own, by anyio's limiter.  Threads are made when they are first needed.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread

__all__ = ["give_threads"]


def give_threads(n_threads: int) -> None:
    """Let up to `n_threads` calls run at once, of either kind."""
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="locktender-sync")
    asyncio.get_running_loop().set_default_executor(executor)
    anyio.to_thread.current_default_thread_limiter().total_tokens = n_threads
