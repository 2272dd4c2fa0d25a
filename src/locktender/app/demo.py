"""The chain of the demo: a prompt and a local model, as in LangServe's issue 409.

There, two callers at once got a 500 and an answer that was mixed with the other's.  Here the model
is reached through the gate.  Served by ``locktender demo``.
"""

from langchain_core.prompts import ChatPromptTemplate

from locktender.app.chat_model import ChatLocktender

__all__ = ["chain"]

_prompt = ChatPromptTemplate.from_messages(
    [("system", "You answer in one or two sentences."), ("human", "{question}")]
)

chain = _prompt | ChatLocktender(model="smollm2", temperature=0, max_tokens=48)
