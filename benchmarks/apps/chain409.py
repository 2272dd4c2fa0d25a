"""The app of langserve#409, made to be timed: one prompt before one Hugging Face pipeline.

WIRE_PACKAGE names the package whose `add_routes` serves it, MODEL_FOLDER is where the model lies,
and OMP_NUM_THREADS says how many threads a call of torch has.  With HAS_LOCK=yes the user has put a
lock of theirs around the pipeline, as one does who has met the races.
"""

import importlib
import os
import threading
from typing import Any

import torch
import transformers
from fastapi import FastAPI
from langchain_core.outputs import LLMResult
from langchain_core.prompts import PromptTemplate
from langchain_huggingface import HuggingFacePipeline

transformers.logging.set_verbosity_error()
lock = threading.Lock()


class LockedPipeline(HuggingFacePipeline):
    """A pipeline that answers one caller at a time."""

    def _generate(self, *arguments: Any, **options: Any) -> LLMResult:
        with lock:
            return super()._generate(*arguments, **options)


app = FastAPI()
package = importlib.import_module(os.environ["WIRE_PACKAGE"])
pipe = transformers.pipeline(
    "text-generation",
    model=os.environ["MODEL_FOLDER"],
    dtype=torch.float32,
    max_new_tokens=64,
    do_sample=False,
    return_full_text=False,
)
wrapper = LockedPipeline if os.environ.get("HAS_LOCK") == "yes" else HuggingFacePipeline
# No answer to it ends by itself before its 64 tokens.
prompt = PromptTemplate.from_template("A long story about {topic}.\n\nOnce upon a time,")
package.add_routes(app, prompt | wrapper(pipeline=pipe), path="/chain")
