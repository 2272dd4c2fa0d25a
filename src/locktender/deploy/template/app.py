"""The chain that is served: ``locktender serve app.py:chain``."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from locktender import ChatLocktender

prompt = ChatPromptTemplate.from_messages(
    [("system", "You answer in one or two sentences."), ("human", "{question}")]
)
# To change the model, give another one a table in locktender.toml, and its name here.
model = ChatLocktender(model="smollm2", temperature=0, max_tokens=100)
chain = prompt | model | StrOutputParser()
