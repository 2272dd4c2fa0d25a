"""What LangServe's own Python client tells its callbacks of a server's; run by its interpreter.

    python callback_client.py BASE_URL

Prints one JSON object: for each route the output, and the events that came of the server's run.
"""

import json
import sys
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langserve import RemoteRunnable  # type: ignore[import-not-found]  # LangServe's environment

INPUTS: dict[str, Any] = {
    "seq": 1,
    "chat": {"q": "hi"},
    "chat_calls": "hi",
    "llm": "hi",
    "tool": {"a": "x"},
    "tool_any": {"kind": "dict"},
    "fallback": 1,
    "tool_fallback": {"a": "bad"},
    "value_object": 1,
}
_SHOWN = {"on_llm_end": "response", "on_tool_end": "output", "on_chain_end": "outputs"}


class Listener(BaseCallbackHandler):
    """Writes down what is replayed: that comes by name alone."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *given, **told: self._hear(name, given, told)

    def _hear(self, name: str, given: tuple[Any, ...], told: dict[str, Any]) -> None:
        if not given:
            self.heard.append([name, repr(told.get(_SHOWN.get(name, ""), ""))])


def found(base: str, name: str) -> dict[str, Any]:
    listener = Listener()
    remote = RemoteRunnable(f"{base}/cb/{name}", timeout=30)
    try:
        output = repr(remote.invoke(INPUTS[name], config={"callbacks": [listener]}))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is asked for
        output = type(error).__name__
    return {"output": output, "heard": listener.heard}


if __name__ == "__main__":
    print(json.dumps({name: found(sys.argv[1], name) for name in INPUTS}))  # noqa: T201 - it is a program
