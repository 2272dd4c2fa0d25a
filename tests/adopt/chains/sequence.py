"""A prompt, a model with bound options, and what is done with its text."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate

from adopt.chains.models import AsyncEcho, Echo, pipeline, remote

__all__ = ["PLANTED", "chain"]

planted = pipeline()
second = Echo()
PLANTED = (planted, second)

chain = (
    PromptTemplate.from_template("{text}")
    | planted.bind(stop=["."]).with_config(tags=["draft"])
    | StrOutputParser()
    | second.with_retry(stop_after_attempt=2)
    | remote()
    | StrOutputParser()
    | AsyncEcho()
)
