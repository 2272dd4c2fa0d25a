"""A greedy answer is the one that its caller would get alone, whoever else is served meanwhile."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from harness.service import Reply, Service, Starter

N_CALLERS = 64
N_ROUNDS = 5
JOIN_S = 2.0
MAX_TOKENS = 48
MIN_TOKENS = 32
SHORTEST_TOKENS, LONGEST_TOKENS = 20, 1_000
FRAME_TOKENS = 22  # of a prompt without its words: the chat template and the sentences around them
# Each of them is one token, with the space before it, so a prompt's length is known beforehand.
WORDS = """
river stone bread music winter garden horse paper silver ocean bridge letter candle forest
island window summer shadow tower valley engine coffee planet desert mirror market castle
thunder pepper ladder hammer basket needle carpet button pocket turtle rabbit falcon spider
salmon lemon onion carrot potato butter cheese copper marble cotton leather velvet feather pearl
crystal anchor compass lantern harbor prairie canyon glacier volcano meadow
"""


@pytest.mark.timeout(500)
async def test_64_callers_at_once_get_the_answers_that_each_gets_alone(
    start_service: Starter, smollm2: Path
) -> None:
    table = {"engine": "openvino", "source": str(smollm2), "max_running": 16}
    # On a slow machine the cold round takes longer than a caller would have to wait.
    gate = {"max_waiting": 128, "max_wait_s": 300}
    service = start_service({**table, **gate}, model="smollm2")
    await service.until(lambda status: status["ready"], within_s=100)
    questions = _questions()
    # The first round finds the prefix cache cold, the others find it warm.
    rounds = [await _ask_together(service, questions, number=0)]
    alone = await _ask_alone(service, questions)
    rounds += [
        await _ask_together(service, questions, number=number) for number in range(1, N_ROUNDS)
    ]

    lengths = [reply.usage["prompt_tokens"] for reply in alone]
    assert (min(lengths), max(lengths)) == (SHORTEST_TOKENS, LONGEST_TOKENS)
    assert min(reply.usage["completion_tokens"] for reply in alone) >= MIN_TOKENS
    assert len({reply.text for reply in alone}) == N_CALLERS
    differing = [_differing(together, alone) for together in rounds]
    print(f"answers that differ from the one given alone, by round: {differing}")
    assert differing == [[]] * N_ROUNDS


def _questions() -> list[str]:
    """Return questions whose lengths are spread geometrically, in no order.

    The dice are such that no answer of the model ends before `MIN_TOKENS`.
    """
    dice = random.Random(1)
    growth = LONGEST_TOKENS / SHORTEST_TOKENS
    lengths = [round(SHORTEST_TOKENS * growth ** (n / (N_CALLERS - 1))) for n in range(N_CALLERS)]
    topics = WORDS.split()
    questions = []
    for topic, length in zip(topics, lengths, strict=True):
        words = " ".join(dice.choices(topics, k=max(0, length - FRAME_TOKENS)))
        opening = f"Remember {words}. " if words else ""
        questions.append(f"{opening}Write a long story about {topic}")
    dice.shuffle(questions)
    return questions


async def _ask_together(service: Service, questions: Sequence[str], number: int) -> list[Reply]:
    """Ask all of them, at random instants within `JOIN_S`; return the replies in order."""
    dice = random.Random(number)
    replies: dict[int, Reply] = {}

    async def join(n: int, at_s: float) -> None:
        await anyio.sleep(at_s)
        # Half of them stream, and in the next round the other half.
        replies[n] = await _ask(service, questions[n], stream=(n + number) % 2 == 0)

    began_at = time.perf_counter()
    async with anyio.create_task_group() as group:
        for n in range(len(questions)):
            group.start_soon(join, n, dice.uniform(0, JOIN_S))
    ordered = [replies[n] for n in range(len(questions))]
    _show(f"round {number + 1}, together", ordered, time.perf_counter() - began_at)
    return ordered


async def _ask_alone(service: Service, questions: Sequence[str]) -> list[Reply]:
    began_at = time.perf_counter()
    replies = [await _ask(service, question, stream=False) for question in questions]
    _show("one after the other", replies, time.perf_counter() - began_at)
    return replies


async def _ask(service: Service, question: str, *, stream: bool) -> Reply:
    messages = [
        {"role": "system", "content": ""},  # the template's own would make the shortest too long
        {"role": "user", "content": question},
    ]
    fields = {"stream_options": {"include_usage": True}} if stream else {}
    reply = await service.ask("", messages=messages, max_tokens=MAX_TOKENS, stream=stream, **fields)
    assert (reply.status, reply.error) == (200, {})
    return reply


def _differing(together: Sequence[Reply], alone: Sequence[Reply]) -> list[int]:
    """Return which callers got another answer, or another count of its tokens."""
    return [
        n
        for n, (one, other) in enumerate(zip(together, alone, strict=True))
        if (one.text, one.finish_reason, one.usage)
        != (other.text, other.finish_reason, other.usage)
    ]


def _show(what: str, replies: Sequence[Reply], took_s: float) -> None:
    n_tokens = sum(reply.usage["completion_tokens"] for reply in replies)
    n_streamed = sum(reply.n_chunks > 1 for reply in replies)
    print(
        f"{what}: {took_s:.1f} s, {n_tokens / took_s:.0f} tokens/s, "
        f"{n_streamed} of {len(replies)} in several pieces"
    )
