"""A prompt, a model and a parser, once for each model of the service.

WIRE_PACKAGE names the package whose `add_routes` serves them, CHAT_MODEL the client of the model
service, MODEL_URL the service, and MODELS its models, each of which becomes a path.
"""

import importlib
import os
from typing import Any

from fastapi import FastAPI
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

app = FastAPI()
package = importlib.import_module(os.environ["WIRE_PACKAGE"])
# Imported when it is known which: LangServe's environment has no ChatLocktender.
client = importlib.import_module(
    {
        "ChatLocktender": "locktender",
        "ChatOpenAI": "langchain_openai",
        "Unmerged": "unmerged",
    }[os.environ["CHAT_MODEL"]]
)


def _model(name: str) -> BaseChatModel:
    given: dict[str, Any] = {"model": name, "base_url": os.environ["MODEL_URL"], "api_key": "none"}
    model: BaseChatModel = getattr(client, os.environ["CHAT_MODEL"])(**given)
    return model


prompt = ChatPromptTemplate.from_messages([("user", "{text}")])
for name in os.environ["MODELS"].split():
    package.add_routes(app, prompt | _model(name) | StrOutputParser(), path=f"/{name}")
