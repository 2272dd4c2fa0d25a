"""The law of the gate in any storm: nothing is lost, nothing is kept, everybody has one end."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.gate import MODEL, UNDAUNTED, Gate, open_gate, request_for
from locktender.core.errors import LocktenderError
from locktender.core.events import RequestAssigned, RequestEnded, RequestReceived
from locktender.core.request import FinishReason
from locktender.core.scope import Scope
from locktender.model.settings import GateSettings

SETTINGS = GateSettings(
    max_running=2, max_waiting=3, max_outside=2, max_gate_tokens=400, max_wait_s=60.0
)
MAX_INSIDE = 2 * 2 + 3  # two engines, and the line
TEXTS = ("a", "b", "c", "d e", "f g h i", "j k l m n o")
# Callers on their own, those who are part of something, and one whose time is up when it comes.
SCOPES = (
    *(Scope(), Scope(), Scope(outer="o"), Scope(timeout_s=0.0)),
    *(Scope(outer="o", outer_s=60.0), Scope(outer="p", outer_s=60.0)),
)


@dataclass(frozen=True)
class Join:
    """A caller comes."""

    text: str
    stream: bool
    scope: Scope


@dataclass(frozen=True)
class Leave:
    """One of those who came leaves, wherever it stands."""

    at: int


@dataclass(frozen=True)
class Lose:
    """An engine dies."""

    replica: int


@dataclass(frozen=True)
class Pour:
    """Tokens come out."""

    n_tokens: int


@dataclass(frozen=True)
class Turn:
    """The loop turns so often."""

    n: int


Act: TypeAlias = Join | Leave | Lose | Pour | Turn

acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(Join, st.sampled_from(TEXTS), st.booleans(), st.sampled_from(SCOPES)),
    st.builds(Leave, st.integers(0, 30)),
    st.builds(Lose, st.integers(0, 1)),
    st.builds(Pour, st.integers(1, 6)),
    st.builds(Turn, st.integers(1, 5)),
)


@settings(max_examples=60)
@given(storm=st.lists(acts, min_size=20, max_size=60))
async def test_at_every_step_received_is_the_sum_of_outcomes_waiting_and_running(
    storm: Sequence[Act],
) -> None:
    async with open_gate(SETTINGS, replace(UNDAUNTED, replicas=2)) as gate:
        for act in storm:
            await _play(gate, act)
            await asyncio.sleep(0)
            _the_law_holds(gate)
        gate.tap.is_open = True
        with anyio.fail_after(5):
            answers = await asyncio.gather(*gate.callers, return_exceptions=True)
        await gate.is_up()
        _the_law_holds(gate)
        _everybody_had_one_end(gate)
        assert gate.is_empty
        for answer, caller in zip(answers, gate.callers, strict=True):
            if isinstance(answer, BaseException):
                assert isinstance(answer, LocktenderError | asyncio.CancelledError)
            else:
                # A text of one's own, whole, whatever happened beside it.
                assert answer.text == caller.get_name()
                assert answer.finish_reason is FinishReason.STOP


async def _play(gate: Gate, act: Act) -> None:
    match act:
        case Join(text, stream, scope):
            gate.call(request_for(text, stream=stream), scope).set_name(text)
        case Leave(at):
            there = [caller for caller in gate.callers if not caller.done()]
            if there:
                there[at % len(there)].cancel()
        case Lose(replica):
            await gate.lose(f"{MODEL}-{replica}")
        case Pour(n_tokens):
            gate.pour(n_tokens)
        case Turn(n):
            for _ in range(n):
                await asyncio.sleep(0)


def _the_law_holds(gate: Gate) -> None:
    n_ended = sum(gate.tally.ended(MODEL).values())
    dispatcher = gate.dispatcher
    n_inside = dispatcher.n_waiting + dispatcher.n_running
    n_others = dispatcher.n_outside + dispatcher.n_sending
    assert gate.tally.received(MODEL) == n_ended + n_inside + n_others
    assert n_inside <= MAX_INSIDE
    assert dispatcher.n_waiting <= SETTINGS.max_waiting
    assert min(dispatcher.n_running, dispatcher.n_outside, dispatcher.n_sending) >= 0
    assert all(load.free_slots >= 0 and load.free_tokens >= 0 for load in gate.loads())


def _everybody_had_one_end(gate: Gate) -> None:
    received, ended = gate.ids(RequestReceived), gate.ids(RequestEnded)
    assert len(set(received)) == len(received)
    assert Counter(ended) == Counter(received)
    # Nobody is assigned who was not received, or after its end.
    for request_id in set(gate.ids(RequestAssigned)):
        kinds = [type(event) for event in gate.events if _is_about(event, request_id)]
        assert kinds[0] is RequestReceived
        assert kinds[-1] is RequestEnded


def _is_about(event: object, request_id: str) -> bool:
    return getattr(event, "request_id", None) == request_id
