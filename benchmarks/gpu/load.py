"""A server in a process of its own, and rounds of callers who each ask it once, all at a time.

Answers are words, and a word is a token (`shape`): counting them needs no tokenizer.
"""

import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from caller import CHUNK, Caller, Pieces, post, word_times
from peer import free_port

__all__ = ["Load", "Round", "serving"]

START_S = 120.0
END_S = 5.0


@contextmanager
def serving(package: str, environment: Mapping[str, str], log: Path) -> Iterator[int]:
    """Serve the app of route.py by `package` and give the port; all that it holds is freed."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "route:app", "--app-dir", str(Path(__file__).parent)),
        *("--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"),
    ]
    environment = {
        **os.environ,
        "LANGSMITH_TRACING": "false",
        "WIRE_PACKAGE": package,
        **environment,
    }
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            _wait_until_open(process, port, log)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(timeout=END_S)
            except subprocess.TimeoutExpired:  # LangServe's threads go on with what they have
                process.kill()
                process.wait()


def _wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up_at = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up_at:
        try:
            asyncio.run(_get(port, "/openapi.json"))
        except OSError:
            time.sleep(0.1)
        else:
            return
    message = f"A server did not start:\n{log.read_text()[-2000:]}"
    raise RuntimeError(message)


async def _get(port: int, path: str) -> bytes:
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    async with await Caller.connect(port) as caller:
        return _body(await caller.ask(request))


def _body(pieces: Pieces) -> bytes:
    return b"".join(content for _, content in pieces).partition(b"\r\n\r\n")[2]


@dataclass(slots=True)
class Round:
    """What became of a round."""

    n_callers: int
    took_s: float = 0.0
    n_tokens: int = 0  # of answers that came
    n_answers: int = 0
    first_s: list[float] = field(default_factory=list)  # to the first word, where it is streamed
    errors: list[str] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Tokens of whole answers, by the time until the last one or the limit."""
        return self.n_tokens / self.took_s if self.took_s else 0.0

    def told(self) -> dict[str, object]:
        """Return it in few words."""
        found: dict[str, object] = {
            "tokens_per_s": round(self.tokens_per_s, 1),
            "took_s": round(self.took_s, 2),
            "answers": f"{self.n_answers} of {self.n_callers}",
        }
        if self.first_s:
            found["first_word_ms"] = round(1000 * statistics.median(self.first_s), 1)
            found["last_first_word_ms"] = round(1000 * max(self.first_s), 1)
        return found | ({"errors": self.errors[:3]} if self.errors else {})


@dataclass(frozen=True, slots=True)
class Load:
    """Callers of a server."""

    port: int
    n_words: int  # in the vocabulary
    n_new: int  # words of a whole answer

    def memory(self) -> dict[str, int]:
        """Return what lies on the server's device, in bytes."""
        found: dict[str, int] = orjson.loads(asyncio.run(_get(self.port, "/memory")))
        return found

    def about(self) -> dict[str, str]:
        """Return where the server's package lies, its libraries and its device."""
        found: dict[str, str] = orjson.loads(asyncio.run(_get(self.port, "/about")))
        return found

    def round(self, path: str, n_callers: int, n_prompt: int, limit_s: float) -> Round:
        """Have all callers ask once, for as long as `limit_s`."""
        return asyncio.run(self._round(path, n_callers, n_prompt, limit_s))

    async def _round(self, path: str, n_callers: int, n_prompt: int, limit_s: float) -> Round:
        done = Round(n_callers)
        callers = [await Caller.connect(self.port) for _ in range(n_callers)]
        requests = [
            post(path, {"input": {"document": each}}) for each in self._documents(done, n_prompt)
        ]
        began_at = time.perf_counter()
        tasks = [
            asyncio.create_task(self._ask(caller, request, began_at, done))
            for caller, request in zip(callers, requests, strict=True)
        ]
        _, left = await asyncio.wait(tasks, timeout=limit_s)
        done.took_s = time.perf_counter() - began_at
        for task in left:
            task.cancel()
        if left:
            done.errors.append(f"{len(left)} had no answer after {limit_s:.0f} s.")
        for caller in callers:
            await caller.__aexit__(None, None, None)
        return done

    def _documents(self, done: Round, n_prompt: int) -> Sequence[str]:
        """Return a text for each, which is a prompt of so many tokens with the app's word."""
        dice = random.Random(n_prompt)
        return [
            " ".join(f"w{dice.randrange(self.n_words)}" for _ in range(n_prompt - 1))
            for _ in range(done.n_callers)
        ]

    async def _ask(self, caller: Caller, request: bytes, began_at: float, done: Round) -> None:
        try:
            pieces = await caller.ask(request)
        except (OSError, RuntimeError) as error:
            done.errors.append(str(error)[-300:] or repr(error))
            return
        times = [at for _, at in word_times(pieces, CHUNK)]
        if times:
            done.first_s.append(times[0] - began_at)
            n_words = len(times)
        else:
            n_words = len(orjson.loads(_body(pieces))["output"].split())
        done.n_tokens += n_words
        done.n_answers += n_words == self.n_new
        if n_words != self.n_new:
            done.errors.append(f"An answer had {n_words} words.")
