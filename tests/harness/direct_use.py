"""Uses of a model that go past LangChain, beside callers of a chain over the same model."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from langchain_huggingface import HuggingFacePipeline

from locktender import guard
from locktender.adopt.swap import OWNER, plain_class

LIMIT_S = 60.0
LONG = "In the old town by the canal there lived a keeper of locks who had never once been late"
PROMPTS = (
    "The lock keeper opened the gate and",
    LONG,
    "Boats wait",
    "A list of canals, with their lengths in kilometres: 1.",
)


class DirectUses:
    """Five kinds of direct uses of the parts of a pipeline, and what each gives alone."""

    def __init__(self, pipe: Any) -> None:
        import torch  # noqa: PLC0415 - it takes seconds

        model, tokenizer = pipe.model, pipe.tokenizer
        second = plain_class(pipe)(
            model=model, tokenizer=tokenizer, max_new_tokens=3, do_sample=False, device="cpu"
        )
        with torch.random.fork_rng():
            twin = plain_class(model)(model.config).eval()
        ids = torch.tensor([[5, 6, 7, 8]])

        def forward() -> Any:
            with torch.no_grad():
                return model(ids).logits.numpy().tobytes()

        def generate() -> Any:
            return model.generate(ids, max_new_tokens=3, do_sample=False).tolist()

        def of_twin() -> Any:
            with torch.no_grad():
                return twin(ids).logits.numpy().tobytes()

        self._uses: dict[str, Callable[[], Any]] = {
            "forward": forward,
            "generate": generate,
            "second pipeline": lambda: second(PROMPTS[2])[0]["generated_text"],
            "second model": of_twin,
            "count": lambda: tokenizer(LONG, truncation=True, max_length=5)["input_ids"],
            "count all": lambda: len(tokenizer(LONG)["input_ids"]),
        }
        self._alone = {name: use() for name, use in self._uses.items()}

    def run(self, n: int) -> list[str]:
        """Do `n` of them, in turns; return what was wrong."""
        wrong = []
        names = list(self._uses)
        for i in range(n):
            name = names[i % len(names)]
            try:
                if self._uses[name]() != self._alone[name]:
                    wrong.append(name)
            except Exception as error:  # noqa: BLE001 - it is what is looked for
                wrong.append(f"{name}: {error!r}")
        return wrong


class Traffic:
    """Callers of a chain over a pipeline, who come again and again while the block lasts."""

    def __init__(self, pipe: Any, *, n_callers: int) -> None:
        self.llm = HuggingFacePipeline(pipeline=pipe)
        self.prompts = PROMPTS
        self._options = [{}, {"truncation": True, "max_length": 7, "max_new_tokens": 5}, {}, {}]
        self.alone = [self._ask(self.llm, n) for n in range(len(PROMPTS))]
        self.wrong: list[str] = []
        self.n_right = 0
        self._is_over = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(n_callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def wait(self, n_right: int) -> None:
        """Wait until there are so many right answers, or a wrong one."""
        with self._changed:
            self._changed.wait_for(lambda: self.wrong or self.n_right >= n_right, LIMIT_S)

    def _call(self, n: int) -> None:
        while not self._is_over.is_set():
            n = (n + 1) % len(PROMPTS)
            try:
                found = self._ask(self.llm, n)
            except Exception as error:  # noqa: BLE001 - it is what is looked for
                found = repr(error)
            with self._changed:
                if found == self.alone[n]:
                    self.n_right += 1
                else:
                    self.wrong.append(found)
                self._changed.notify_all()

    def _ask(self, llm: Any, n: int) -> str:
        return str(llm.invoke(PROMPTS[n], pipeline_kwargs=self._options[n]))


def use_beside_callers(pipe: Any, *, n_uses: int, n_users: int) -> Traffic:
    """Have so many threads use a guarded pipeline's parts, beside callers of a chain over it.

    What was wrong for either is in the `wrong` of what is returned.
    """
    uses, traffic = DirectUses(pipe), Traffic(pipe, n_callers=8)
    before = snapshot(pipe)
    guard(traffic.llm)
    with traffic, ThreadPoolExecutor(n_users) as users:
        for found in users.map(uses.run, [n_uses // n_users] * n_users):
            traffic.wrong.extend(found)
    after = snapshot(pipe)
    traffic.wrong.extend(f"{name} is changed" for name in before if before[name] != after[name])
    return traffic


def snapshot(pipe: Any) -> dict[str, Any]:
    """Return all that somebody else may read of a pipeline's parts, but for the owner."""
    import torch  # noqa: PLC0415 - it takes seconds

    modules = {name: _of(module) for name, module in pipe.model.named_modules()}
    return {
        "modules": modules,
        "config": copy.deepcopy(vars(pipe.model.config)),
        "generation": copy.deepcopy(vars(pipe.model.generation_config)),
        "tokenizer": copy.deepcopy(_without(vars(pipe.tokenizer), "_tokenizer")),
        "backend": pipe.tokenizer.backend_tokenizer.to_str(),
        "classes": [plain_class(each) for each in (pipe, pipe.model, pipe.tokenizer)],
        "pipeline": _without(vars(pipe), "call_count", "model", "tokenizer"),
        "torch": (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_rng_state().tolist(),
        ),
    }


def _of(module: Any) -> dict[str, Any]:
    held = _without(vars(module), "_parameters", "_buffers", "_modules", "config")
    # What is held is looked at by who it is; a table of hooks, by its content too.
    facts: dict[str, Any] = {name: (id(part), repr(part)) for name, part in held.items()}
    for name in ("_parameters", "_buffers", "_modules"):
        facts[name] = [(key, id(part)) for key, part in vars(module)[name].items()]
    facts["dtypes"] = [(part.dtype, part.sum().item()) for part in module.parameters(recurse=False)]
    return facts


def _without(place: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: part for name, part in place.items() if name not in {OWNER, *names}}
