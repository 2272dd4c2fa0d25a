"""Direct users of the real model, beside callers of a chain over it, get what each gets alone.

`tests/adopt/test_direct_use.py` does it two thousand times with a small model.
"""

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from harness.direct_use import DirectUses, Traffic, snapshot
from harness.hf_folder import hf_folder
from locktender import guard

__all__ = ["hf_folder"]

N_USES = 100


@pytest.fixture(scope="module")
def pipe(hf_folder: Path) -> Any:
    transformers = import_module("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(hf_folder)
    return transformers.pipeline(
        "text-generation",
        model=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(hf_folder),
        device="cpu",
        max_new_tokens=12,
        do_sample=False,
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("n_users", [1, 2])
def test_direct_users_and_callers_of_the_real_model_get_what_each_gets_alone(
    pipe: Any, n_users: int
) -> None:
    uses, traffic = DirectUses(pipe), Traffic(pipe, n_callers=8)
    before = snapshot(pipe)
    guard(traffic.llm)
    wrong: list[str] = []
    with traffic:
        users = [
            threading.Thread(target=lambda: wrong.extend(uses.run(N_USES // n_users)))
            for _ in range(n_users)
        ]
        for user in users:
            user.start()
        for user in users:
            user.join()
    print(f"\n{N_USES} direct uses by {n_users}: {len(wrong)} wrong; {traffic.n_right} texts right")
    assert (wrong, traffic.wrong) == ([], [])
    assert traffic.n_right > 0
    assert snapshot(pipe) == before
