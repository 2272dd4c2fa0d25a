"""A model whose fields may be set by the caller, and others that may be chosen instead of it."""

from typing import Any

from langchain_core.runnables import ConfigurableField

from adopt.chains.models import Echo, EchoChat, pipeline, remote

__all__ = ["PLANTED", "chain"]

default, local, behind_a_factory = pipeline(), Echo(), Echo()
other: Any = EchoChat()
PLANTED = (default, local, behind_a_factory, other)

chain = default.configurable_fields(
    pipeline_kwargs=ConfigurableField(id="options")
).configurable_alternatives(
    ConfigurableField(id="model"),
    local=local,
    lazy=lambda: behind_a_factory,
    remote=remote(),
    other=other.configurable_alternatives(ConfigurableField(id="chat"), away=remote()),
)
