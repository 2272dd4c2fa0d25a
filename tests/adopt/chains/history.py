"""A chat with a memory."""

import warnings

from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory

from adopt.chains.models import EchoChat, chat_over, pipeline, remote

__all__ = ["PLANTED", "chain"]

inner, spare, summary = pipeline(), EchoChat(), EchoChat()
chat = chat_over(inner)
PLANTED = (chat, inner, spare, summary)
stores: dict[str, InMemoryChatMessageHistory] = {}


def _history_of(session: str) -> InMemoryChatMessageHistory:
    history = stores.setdefault(session, InMemoryChatMessageHistory())
    history.add_message(summary.invoke(history.messages))
    return history


prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{text}")])
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LangChain would rather have a graph
    chain = RunnableWithMessageHistory(
        prompt | chat.with_fallbacks([remote(), spare]),
        _history_of,
        input_messages_key="text",
        history_messages_key="history",
    )
