"""The ways to serve apps/chain409.py, side by side: which package, from where, with which settings.

What they are asked, and what their answers are worth, is `adopt_throughput`'s.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from checkout import Checkout
from peer import free_port, langserve_python, serving, uvicorn_command

__all__ = ["PEER", "THAT", "THIS", "Plan", "Running", "Server", "describe", "start_all"]

MAX_START_S = 180.0
THIS, THAT, PEER = "locktender", "locktender of the other checkout", "LangServe 0.3.3"


@dataclass(frozen=True, slots=True)
class Server:
    """A way to serve the app."""

    side: str
    n_threads: int  # of a call of torch
    has_lock: bool = False

    @property
    def name(self) -> str:
        """Return what it is called in the table."""
        return f"{self.side}{', a lock of the user' if self.has_lock else ''}"

    def environment(self, plan: "Plan") -> dict[str, str]:
        """Return what its process is told."""
        found = {
            "WIRE_PACKAGE": "langserve" if self.side == PEER else "locktender",
            "HAS_LOCK": "yes" if self.has_lock else "no",
            "HAS_USER": "yes" if plan.has_user and self.side != PEER else "no",
            "IS_MENDED": "yes" if self.side == THAT else "no",
            "NEW_TOKENS": str(plan.n_tokens),
            "OMP_NUM_THREADS": str(self.n_threads),
            "HF_HUB_OFFLINE": "1",
        }
        checkout = plan.checkouts.get(self.side)
        return found | ({"PYTHONPATH": str(checkout.source)} if checkout else {})


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    checkouts: Mapping[str, Checkout]  # by side
    has_peer: bool
    has_user: bool
    threads: Sequence[int]
    n_copies: int  # processes of each server of ours
    n_tokens: int  # of each answer
    n_rounds: int
    max_s: float  # after which no round begins

    def servers(self) -> list[Server]:
        """Return them in the order of their turns."""
        kinds = [(PEER, False), (PEER, True)] if self.has_peer else []
        kinds += [(side, False) for side in (THAT, THIS) if side in self.checkouts]
        return [
            Server(side, n_threads, has_lock)
            for side, has_lock in kinds
            for n_threads in self.threads
        ]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    port: int
    process: psutil.Popen

    def get(self, path: str) -> Any:
        """Return the answer to a request without a body."""
        with httpx.Client(trust_env=False, timeout=90) as client:
            return client.get(f"http://127.0.0.1:{self.port}{path}").raise_for_status().json()


def start_all(
    stack: ExitStack, plan: Plan, model: Path, folder: Path
) -> dict[Server, list[Running]]:
    """Start all servers, to be ended with `stack`; return the processes of each."""
    peer_python = langserve_python(has_models=True) if plan.has_peer else ""
    running: dict[Server, list[Running]] = {server: [] for server in plan.servers()}
    for server, copies in running.items():
        python = peer_python if server.side == PEER else sys.executable
        environment = {**server.environment(plan), "MODEL_FOLDER": str(model)}
        for _ in range(1 if server.side == PEER else plan.n_copies):
            port = free_port()
            command = uvicorn_command(python, "chain409:app", port)
            process = stack.enter_context(
                serving(command, port, environment, folder / str(port), MAX_START_S)
            )
            copies.append(Running(port, process))
    return running


def describe(plan: Plan, running: Mapping[Server, Sequence[Running]]) -> list[str]:
    """Return what is measured, in lines.  Raises: RuntimeError if a server has another package."""
    lines = [f"{side}: {each.name()}" for side, each in plan.checkouts.items()]
    libraries: dict[str, set[str]] = {}
    for server, its in ((server, its) for server, copies in running.items() for its in copies):
        about = its.get("/about")
        file = about.pop("file")
        if server.side in plan.checkouts:
            plan.checkouts[server.side].require_served(file)
        told = ", ".join(f"{name} {version}" for name, version in about.items())
        libraries.setdefault(told, set()).add(server.side)
    lines += [f"{', '.join(sorted(sides))}: {told}" for told, sides in libraries.items()]
    user = "one idle direct user in each process" if plan.has_user else "no direct user"
    copies = f"{plan.n_copies} processes of each of ours"
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    python = ".".join(map(str, sys.version_info[:3]))
    return [*lines, f"Python {python}, {cores}, {plan.n_tokens} tokens an answer, {user}, {copies}"]
