"""Callers who join, leave, fail and err for ten minutes leave nothing behind, and harm nobody.

They all share one guarded Hugging Face pipeline, with random weights for most of the time, so that
much happens, and then with the real ones.  It has little room: some texts fit in only alone, and
there are more callers than places.  Its model fails now and then, for everybody at once and for
single texts, with errors and with numbers that are none.  Meanwhile every answer that comes is the
one that its question gets when it is alone.
"""

import asyncio
import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from harness.hf_folder import make_hf_folder
from locktender import guard
from locktender.core.errors import InvalidRequest, QueueFull
from locktender.model.weights import cache_root

MIB = 1 << 20
LASTS_S = {"tiny": 420.0, "real": 180.0}
WARM_SHARE = 0.15  # of the time, after which nothing may grow any more
KV_BYTES = {"tiny": MIB, "real": 64 * MIB}  # some 2,000 tokens, and 1,450
LONG_WORDS = {"tiny": 2_300, "real": 1_500}  # more than there is room for
MAX_WORDS = 60  # of the others
MAX_TOKENS = {"tiny": 48, "real": 20}
N_QUESTIONS = 48
N_CALLERS = 48
N_PLACES = 32  # of the texts that are answered together
N_THREADS = 8  # of the callers that are not asynchronous
MAX_WAITING = 16
MAX_STAY_S = {"tiny": 0.5, "real": 4.0}
MAX_VISIT_S = 120.0
MAX_GROWTH_BYTES = 48 * MIB
LIMIT_BYTES = 256 * MIB  # of the check with long prompts
OTHER_BYTES = 96 * MIB  # that a step takes beside keys and values
FAULT_CHANCE = 1 / 300  # of a step
RAISES, NO_NUMBERS = "<gh_stars>", "<jupyter_code>"  # in a prompt: single tokens of the real one
FAULT = "A fault that was planted."
WORDS = (
    "river bread winter garden horse silver ocean bridge candle forest island tower valley coffee "
    "planet desert pencil window summer kitchen orange mirror pocket thunder ladder basket engine"
)
GREEDY: Mapping[str, Any] = {"do_sample": False, "return_full_text": False}
# How tokens may be chosen.  What has a seed is compared with the guarded model's own answer.
WAYS: Sequence[Mapping[str, Any]] = (
    GREEDY,
    GREEDY,
    {**GREEDY, "repetition_penalty": 1.2},
    {**GREEDY, "do_sample": True, "temperature": 0.8, "top_k": 40},
    {**GREEDY, "do_sample": True, "top_p": 0.9, "temperature": 1.1},
    {**GREEDY, "do_sample": True, "min_p": 0.05},
    {**GREEDY, "num_beams": 2},  # only alone
)
BEAMS = len(WAYS) - 1
BAD_OPTIONS: Sequence[Mapping[str, Any]] = (
    {"max_new_tokens": 0},
    {"temperature": -1.0},
    {"seed": "now"},
    {"pipeline_kwargs": {**GREEDY, "do_sample": True, "top_p": -0.5, "max_new_tokens": 4}},
    {"pipeline_kwargs": {**GREEDY, "do_sample": True, "top_k": -3, "max_new_tokens": 4}},
    {"pipeline_kwargs": {**GREEDY, "no_such_option": 1, "max_new_tokens": 4}},
)


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller asks."""

    prompt: str
    way: int
    max_tokens: int
    seed: int

    @property
    def is_sampled(self) -> bool:
        return bool(WAYS[self.way]["do_sample"])

    @property
    def options(self) -> dict[str, Any]:
        options = {"pipeline_kwargs": {**WAYS[self.way], "max_new_tokens": self.max_tokens}}
        return {**options, "seed": self.seed} if self.is_sampled else options


class Faults:
    """Has the embedding of a model fail."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.chance = 0.0
        self.n_steps = 0  # that failed without anybody's fault
        self._dice = random.Random(1)
        self._raises, self._no_numbers = (
            tokenizer.convert_tokens_to_ids(token) for token in (RAISES, NO_NUMBERS)
        )
        assert tokenizer.unk_token_id not in (self._raises, self._no_numbers)
        embedding = model.get_input_embeddings()
        plain = type(embedding)

        def forward(module: Any, ids: Any) -> Any:
            return self._embed(ids, plain.forward(module, ids))

        # Not a hook, for which texts are answered alone.
        embedding.__class__ = type("FaultyEmbedding", (plain,), {"forward": forward})

    def _embed(self, ids: Any, embedded: Any) -> Any:
        if (ids == self._raises).any():
            raise RuntimeError(FAULT)
        if self._dice.random() < self.chance:
            self.n_steps += 1
            raise RuntimeError(FAULT)
        return embedded.masked_fill((ids == self._no_numbers)[..., None], float("nan"))


