"""Serve the user's app in a process of its own, on a listener that it shares with its fellows.

Started by `crew` as ``python -m locktender.deploy.worker FD TARGET DRAIN_S``.  It knows the model
layer by its URL only (``LOCKTENDER_BASE_URL``), as any client.  SIGTERM drains it; it ends when its
standard input does, which its parent holds open and never writes to.
"""

import asyncio
import gc
import os
import socket
import sys
import threading

import uvicorn
import uvloop

from locktender.core.errors import ConfigError
from locktender.deploy.crew import CONFIG_EXIT
from locktender.deploy.target import load_app

__all__ = ["main"]

# Chains make and keep thousands of objects a second.  With Python's own thresholds the pauses for
# garbage were up to 0.35 s with 256 streams, a third of all time; with these, under 0.1 s.  Full
# collections are rare rather than never: what outlives its request is looked for in the end.
_COLLECT_AFTER = (50_000, 20, 1000)


def main(arguments: list[str]) -> int:
    """Serve ``arguments[1]`` on file descriptor ``arguments[0]`` until told to stop."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    descriptor, target, drain_s = int(arguments[0]), arguments[1], float(arguments[2])
    gc.set_threshold(*_COLLECT_AFTER)  # before the app is loaded, which may know better
    try:
        app = load_app(target)
    except ConfigError as error:
        sys.stderr.write(f"locktender: {error.message}\n")
        return CONFIG_EXIT
    gc.collect()
    gc.freeze()  # What was loaded stays: it need not be looked through again and again.
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[socket.socket(fileno=descriptor)]))
    return 0


def _die_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
