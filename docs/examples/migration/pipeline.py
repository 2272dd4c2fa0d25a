"""A model of this process in a chain: nothing but the import is new."""

from fastapi import FastAPI
from langchain_core.prompts import PromptTemplate
from langchain_huggingface import HuggingFacePipeline

from locktender import add_routes  # was: from langserve import add_routes

llm = HuggingFacePipeline.from_model_id(
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    task="text-generation",
    pipeline_kwargs={"max_new_tokens": 8, "do_sample": False},
)
app = FastAPI(title="Weather")
add_routes(app, PromptTemplate.from_template("{topic} is") | llm, path="/say")