@dataclass(frozen=True, slots=True)
class Held:
    """What the process has."""

    threads: Mapping[str, int]
    n_native_threads: int
    n_descriptors: int
    rss_bytes: int

    @classmethod
    def now(cls) -> "Held":
        """Count it."""
        gc.collect()
        process = psutil.Process()
        names = Counter(thread.name for thread in threading.enumerate())
        return cls(names, process.num_threads(), process.num_fds(), process.memory_info().rss)


@dataclass(slots=True)
class Books:
    """What has happened."""

    visits: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    max_together: int = 0

    def show(self, what: str) -> None:
        """Print it."""
        print(f"\n{what}: {self.visits.total():,} visits; at most {self.max_together} at once")
        for counter in (self.visits, self.outcomes):
            print("  " + ", ".join(f"{name} {n:,}" for name, n in sorted(counter.items())))


class Crowd:
    """The callers of one guarded model."""

    def __init__(self, kind: str, llm: Any, answers: Mapping[Question, str], books: Books) -> None:
        self._kind = kind
        self._llm = llm
        self._answers = answers
        self._questions = list(answers)
        # While a text is answered alone, all others wait.
        self._shares = [1 if _is_alone(question) else 5 for question in answers]
        self._books = books
        self._dice = random.Random(2)
        self._threads: ThreadPoolExecutor
        self._visits: Mapping[Callable[[Question], Any], int] = {
            self._ask: 20,
            self._stream: 20,
            self._ask_in_thread: 8,
            self._stream_in_thread: 8,
            self._ask_three: 4,
            self._leave: 24,
            self._leave_stream: 12,
            self._leave_stream_in_thread: 8,
            self._err: 6,
            self._meet_fault: 6,
        }

    async def stay(self, lasts_s: float, batch: Any) -> None:
        """Have all callers come and go for so long."""
        ends_at = time.monotonic() + lasts_s
        with ThreadPoolExecutor(N_THREADS) as self._threads:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, ends_at, batch)
                for _ in range(N_CALLERS):
                    group.start_soon(self._come_and_go, ends_at)

    async def check_room(self, questions: Sequence[Question]) -> None:
        """Have as many come at once as there are places, and see that none is lost."""
        assert len(questions) == N_PLACES + MAX_WAITING
        answers = await asyncio.gather(
            *(self._llm.ainvoke(question.prompt, **question.options) for question in questions)
        )
        assert answers == [self._answers[question] for question in questions]

    async def _watch(self, ends_at: float, batch: Any) -> None:
        while time.monotonic() < ends_at:
            self._books.max_together = max(self._books.max_together, batch.n_running)
            await anyio.sleep(0.1)

    async def _come_and_go(self, ends_at: float) -> None:
        while time.monotonic() < ends_at:
            await anyio.sleep(self._dice.expovariate(50))
            (visit,) = self._dice.choices(list(self._visits), list(self._visits.values()))
            self._books.visits[visit.__name__.strip("_")] += 1
            with anyio.fail_after(MAX_VISIT_S):
                (question,) = self._dice.choices(self._questions, self._shares)
                await self._see(visit, question)

    async def _see(self, visit: Callable[[Question], Any], question: Question) -> None:
        """Make a visit, and note what became of it."""
        try:
            outcome = await visit(question)
        except QueueFull:
            outcome = "refused"
            await anyio.sleep(self._dice.uniform(0, MAX_STAY_S[self._kind]))
        except (RuntimeError, FloatingPointError) as error:
            if str(error) != FAULT:
                raise
            outcome = "failed by chance"
        self._books.outcomes[outcome] += 1

    async def _ask(self, question: Question) -> str:
        return self._judge(question, await self._llm.ainvoke(question.prompt, **question.options))

    async def _stream(self, question: Question) -> str:
        pieces = [piece async for piece in self._llm.astream(question.prompt, **question.options)]
        return self._judge(question, "".join(pieces))

    async def _ask_in_thread(self, question: Question) -> str:
        call = partial(self._llm.invoke, question.prompt, **question.options)
        return self._judge(question, await self._in_thread(call))

    async def _stream_in_thread(self, question: Question) -> str:
        return self._judge(question, await self._in_thread(self._read, question, 10_000))

    async def _ask_three(self, question: Question) -> str:
        alike = [other for other in self._questions if other.options == question.options]
        three = self._dice.choices(alike, k=3)
        answers = await self._llm.abatch([one.prompt for one in three], **question.options)
        outcomes = {self._judge(one, answer) for one, answer in zip(three, answers, strict=True)}
        return "right" if outcomes == {"right"} else "WRONG"

    async def _leave(self, question: Question) -> str:
        """Be cancelled, before the answer or not."""
        with anyio.move_on_after(self._dice.uniform(0, MAX_STAY_S[self._kind])):
            return await self._ask(question)
        return "left"

    async def _leave_stream(self, question: Question) -> str:
        n_pieces, text = self._dice.randrange(6), ""
        async with aclosing(self._llm.astream(question.prompt, **question.options)) as pieces:
            async for piece in pieces:
                text += piece
                n_pieces -= 1
                if n_pieces < 0:
                    break
        return self._judge_part(question, text)

    async def _leave_stream_in_thread(self, question: Question) -> str:
        text = await self._in_thread(self._read, question, self._dice.randrange(6))
        return self._judge_part(question, text)

    async def _err(self, question: Question) -> str:
        options = self._dice.choice(BAD_OPTIONS)
        try:
            await self._llm.ainvoke(question.prompt, **options)
        except (InvalidRequest, ValueError):
            return "bad option told"
        self._books.wrong.append(f"{options} were taken.")
        return "WRONG"

    async def _meet_fault(self, question: Question) -> str:
        kind = self._dice.choice((RAISES, NO_NUMBERS))
        prompt = f"{kind} {question.prompt}"
        try:
            await self._llm.ainvoke(prompt, **question.options)
        except QueueFull:
            raise
        except Exception as error:  # noqa: BLE001 - what the model raises, which may be anything
            return f"{type(error).__name__} for {kind}"
        if kind == NO_NUMBERS:
            return "no numbers not seen"
        self._books.wrong.append(f"{prompt[:80]} was answered.")
        return "WRONG"

    async def _in_thread(self, call: Callable[..., str], *arguments: Any) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(call, *arguments))

    def _read(self, question: Question, n_pieces: int) -> str:
        """Return what a stream begins with."""
        text = ""
        with closing(self._llm.stream(question.prompt, **question.options)) as pieces:
            for _, piece in zip(range(n_pieces), pieces, strict=False):
                text += piece
        return text

    def _judge(self, question: Question, answer: str) -> str:
        if answer == self._answers[question]:
            return "right"
        self._books.wrong.append(f"{question}: {answer!r}, not {self._answers[question]!r}")
        return "WRONG"

    def _judge_part(self, question: Question, text: str) -> str:
        if self._answers[question].startswith(text):
            return "left in a stream"
        self._books.wrong.append(f"{question}: {text!r} of {self._answers[question]!r}")
        return "WRONG"


