"""The app that is measured: a prompt before a Hugging Face pipeline.

WIRE_PACKAGE names the package whose `add_routes` serves it, and nothing else differs.  The other
variables are IS_TINY and NEW_TOKENS; KV_BYTES, which guards the model by hand with that limit; and
WITH_LOCK, which adds a route on which one lock is held around the pipeline.
"""

import importlib
import logging
import os
import threading

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
llm = HuggingFacePipeline(pipeline=pipe)
if "KV_BYTES" in os.environ:
    package.guard(llm, kv_bytes=int(os.environ["KV_BYTES"]))
options = {
    "max_new_tokens": int(os.environ["NEW_TOKENS"]),
    "do_sample": False,
    "return_full_text": False,
}
prompt = PromptTemplate.from_template("Count: {document}")
package.add_routes(app, prompt | llm.bind(pipeline_kwargs=options), path="/chain")

if "WITH_LOCK" in os.environ:
    lock = threading.Lock()

    def ask(text: str) -> str:
        """Have the pipeline to itself."""
        with lock:
            return llm.invoke(text, pipeline_kwargs=options)

    package.add_routes(app, prompt | RunnableLambda(ask), path="/locked")


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
