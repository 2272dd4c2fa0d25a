"""Direct users of the real model, beside callers of a chain over it, get what each gets alone.

`tests/adopt/test_direct_use.py` does it two thousand times with a small model.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from harness.direct_use import use_beside_callers
from harness.hf_folder import hf_folder

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
    traffic = use_beside_callers(pipe, n_uses=N_USES, n_users=n_users)
    print(f"\n{N_USES} uses by {n_users}, {traffic.n_right} texts: {len(traffic.wrong)} wrong")
    assert traffic.wrong == []
    assert traffic.n_right > 0
