"""Models in globals: those that the code names are found, and no others."""

from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables import chain as as_chain

from adopt.chains import models
from adopt.chains.models import Echo, pipeline

__all__ = ["PLANTED", "SHARED", "chain", "invoke"]

direct, helped, held, run = pipeline(), Echo(), Echo(), Echo()
invoke = Echo()  # whose name is only an attribute's, in what follows
SHARED = Echo()  # another module has the one that is named
PLANTED = (direct, helped, held, run, models.SHARED, models.LATE)


class _Settings:
    model = held
    spare = None


class _Own(Runnable[str, str]):
    """A runnable of the user's, whose method uses a global."""

    def invoke(self, input: str, config: RunnableConfig | None = None, **_options: Any) -> str:  # noqa: A002 - LangChain's name
        return run.invoke(input)


def _help(text: str) -> str:
    return helped.invoke(text)


def _not_called(text: str) -> str:
    return invoke.invoke(text) + SHARED.invoke(text)


@as_chain
def _answer(text: str) -> str:
    from adopt.chains.models import LATE  # noqa: PLC0415 - as users avoid circles

    return _help(text) + _Settings.model.invoke(text) + LATE.invoke(text)


chain: Any = (
    RunnableLambda(lambda text: models.SHARED.invoke(direct.invoke(text))) | _answer | _Own()
)
