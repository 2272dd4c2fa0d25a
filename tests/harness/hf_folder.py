"""The real model as a Hugging Face folder, which is what the users of transformers have.

It is made of the GGUF once and then kept in the user's cache.  The weights are the GGUF's, in
float32; nothing is fetched.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from locktender.model.engine import EngineSpec, Stepper, load_engine
from locktender.model.weights import cache_root

# The GGUF names its start token as the end token; the model ends its answers with this one.
END_TOKEN = "<|im_end|>"


@pytest.fixture(scope="session")
def hf_folder(smollm2: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct; every model and tokenizer in it is a test's own."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test asks the hub
    return make_hf_folder(smollm2, cache_root())


@pytest.fixture(scope="session")
def transformers_stepper(hf_folder: Path) -> Iterator[Stepper]:
    """The real model, as a folder of transformers: whoever uses it leaves it without work."""
    spec = EngineSpec("transformers", max_running=16, source=str(hf_folder))
    stepper = load_engine("transformers")(spec)
    yield stepper
    stepper.close()


def make_hf_folder(gguf: Path, root: Path) -> Path:
    """Return the folder made of `gguf`; whole if it is there, and made by one process alone."""
    folder = root / "adopt" / f"{gguf.parent.name}-transformers-{version('transformers')}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.parent.joinpath(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(gguf, folder)
    return folder


def _make(gguf: Path, folder: Path) -> None:
    prefix = f"{folder.name}-unfinished-"
    for leftover in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover)
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    tokenizer = _tokenizer(gguf)
    tokenizer.save_pretrained(unfinished)
    _model(gguf, tokenizer.eos_token_id).save_pretrained(unfinished)
    unfinished.rename(folder)


def _tokenizer(gguf: Path) -> Any:
    transformers = import_module("transformers")  # now, since it takes seconds
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.eos_token = tokenizer.pad_token = END_TOKEN
    assert tokenizer.chat_template
    return tokenizer


def _model(gguf: Path, end: int) -> Any:
    torch, transformers = import_module("torch"), import_module("transformers")
    reader = import_module("transformers.modeling_gguf_pytorch_utils")
    config = transformers.AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    with torch.device("meta"):  # without memory: each weight is replaced
        model = transformers.LlamaForCausalLM(config)
    # Not `from_pretrained`: that wants a further package, and what it loads cannot be saved.
    read = reader.load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=model)
    model.load_state_dict(read["tensors"], strict=False, assign=True)
    model.tie_weights()
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    return model
