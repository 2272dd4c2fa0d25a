"""Branches side by side, one of several branches, and one run for each input."""

from operator import itemgetter

from langchain_core.runnables import RunnableBranch, RunnableParallel, RunnablePassthrough

from adopt.chains.models import AsyncEcho, Echo, EchoChat, pipeline, remote

__all__ = ["PLANTED", "chain"]

left, right, assigned, chosen, asked, otherwise, each = (
    Echo(),
    pipeline(),
    Echo(),
    EchoChat(),
    Echo(),
    pipeline(),
    Echo(),
)
PLANTED = (left, right, assigned, chosen, asked, otherwise, each)

chain = (
    RunnableParallel(left=left, right={"deep": right, "away": remote()})
    | RunnablePassthrough.assign(more=itemgetter("left") | assigned)
    | itemgetter("more")
    | RunnableBranch(
        (lambda text: bool(asked.invoke(text)), chosen),
        (lambda text: not text, AsyncEcho()),
        otherwise,
    )
    | (lambda text: [text])
    | each.map()
)
