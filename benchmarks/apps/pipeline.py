"""The app of langserve#409: a prompt before a Hugging Face pipeline, as its users write it.

Two routes share the one pipeline, since the weights fit only once; each cuts long documents to a
length of its own.  WIRE_PACKAGE names the package whose `add_routes` serves them, and nothing else
differs; MODEL_FOLDER is where the model lies.
"""

import importlib
import os

import torch
import transformers
from fastapi import FastAPI
from langchain_core.prompts import PromptTemplate
from langchain_huggingface import HuggingFacePipeline

# One call alone is warned of, and the log of thousands of them would be of nothing else.
transformers.logging.set_verbosity_error()

app = FastAPI()
package = importlib.import_module(os.environ["WIRE_PACKAGE"])
pipe = transformers.pipeline(
    "text-generation", model=os.environ["MODEL_FOLDER"], dtype=torch.float32
)
llm = HuggingFacePipeline(pipeline=pipe)
prompt = PromptTemplate.from_template("Count: {document}")
for path, max_tokens in (("/brief", 14), ("/full", 24)):
    options = {
        "truncation": True,
        "max_length": max_tokens,
        "max_new_tokens": 3,
        "do_sample": False,
        "return_full_text": False,
    }
    package.add_routes(app, prompt | llm.bind(pipeline_kwargs=options), path=path)