def _is_alone(question: Question) -> bool:
    return question.way == BEAMS or len(question.prompt.split()) > MAX_WORDS


@pytest.fixture(scope="session")
def hf_folder(smollm2: Path) -> Path:
    """The real model as the users of transformers have it."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no check asks the hub
    return make_hf_folder(smollm2, cache_root())


@pytest.mark.timeout(1_000)
@pytest.mark.parametrize("kind", ["tiny", "real"])
async def test_callers_who_join_leave_and_fail_leave_nothing_behind_and_harm_nobody(
    hf_folder: Path, kind: str
) -> None:
    pipe = load(hf_folder, kind)
    faults = Faults(pipe.model, pipe.tokenizer)
    questions = make_questions(kind)
    llm = wrap(pipe)
    answers = answer_alone(llm, [each for each in questions if not each.is_sampled])
    guard(llm, max_waiting=MAX_WAITING, kv_bytes=KV_BYTES[kind])
    answers |= answer_alone(llm, [each for each in questions if each.is_sampled])
    batch, books = batch_of(KV_BYTES[kind]), Books()
    crowd = Crowd(kind, llm, answers, books)
    faults.chance = FAULT_CHANCE
    await crowd.stay(LASTS_S[kind] * WARM_SHARE, batch)
    faults.chance = 0
    await crowd.check_room(questions)
    await until_quiet(batch)
    before = Held.now()
    faults.chance = FAULT_CHANCE
    await crowd.stay(LASTS_S[kind] * (1 - WARM_SHARE), batch)
    faults.chance = 0
    await until_quiet(batch)
    after = Held.now()

    books.show(kind)
    growth_bytes = after.rss_bytes - before.rss_bytes
    print(f"  {faults.n_steps} steps failed; memory grew by {growth_bytes / MIB:.1f} MiB")
    assert books.wrong == []
    assert books.max_together >= 8, "they were not answered together"
    assert books.outcomes["right"] > books.visits.total() / 4
    assert after.threads == before.threads
    assert after.n_native_threads <= before.n_native_threads
    assert after.n_descriptors <= before.n_descriptors
    assert growth_bytes <= MAX_GROWTH_BYTES
    await crowd.check_room(questions)


@pytest.mark.timeout(600)
async def test_64_callers_with_long_prompts_stay_within_the_memory_for_keys_and_values(
    hf_folder: Path,
) -> None:
    pipe = load(hf_folder, "real")
    dice = random.Random(64)
    words = WORDS.split()
    prompts = [" ".join(dice.choices(words, k=dice.randint(300, 600))) for _ in range(64)]
    questions = [Question(prompt, 0, max_tokens=8, seed=0) for prompt in prompts]
    llm = wrap(pipe)
    answers = answer_alone(llm, questions)
    before, most = Held.now(), Most()
    guard(llm, kv_bytes=LIMIT_BYTES, max_wait_s=500)  # all are to be answered, the last one late
    answer_alone(llm, questions[:1])
    batch = batch_of(LIMIT_BYTES)
    async with anyio.create_task_group() as group:
        group.start_soon(most.watch, batch)
        began_at = time.perf_counter()
        found = await asyncio.gather(
            *(llm.ainvoke(question.prompt, **question.options) for question in questions)
        )
        took_s = time.perf_counter() - began_at
        group.cancel_scope.cancel()
    await until_quiet(batch)

    n_tokens = sum(len(pipe.tokenizer(prompt)["input_ids"]) + 8 for prompt in prompts)
    growth_bytes, stores_bytes = most.rss_bytes - before.rss_bytes, store_bytes()
    print(
        f"\n64 texts of {n_tokens:,} tokens in {took_s:.0f} s; at most {most.n_running} at once "
        f"and {most.n_waiting} in line; keys and values take {stores_bytes / MIB:.1f} MiB of "
        f"{LIMIT_BYTES / MIB:.0f}, the process {growth_bytes / MIB:.1f} MiB more than before"
    )
    assert found == [answers[question] for question in questions]
    assert 0 < stores_bytes <= LIMIT_BYTES
    assert growth_bytes <= LIMIT_BYTES + OTHER_BYTES
    assert 2 <= most.n_running < N_PLACES
    assert most.n_waiting > 0


@dataclass(slots=True)
class Most:
    """The most that was seen."""

    n_running: int = 0
    n_waiting: int = 0  # for room, and not for the gate
    rss_bytes: int = 0

    async def watch(self, batch: Any) -> None:
        """Look, until this is cancelled."""
        process = psutil.Process()
        while True:
            self.n_running = max(self.n_running, batch.n_running)
            self.n_waiting = max(self.n_waiting, batch.n_waiting)
            self.rss_bytes = max(self.rss_bytes, process.memory_info().rss)
            await anyio.sleep(0.1)


def load(folder: Path, kind: str) -> Any:
    """Return a pipeline with the real tokenizer, and the real model or a tiny one."""
    torch, transformers = import_module("torch"), import_module("transformers")
    transformers.logging.set_verbosity_error()
    if kind == "real":
        return transformers.pipeline("text-generation", model=str(folder), dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8192,
        initializer_range=1.0,  # with less, the last token alone would make the answer
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(5)
    model = transformers.LlamaForCausalLM(config).eval()
    return transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)


def wrap(pipe: Any) -> Any:
    """Return what LangChain's users have."""
    return import_module("langchain_huggingface").HuggingFacePipeline(pipeline=pipe)


