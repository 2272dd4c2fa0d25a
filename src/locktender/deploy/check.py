"""Prove on the running demo that callers who come together get what each gets alone.

Sixteen callers with different questions go through each route at once; every answer is compared
with the one that the same question got when nobody else was there.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from locktender.core.errors import PeerError
from locktender.wire.sse import SseDecoder

__all__ = ["QUESTIONS", "check"]

QUESTIONS = (
    "What is the capital of France?",
    "Why is the sky blue?",
    "What does a lock keeper do on a canal?",
    "How do bees make honey?",
    "Who wrote Romeo and Juliet?",
    "What is the boiling point of water?",
    "Why do leaves fall in autumn?",
    "What is a prime number?",
    "How does a bicycle stay upright?",
    "What is the largest ocean?",
    "Why do cats purr?",
    "What is photosynthesis?",
    "How far away is the moon?",
    "What is the use of a compass?",
    "Why does bread rise?",
    "What makes thunder?",
)
_TIMEOUT_S = 300.0  # of one route, on a very slow machine

# Takes a client, the chain's URL and a caller's number; returns its answers, by question.
_Ask: TypeAlias = Callable[
    [aiohttp.ClientSession, str, int], Coroutine[None, None, Mapping[str, str]]
]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How one route has done."""

    route: str
    n_right: int
    errors: Sequence[str]
    took_s: float


async def check(url: str, console: Console, key: str | None = None) -> int:
    """Check the chain at `url` and print a table; return 0 if every answer was right, or else 1."""
    try:
        verdicts = await _verdicts(url, console, key)
    except (aiohttp.ClientError, PeerError, TimeoutError) as error:
        console.print(f"[red]A caller alone was not answered:[/] {escape(str(error))}")
        return 1
    console.print(_table(verdicts))
    return 0 if all(verdict.n_right == len(QUESTIONS) for verdict in verdicts) else 1


async def _verdicts(url: str, console: Console, key: str | None) -> list[_Verdict]:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as client:
        alone: dict[str, str] = {}
        numbers = range(len(QUESTIONS))
        for number in track(numbers, "each caller alone", console=console, transient=True):
            alone |= await _invoke(client, url, number)
        return [
            await _judge(route, ask, client, url, alone)
            for route, ask in (("/invoke", _invoke), ("/batch", _batch), ("/stream", _stream))
        ]


async def _judge(
    route: str, ask: _Ask, client: aiohttp.ClientSession, url: str, alone: Mapping[str, str]
) -> _Verdict:
    started_at = time.monotonic()
    results = await asyncio.gather(
        *(ask(client, url, number) for number in range(len(QUESTIONS))), return_exceptions=True
    )
    answers = [result for result in results if isinstance(result, Mapping)]
    n_right = sum(all(alone[q] == text for q, text in answer.items()) for answer in answers)
    errors = [str(result) for result in results if isinstance(result, BaseException)]
    return _Verdict(route, n_right, errors, time.monotonic() - started_at)


async def _invoke(client: aiohttp.ClientSession, url: str, number: int) -> Mapping[str, str]:
    question = QUESTIONS[number]
    answer = await _post(client, f"{url}/invoke", {"input": {"question": question}})
    return {question: answer["output"]["content"]}


async def _batch(client: aiohttp.ClientSession, url: str, number: int) -> Mapping[str, str]:
    """Ask two questions in one batch, of which the second is the next caller's too."""
    questions = [QUESTIONS[number], QUESTIONS[(number + 1) % len(QUESTIONS)]]
    body = {"inputs": [{"question": question} for question in questions]}
    answer = await _post(client, f"{url}/batch", body)
    texts = [output["content"] for output in answer["output"]]
    return dict(zip(questions, texts, strict=True))


async def _stream(client: aiohttp.ClientSession, url: str, number: int) -> Mapping[str, str]:
    question, text, decoder = QUESTIONS[number], "", SseDecoder()
    async with client.post(f"{url}/stream", json={"input": {"question": question}}) as response:
        response.raise_for_status()
        async for piece in response.content.iter_any():
            for event in decoder.feed(piece):
                if event.event == "error":
                    raise PeerError(event.data)
                if event.event == "data":
                    text += orjson.loads(event.data)["content"]
    return {question: text}


async def _post(client: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> Any:
    async with client.post(url, json=body) as response:
        response.raise_for_status()
        return await response.json()


def _table(verdicts: Sequence[_Verdict]) -> Table:
    table = Table("route", "callers at once", "right", "errors", "seconds")
    for verdict in verdicts:
        is_good = verdict.n_right == len(QUESTIONS)
        right = f"[{'green' if is_good else 'red'}]{verdict.n_right} of {len(QUESTIONS)}[/]"
        errors = escape("; ".join(sorted(set(verdict.errors)))) or "none"
        took = f"{verdict.took_s:.1f}"
        table.add_row(verdict.route, str(len(QUESTIONS)), right, errors, took)
    return table
