"""The app of langserve#409, made to be timed: one prompt before one Hugging Face pipeline.

WIRE_PACKAGE names the package whose `add_routes` serves it, MODEL_FOLDER is where the model lies,
NEW_TOKENS says how many an answer has, and OMP_NUM_THREADS how many threads a call of torch has.
With HAS_LOCK=yes the user has put a lock of theirs around the pipeline, as one does who has met the
races.  With HAS_USER=yes one thread of theirs uses the same model directly, once at the start and
once for each request of `/direct`; in between it waits.  IS_MENDED is for an old commit, see below.
"""

import copy
import importlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import torch
import transformers
from fastapi import FastAPI
from langchain_core.outputs import LLMResult
from langchain_core.prompts import PromptTemplate
from langchain_huggingface import HuggingFacePipeline

transformers.logging.set_verbosity_error()
lock = threading.Lock()
VERSIONS = ("transformers", "tokenizers", "torch", "langchain-core", "langchain-huggingface")


class LockedPipeline(HuggingFacePipeline):
    """A pipeline that answers one caller at a time."""

    def _generate(self, *arguments: Any, **options: Any) -> LLMResult:
        with lock:
            return super()._generate(*arguments, **options)


app = FastAPI()
package = importlib.import_module(os.environ["WIRE_PACKAGE"])
settings = {"max_new_tokens": int(os.environ.get("NEW_TOKENS", "64")), "do_sample": False}
pipe = transformers.pipeline(
    "text-generation",
    model=os.environ["MODEL_FOLDER"],
    dtype=torch.float32,
    return_full_text=False,
    **settings,
)
if os.environ.get("IS_MENDED") == "yes" and not hasattr(pipe, "generation_config"):
    # transformers 5.24 has it no more, and an old commit cannot run without it.  It is made as it
    # was, settings and all: without a limit of tokens there, that commit would batch nothing.
    pipe.generation_config = copy.deepcopy(pipe.model.generation_config)
    pipe.generation_config.update(**settings)
wrapper = LockedPipeline if os.environ.get("HAS_LOCK") == "yes" else HuggingFacePipeline
# No answer to it ends by itself before its 64 tokens.
prompt = PromptTemplate.from_template("A long story about {topic}.\n\nOnce upon a time,")
package.add_routes(app, prompt | wrapper(pipeline=pipe), path="/chain")


@app.get("/about")
def about() -> dict[str, str]:
    """Return what serves it: where the package lies, and the libraries below it."""
    return {"file": str(package.__file__), **{name: version(name) for name in VERSIONS}}


if os.environ.get("HAS_USER") == "yes":
    other = transformers.pipeline("text-generation", model=pipe.model, tokenizer=pipe.tokenizer)
    user = ThreadPoolExecutor(1, "user")  # one thread, which waits while nothing is asked of it
    text = "A river is"
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}

    def use() -> str:
        """Return what a second pipeline and the model itself make of the same text."""
        said = other(text, **options)[0]["generated_text"]
        ids = pipe.model.generate(**pipe.tokenizer(text, return_tensors="pt"), **options)
        return f"{said}\n{pipe.tokenizer.decode(ids[0])}"

    user.submit(use).result()

    @app.get("/direct")
    def direct() -> str:
        """Return what one direct use gives."""
        return user.submit(use).result(timeout=60)