def make_questions(kind: str) -> list[Question]:
    """Return questions of many lengths, most of them short; every way occurs."""
    dice = random.Random(3)
    words = WORDS.split()
    lengths = [dice.choice((3, 8, 20, MAX_WORDS)) for _ in range(N_QUESTIONS)]
    lengths[0] = LONG_WORDS[kind]
    ways = [n % BEAMS for n in range(N_QUESTIONS)]
    ways[-1] = BEAMS
    return [
        # Those of one way are alike, so that they can be asked in one batch.
        Question(" ".join(dice.choices(words, k=length)), way, MAX_TOKENS[kind] - 2 * way, seed=way)
        for length, way in zip(lengths, ways, strict=True)
    ]


def answer_alone(llm: Any, questions: Sequence[Question]) -> dict[Question, str]:
    """Return the answers that the questions get alone."""
    return {each: llm.invoke(each.prompt, **each.options) for each in questions}


def batch_of(kv_bytes: int) -> Any:
    """Return the engine that has room for as much, and is in use already."""
    kind = import_module("locktender.model.engines.token_batch").TokenBatch
    every = [each for each in gc.get_objects() if type(each) is kind]
    (batch,) = (each for each in every if kv_bytes * 0.9 < each.limits.kv_bytes <= kv_bytes)
    return batch


def store_bytes() -> int:
    """Return what all stores of keys and values in the process take."""
    gc.collect()
    kind = import_module("locktender.model.engines.token_attention").Store
    return sum(
        part.nbytes
        for each in gc.get_objects()
        if type(each) is kind
        for pair in each.layers.values()
        for part in pair
    )


async def until_quiet(batch: Any) -> None:
    """Wait until nothing is reserved; those who left are let go at the next step."""
    with anyio.fail_after(20):
        while True:
            if not (batch.n_reserved or batch.has_work()):
                return
            await anyio.sleep(0.05)
