"""The app that is measured: a prompt before a Hugging Face pipeline.

WIRE_PACKAGE names the package whose `add_routes` serves it, and nothing else differs.  The other
variables are IS_TINY and NEW_TOKENS; KV_BYTES, which guards the model by hand with that limit;
WITH_LOCK, which adds a route on which one lock is held around the pipeline; and IS_MENDED, which is
for an old commit, see below.
"""

import copy
import importlib
import logging
import os
import threading
from importlib.metadata import version

import torch
import transformers
from fastapi import FastAPI
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_huggingface import HuggingFacePipeline
from shape import make_pipeline

logging.basicConfig(level=logging.INFO)
transformers.logging.set_verbosity_error()

app = FastAPI()
package = importlib.import_module(os.environ["WIRE_PACKAGE"])
pipe = make_pipeline(is_tiny="IS_TINY" in os.environ)
weights_bytes = sum(each.nbytes for each in pipe.model.parameters())
made_bytes = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
if torch.cuda.is_available():
    torch.cuda.reset_peak_memory_stats()
options = {
    "max_new_tokens": int(os.environ["NEW_TOKENS"]),
    "do_sample": False,
    "return_full_text": False,
}
if "IS_MENDED" in os.environ and not hasattr(pipe, "generation_config"):
    # transformers 5.24 has it no more, and an old commit cannot run without it.
    pipe.generation_config = copy.deepcopy(pipe.model.generation_config)
    pipe.generation_config.update(max_new_tokens=options["max_new_tokens"], do_sample=False)
llm = HuggingFacePipeline(pipeline=pipe)
if "KV_BYTES" in os.environ:
    package.guard(llm, kv_bytes=int(os.environ["KV_BYTES"]))
prompt = PromptTemplate.from_template("Count: {document}")
package.add_routes(app, prompt | llm.bind(pipeline_kwargs=options), path="/chain")

if "WITH_LOCK" in os.environ:
    lock = threading.Lock()

    def ask(text: str) -> str:
        """Have the pipeline to itself."""
        with lock:
            return llm.invoke(text, pipeline_kwargs=options)

    package.add_routes(app, prompt | RunnableLambda(ask), path="/locked")


@app.get("/about")
def about() -> dict[str, str]:
    """Return what serves it: where the package lies, the libraries below it, and the device."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    names = ("transformers", "tokenizers", "torch", "langchain-core", "langchain-huggingface")
    return {
        "file": str(package.__file__),
        **{name: version(name) for name in names},
        "device": device,
    }


@app.get("/memory")
def memory() -> dict[str, int]:
    """Return what lies on the device, in bytes."""
    if not torch.cuda.is_available():
        return {"weights": weights_bytes, "peak": 0, "now": 0, "reserved": 0, "made": made_bytes}
    return {
        "weights": weights_bytes,
        "peak": torch.cuda.max_memory_allocated(),
        "now": torch.cuda.memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "made": made_bytes,
    }
