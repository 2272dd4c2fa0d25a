"""Retrieval: the embeddings of a store, and of one that is reached by a tool."""

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore

from adopt.chains.models import EchoChat, EchoEmbeddings, embeddings, remote

__all__ = ["PLANTED", "chain"]

stored, tooled, chat = embeddings(), EchoEmbeddings(), EchoChat()
PLANTED = (stored, tooled, chat)

search = create_retriever_tool(
    InMemoryVectorStore(tooled).as_retriever(), name="search", description="Search the notes."
)
safe = InMemoryVectorStore(DeterministicFakeEmbedding(size=2)).as_retriever()
chain = (
    {
        "context": InMemoryVectorStore(stored).as_retriever(search_kwargs={"k": 2}) | str,
        "more": safe,
        "question": RunnablePassthrough(),
    }
    | RunnablePassthrough()
    | str
    | remote().bind_tools([search])
    | chat.bind(tools=[search])
)
