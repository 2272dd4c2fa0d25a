import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio
import pytest

from harness.gate import MODEL, UNDAUNTED, Berth, Gate, open_gate, request_for, until
from locktender.core.errors import (
    AnswerUnread,
    ConfigError,
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    EngineStartError,
    LocktenderError,
    NoReplicaReady,
    PoisonedRequest,
    QueueFull,
    ReplicaLost,
    WaitTooLong,
)
from locktender.core.events import (
    EnginesDown,
    Event,
    Outcome,
    ReplicaLeft,
    RequestAssigned,
    RequestEnded,
    RequestReceived,
    RequestReturned,
    SupervisorGaveUp,
)
from locktender.core.request import Delta, FinishReason, GenerationRequest
from locktender.core.scope import Scope
from locktender.model.direct import DirectReplica
from locktender.model.dispatcher import Dispatcher
from locktender.model.engine import EngineSpec, Stepper
from locktender.model.engines.echo import EchoStepper
from locktender.model.settings import GateSettings, SupervisionSettings
from locktender.model.supervisor import Supervisor

ONE = GateSettings(max_running=1, max_waiting=8)
FOUR = GateSettings(max_running=4, max_waiting=8)


async def result(caller: asyncio.Task[Delta]) -> Delta:
    with anyio.fail_after(5):
        return await caller


async def error_of(caller: asyncio.Task[Delta]) -> LocktenderError:
    with pytest.raises(LocktenderError) as caught:
        await result(caller)
    return caught.value


async def left(caller: asyncio.Task[Delta]) -> None:
    """Have the caller leave."""
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await result(caller)


# Letting in.


async def test_a_stream_is_handed_on_piece_by_piece() -> None:
    async with (
        open_gate(ONE) as gate,
        gate.dispatcher.open(request_for("a b", stream=True), Scope()) as deltas,
    ):
        with anyio.fail_after(5):
            gate.pour(1)
            assert await anext(deltas) == Delta("a", 1, 2)
            gate.pour(1)
            assert await anext(deltas) == Delta(" b", 1, finish_reason=FinishReason.STOP)
            assert await anext(deltas, None) is None


async def test_an_answer_that_does_not_stream_is_one_piece() -> None:
    async with open_gate(ONE) as gate:
        gate.tap.is_open = True
        async with gate.dispatcher.open(request_for("a b"), Scope()) as deltas:
            with anyio.fail_after(5):
                assert [delta async for delta in deltas] == [Delta("a b", 2, 2, FinishReason.STOP)]
        assert gate.dispatcher.n_tokens == 2


async def test_the_twenty_fifth_of_twenty_four_places_is_refused() -> None:
    async with open_gate(GateSettings(max_running=8, max_waiting=16)) as gate:
        gate.add_callers(*["a"] * 24)
        await gate.shows(waiting=16, running=8)
        error = await error_of(gate.call(request_for("a")))
        assert isinstance(error, QueueFull)
        await gate.shows(waiting=16, running=8)
        gate.tap.is_open = True
        for caller in gate.callers[:24]:
            assert (await result(caller)).text == "a"
        assert gate.is_empty
        assert gate.tally.ended(MODEL) == {Outcome.COMPLETED: 24, Outcome.REFUSED: 1}


async def test_whoever_is_refused_was_received_and_has_ended() -> None:
    async with open_gate(GateSettings(max_running=1, max_waiting=0)) as gate:
        gate.add_callers("a")
        await gate.shows(waiting=0, running=1)
        request = request_for("b")
        await error_of(gate.call(request, Scope(caller_id="theirs")))
        assert gate.events[-2:] == [
            RequestReceived(request.id, MODEL, "theirs"),
            RequestEnded(request.id, MODEL, Outcome.REFUSED, 0.0, "queue_full", "theirs"),
        ]


SIGNED = {name: Scope(outer=name, outer_s=60.0) for name in ("agent", "batch")}


async def test_a_later_call_of_an_outer_request_stands_outside_a_full_gate_until_its_turn() -> None:
    async with open_gate(GateSettings(max_running=1, max_waiting=0)) as gate:
        first = gate.call(request_for("a"), SIGNED["batch"])
        await gate.shows(waiting=0, running=1)
        inner = gate.call(request_for("b"), SIGNED["batch"])
        await gate.shows(waiting=0, running=1)
        assert gate.dispatcher.n_outside == 1
        assert isinstance(await error_of(gate.call(request_for("c"), SIGNED["agent"])), QueueFull)
        gate.tap.is_open = True
        assert (await result(first)).text == "a"
        assert (await result(inner)).text == "b"
        assert gate.dispatcher.n_outside == 0


async def test_an_agent_whose_tools_have_run_has_the_next_place() -> None:
    async with open_gate(GateSettings(max_running=1, max_waiting=1)) as gate:
        first = gate.call(request_for("a"), SIGNED["agent"])
        gate.pour(1)
        await result(first)
        crowd = [gate.call(request_for("b")) for _ in range(2)]
        await gate.shows(waiting=1, running=1)
        second = gate.call(request_for("a"), SIGNED["agent"])
        await until(lambda: gate.dispatcher.n_outside == 1)
        gate.pour(1)
        await result(crowd[0])
        await gate.shows(waiting=1, running=1)
        assert isinstance(await error_of(gate.call(request_for("c"))), QueueFull)
        gate.tap.is_open = True
        assert (await result(second)).text == "a"


async def test_who_comes_alone_finds_a_slot_beside_any_number_of_batches() -> None:
    async with open_gate(GateSettings(max_running=8, max_waiting=24)) as gate:
        for n in range(90):
            _ = gate.call(request_for("a"), Scope(outer=f"batch {n % 3}"))
        await gate.shows(waiting=0, running=7)
        assert gate.dispatcher.n_outside == 83
        _ = gate.call(request_for("b"))
        await gate.shows(waiting=0, running=8)


async def test_who_leaves_from_outside_leaves_nothing_behind() -> None:
    async with open_gate(GateSettings(max_running=1, max_waiting=0)) as gate:
        first = gate.call(request_for("a"), SIGNED["batch"])
        outside = gate.call(request_for("b"), SIGNED["batch"])
        await until(lambda: gate.dispatcher.n_outside == 1)
        await left(outside)
        assert gate.dispatcher.n_outside == 0
        gate.tap.is_open = True
        await result(first)
        assert gate.is_empty
        assert gate.tally.ended(MODEL) == {Outcome.COMPLETED: 1, Outcome.CANCELLED: 1}


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        (Scope(outer="batch"), WaitTooLong),
        (Scope(outer="batch", outer_s=60.0, timeout_s=0.05), DeadlineExceeded),
    ],
)
async def test_the_wait_outside_is_bounded(scope: Scope, kind: type[LocktenderError]) -> None:
    async with open_gate(GateSettings(max_running=1, max_waiting=0, max_wait_s=0.05)) as gate:
        _ = gate.call(request_for("a"), replace(scope, timeout_s=None))
        await gate.shows(waiting=0, running=1)
        assert isinstance(await error_of(gate.call(request_for("b"), scope)), kind)
        assert gate.dispatcher.n_outside == 0


async def test_while_an_engine_is_down_no_more_wait_than_may() -> None:
    async with open_gate(GateSettings(max_running=3, max_waiting=2), is_started=False) as gate:
        gate.add_callers(*["a"] * 5)
        await gate.shows(waiting=2, running=3)


async def test_room_that_the_engine_found_to_be_free_is_given_to_others() -> None:
    async with open_gate(replace(FOUR, max_gate_tokens=100)) as gate:
        gate.add_callers("x" * 60 + " y")
        await gate.shows(waiting=0, running=1)
        assert isinstance(await error_of(gate.call(request_for("b"))), QueueFull)
        gate.pour(1)
        await until(lambda: gate.dispatcher.n_tokens == 1)
        gate.add_callers("b")
        await gate.shows(waiting=0, running=2)


async def test_what_the_engine_refuses_is_the_callers_error() -> None:
    async with open_gate(ONE) as gate:
        gate.tap.is_open = True
        error = await error_of(gate.call(request_for("a", max_tokens=5000)))
        assert isinstance(error, ContextTooLong)
        assert gate.is_empty
        assert gate.tally.ended(MODEL) == {Outcome.INVALID: 1}


# Waiting.


@pytest.mark.parametrize("replicas", [1, 2])
async def test_the_order_of_service_is_the_order_of_arrival(replicas: int) -> None:
    async with open_gate(ONE, replace(UNDAUNTED, replicas=replicas)) as gate:
        gate.add_callers("a b", *["c"] * 7)
        await gate.shows(waiting=8 - replicas, running=replicas)
        gate.tap.is_open = True
        for caller in gate.callers:
            await result(caller)
        assert gate.ids(RequestAssigned) == [caller.get_name() for caller in gate.callers]


async def test_two_replicas_share_the_load() -> None:
    async with open_gate(FOUR, replace(UNDAUNTED, replicas=2)) as gate:
        gate.add_callers(*["a"] * 6)
        await gate.shows(waiting=0, running=6)
        assert [load.running for load in gate.loads()] == [3, 3]


async def test_who_waits_too_long_is_told_so() -> None:
    settings = replace(ONE, max_wait_s=0.01)
    async with open_gate(settings, is_started=False) as gate:
        error = await error_of(gate.call(request_for("a")))
        assert isinstance(error, WaitTooLong)
        assert error.message == "No engine was free within 0.01 s. Try again later."
        await gate.shows(waiting=0, running=0)


async def test_a_later_call_of_an_outer_request_waits_until_its_own_deadline() -> None:
    settings = replace(ONE, max_wait_s=0.01)
    async with open_gate(settings, is_started=False) as gate:
        first = gate.call(request_for("a"), SIGNED["agent"])
        assert isinstance(await error_of(first), WaitTooLong)
        later = gate.call(request_for("a"), replace(SIGNED["agent"], timeout_s=0.05))
        assert isinstance(await error_of(later), DeadlineExceeded)


async def test_nobody_has_longer_than_the_model_allows_by_naming_more() -> None:
    async with open_gate(replace(ONE, timeout_s=0.01), is_started=False) as gate:
        for scope in (Scope(timeout_s=80_000), replace(SIGNED["agent"], timeout_s=80_000)):
            assert isinstance(await error_of(gate.call(request_for("a"), scope)), DeadlineExceeded)


async def test_a_deadline_that_passes_while_waiting_ends_the_wait() -> None:
    async with open_gate(ONE, is_started=False) as gate:
        error = await error_of(gate.call(request_for("a"), Scope(timeout_s=0.01)))
        assert isinstance(error, DeadlineExceeded)
        assert error.message == "The time limit of 0.01 s passed while the request waited."
        await gate.shows(waiting=0, running=0)
        assert gate.tally.ended(MODEL) == {Outcome.EXPIRED: 1}


async def test_the_models_time_limit_is_that_of_a_caller_who_names_none() -> None:
    async with open_gate(replace(ONE, timeout_s=0.01), is_started=False) as gate:
        assert isinstance(await error_of(gate.call(request_for("a"))), DeadlineExceeded)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deadline_that_passes_while_running_ends_the_run(stream: bool) -> None:
    async with open_gate(ONE) as gate:
        caller = gate.call(request_for("a", stream=stream), Scope(timeout_s=0.2))
        error = await error_of(caller)
        assert isinstance(error, DeadlineExceeded)
        assert error.message == "The time limit of 0.2 s passed while the request ran."
        assert gate.is_empty


async def test_who_is_late_is_taken_out_and_the_next_is_served() -> None:
    async with open_gate(ONE) as gate:
        first = gate.call(request_for("a"))
        await gate.shows(waiting=0, running=1)
        late = gate.call(request_for("b"), Scope(timeout_s=0.01))
        next_one = gate.call(request_for("c"))
        assert isinstance(await error_of(late), DeadlineExceeded)
        await gate.shows(waiting=1, running=1)
        gate.tap.is_open = True
        assert (await result(first)).text == "a"
        assert (await result(next_one)).text == "c"


# Leaving.


async def test_leaving_while_waiting_gives_the_place_back() -> None:
    async with open_gate(ONE) as gate:
        gate.add_callers("a")
        waiting = gate.call(request_for("b"))
        await gate.shows(waiting=1, running=1)
        await left(waiting)
        await gate.shows(waiting=0, running=1)
        assert gate.tally.ended(MODEL) == {Outcome.CANCELLED: 1}


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_while_running_gives_everything_back_and_serves_the_next(
    stream: bool,
) -> None:
    async with open_gate(ONE) as gate:
        running = gate.call(request_for("a b", stream=stream))
        next_one = gate.call(request_for("c"))
        gate.pour(1)
        await until(lambda: gate.dispatcher.n_tokens == 1)
        await left(running)
        gate.tap.is_open = True
        assert (await result(next_one)).text == "c"
        assert gate.is_empty
        assert gate.tally.ended(MODEL) == {Outcome.CANCELLED: 1, Outcome.COMPLETED: 1}


async def test_leaving_right_after_being_assigned_gives_everything_back() -> None:
    async with open_gate(ONE) as gate:
        gate.on = lambda event: isinstance(event, RequestAssigned) and caller.cancel()
        caller = gate.call(request_for("a"))
        with pytest.raises(asyncio.CancelledError):
            await result(caller)
        assert gate.ids(RequestAssigned) == [caller.get_name()]
        assert gate.is_empty
        gate.on = lambda _: None
        gate.tap.is_open = True
        assert (await result(gate.call(request_for("b")))).text == "b"


async def test_leaving_before_reading_anything_gives_the_permit_back() -> None:
    async with open_gate(ONE) as gate:
        async with gate.dispatcher.open(request_for("a"), Scope()):
            assert repr(gate.dispatcher) == f"<Dispatcher {MODEL} [waiting 0 | running 1]>"
        assert gate.is_empty
        assert gate.tally.ended(MODEL) == {Outcome.CANCELLED: 1}


async def test_a_block_left_in_the_middle_of_a_stream_ends_it() -> None:
    async with open_gate(ONE) as gate:
        async with gate.dispatcher.open(request_for("a b", stream=True), Scope()) as deltas:
            gate.pour(1)
            with anyio.fail_after(5):
                await anext(deltas)
        assert gate.is_empty
        assert gate.tally.ended(MODEL) == {Outcome.CANCELLED: 1}


async def test_when_the_engine_has_done_the_place_is_free_whoever_has_not_read() -> None:
    done: list[int] = []
    async with open_gate(GateSettings(max_running=1, max_waiting=0)) as gate:
        opened = gate.dispatcher.open(request_for("a b c", stream=True), Scope(), done.append)
        async with opened as deltas:
            gate.pour(1)
            with anyio.fail_after(5):
                assert (await anext(deltas)).text == "a"
            gate.tap.is_open = True
            await gate.shows(waiting=0, running=0)
            assert gate.dispatcher.n_sending == 1
            assert done == [len(" b c")]
            assert (await result(gate.call(request_for("next")))).text == "next"
            assert [delta.text async for delta in deltas] == [" b c"]
        assert gate.dispatcher.n_sending == 0
        assert gate.is_empty
        assert gate.tally.ended(MODEL) == {Outcome.COMPLETED: 2}


async def test_an_unread_answer_that_is_given_up_has_one_outcome_with_its_code() -> None:
    async with open_gate(ONE) as gate:
        gate.tap.is_open = True

        async def give_up() -> None:
            async with gate.dispatcher.open(request_for("a b", stream=True), Scope()) as deltas:
                await anext(deltas)
                raise AnswerUnread("Nobody reads.")

        with pytest.raises(AnswerUnread), anyio.fail_after(5):
            await give_up()
        (ended,) = gate.of(RequestEnded)
        assert (ended.outcome, ended.code) == (Outcome.CANCELLED, "answer_unread")


async def test_a_loss_keeps_the_place_of_those_who_are_tried_again_and_of_no_others() -> None:
    async with open_gate(GateSettings(max_running=2, max_waiting=0)) as gate:
        again = gate.call(request_for("a b"))
        opened = gate.dispatcher.open(request_for("c d", stream=True), Scope())
        async with opened as deltas:
            gate.pour(2)
            with anyio.fail_after(5):
                await anext(deltas)
            await gate.lose()
            await until(lambda: gate.dispatcher.n_sending == 1)
            await gate.shows(waiting=0, running=1)
            with pytest.raises(ReplicaLost):
                [delta async for delta in deltas]
        gate.tap.is_open = True
        assert (await result(again)).text == "a b"
        assert gate.is_empty


async def test_a_fault_in_the_block_is_a_failed_request() -> None:
    async with open_gate(ONE) as gate:
        with pytest.raises(ZeroDivisionError):
            async with gate.dispatcher.open(request_for("a"), Scope()):
                raise ZeroDivisionError
        assert gate.is_empty
        (ended,) = gate.of(RequestEnded)
        assert (ended.outcome, ended.code) == (Outcome.FAILED, "internal_error")


# Losing an engine.


async def test_an_answer_of_which_nothing_was_sent_is_begun_again_elsewhere() -> None:
    async with open_gate(ONE, replace(UNDAUNTED, replicas=2)) as gate:
        caller = gate.call(request_for("a b"))
        gate.pour(1)
        await until(lambda: gate.dispatcher.n_tokens == 1)
        (assigned,) = gate.of(RequestAssigned)
        await gate.lose(assigned.replica)
        gate.tap.is_open = True
        assert await result(caller) == Delta("a b", 2, 2, FinishReason.STOP)
        assert gate.ids(RequestReturned) == [caller.get_name()]
        (ended,) = gate.of(RequestEnded)
        assert (ended.outcome, ended.n_tokens) == (Outcome.COMPLETED, 2)


async def test_a_stream_that_has_sent_text_ends_with_the_loss() -> None:
    async with open_gate(ONE) as gate:
        caller = gate.call(request_for("a b", stream=True))
        gate.pour(1)
        await until(lambda: gate.dispatcher.n_tokens == 1)
        await gate.lose()
        assert isinstance(await error_of(caller), ReplicaLost)
        await gate.is_up()
        assert gate.is_empty
        assert gate.ids(RequestReturned) == []
        assert gate.tally.ended(MODEL) == {Outcome.FAILED: 1}


async def test_a_stream_that_has_sent_no_text_is_begun_again() -> None:
    async with open_gate(ONE) as gate:
        caller = gate.call(request_for("a", stream=True))
        await gate.shows(waiting=0, running=1)
        await gate.lose()
        gate.tap.is_open = True
        assert (await result(caller)).text == "a"


async def test_those_who_lost_their_engine_together_run_together_and_nobody_with_them() -> None:
    async with open_gate(FOUR) as gate:
        lost = [gate.call(request_for(text)) for text in ("a", "b", "c")]
        await gate.shows(waiting=0, running=3)
        late = gate.call(request_for("d e f"))
        await gate.shows(waiting=0, running=4)
        await left(late)
        await gate.lose()
        late = gate.call(request_for("d"))
        await gate.shows(waiting=1, running=3)
        assert gate.ids(RequestAssigned)[4:] == [each.get_name() for each in lost]
        gate.pour(3)
        for caller in lost:
            assert (await result(caller)).finish_reason is FinishReason.STOP
        gate.pour(1)
        assert (await result(late)).text == "d"
        assert gate.is_empty


async def test_a_group_that_is_beyond_the_place_where_its_engine_died_is_given_company() -> None:
    long = " ".join("a" * 20)
    async with open_gate(FOUR) as gate:
        lost = [gate.call(request_for(long)), gate.call(request_for(long + " b"))]
        gate.pour(2)
        await until(lambda: gate.dispatcher.n_tokens == 2)
        await gate.lose()
        gate.add_callers("c")
        await gate.shows(waiting=1, running=2)
        gate.pour(2 * 8)  # As many as the engine may have made without having told, ...
        await gate.shows(waiting=1, running=2)
        gate.pour(2)  # ... and that at which it died.
        await gate.shows(waiting=0, running=3)
        gate.tap.is_open = True
        assert [(await result(caller)).n_tokens for caller in lost] == [20, 21]


async def test_a_group_that_dies_is_halved_and_between_two_of_them_others_have_a_turn() -> None:
    async with open_gate(FOUR) as gate:
        lost = [gate.call(request_for(text)) for text in ("a", "b", "c", "d")]
        await gate.shows(waiting=0, running=4)
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 8)
        other = gate.call(request_for("e"))
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 9)
        await gate.shows(waiting=4, running=1)
        gate.pour(1)
        assert (await result(other)).text == "e"
        await gate.shows(waiting=2, running=2)
        assert gate.ids(RequestAssigned)[9:] == [each.get_name() for each in lost[:2]]
        gate.pour(2)
        await gate.shows(waiting=0, running=2)
        gate.tap.is_open = True
        assert [(await result(caller)).text for caller in lost] == ["a", "b", "c", "d"]
        assert gate.is_empty


async def test_with_a_second_replica_a_group_goes_there_while_the_first_serves_the_others() -> None:
    async with open_gate(FOUR, replace(UNDAUNTED, replicas=2)) as gate:
        first, second = (gate.call(request_for(text)) for text in ("a b", "c"))
        await gate.shows(waiting=0, running=2)
        await gate.lose("m-1")
        await gate.is_up()
        await until(lambda: len(gate.of(RequestAssigned)) == 3)
        gate.add_callers("d", "e", "f")
        await gate.shows(waiting=0, running=5)
        assert {load.replica: load.running for load in gate.loads()} == {"m-0": 4, "m-1": 1}
        gate.tap.is_open = True
        assert [(await result(each)).text for each in (first, second)] == ["a b", "c"]


async def test_a_suspect_that_runs_is_given_no_company() -> None:
    async with open_gate(FOUR) as gate:
        suspect = gate.call(request_for("a"))
        await gate.shows(waiting=0, running=1)
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 2)
        gate.add_callers("b", "c")
        await gate.shows(waiting=2, running=1)
        gate.pour(1)
        await result(suspect)
        await gate.shows(waiting=0, running=2)


async def test_when_a_suspect_that_held_up_the_line_leaves_the_next_is_served() -> None:
    async with open_gate(FOUR) as gate:
        lost = gate.call(request_for("a"))
        await gate.shows(waiting=0, running=1)
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 2)
        await left(lost)
        gate.add_callers("b")
        await gate.shows(waiting=0, running=1)
        suspect = gate.call(request_for("a"))
        gate.add_callers("c")
        await gate.shows(waiting=2, running=1)
        await left(suspect)
        await gate.shows(waiting=0, running=2)


async def test_a_reader_who_leaves_late_does_not_bring_a_suspect_company() -> None:
    async with open_gate(FOUR) as gate:
        async with gate.dispatcher.open(request_for("a b", stream=True), Scope()) as deltas:
            gate.pour(1)
            with anyio.fail_after(5):
                assert (await anext(deltas)).text == "a"
            suspect = gate.call(request_for("c d e"))
            await gate.shows(waiting=0, running=2)
            gate.pour(2)  # The end of the stream, which stays unread, and one word of the other.
            await until(lambda: [load.running for load in gate.loads()] == [1])
            await gate.lose()
            await until(lambda: len(gate.of(RequestAssigned)) == 3)
        company = gate.call(request_for("f"))
        await gate.shows(waiting=1, running=1)
        gate.tap.is_open = True
        assert (await result(suspect)).text == "c d e"
        assert (await result(company)).text == "f"


async def test_a_suspect_whose_answer_is_complete_but_unread_holds_nobody_up() -> None:
    async with (
        open_gate(FOUR) as gate,
        gate.dispatcher.open(request_for("a b", stream=True), Scope()) as deltas,
    ):
        reading = asyncio.ensure_future(anext(deltas))
        await until(lambda: gate.of(RequestAssigned))
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 2)
        gate.pour(1)
        with anyio.fail_after(5):
            assert (await reading).text == "a"
        gate.tap.is_open = True
        assert (await result(gate.call(request_for("c")))).text == "c"


async def test_a_prompt_that_was_alone_in_the_last_of_three_deaths_is_refused_from_then_on() -> (
    None
):
    async with open_gate(FOUR) as gate:
        poison = gate.call(request_for("bad"))
        innocent = gate.call(request_for("good"))
        await gate.shows(waiting=0, running=2)
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 4)
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 5)
        await gate.shows(waiting=1, running=1)
        await gate.lose()
        assert isinstance(await error_of(poison), PoisonedRequest)
        gate.tap.is_open = True
        assert (await result(innocent)).text == "good"
        refusal = await error_of(gate.call(request_for("bad")))
        assert isinstance(refusal, PoisonedRequest)
        assert refusal.message.endswith("it is refused for another 600 s.")
        assert gate.is_empty


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_that_was_answered_after_a_loss_is_no_suspect_any_more(
    stream: bool,
) -> None:
    async with open_gate(FOUR) as gate:
        request = request_for("a", stream=stream)
        first = asyncio.create_task(first_piece(gate, request))
        await gate.shows(waiting=0, running=1)
        await gate.lose()
        gate.tap.is_open = True
        with anyio.fail_after(5):
            assert (await first).finish_reason is FinishReason.STOP
        gate.tap.is_open = False
        gate.add_callers("a", "b")
        await gate.shows(waiting=0, running=2)  # side by side


async def first_piece(gate: Gate, request: GenerationRequest) -> Delta:
    """Read the first piece, which may be all, and leave."""
    async with gate.dispatcher.open(request, Scope()) as deltas:
        return await anext(deltas)


async def test_a_prompt_that_gets_further_at_each_death_is_hit_from_outside_and_never_banned() -> (
    None
):
    long = " ".join("a" * 30)
    async with open_gate(FOUR) as gate:
        caller = gate.call(request_for(long))
        n_tokens = 0
        for n_more in (1, 10, 19):  # Nine beyond the last time: one more than may be untold.
            gate.pour(n_more)
            n_tokens += n_more
            await until(partial(_has_made, gate, n_tokens))
            await gate.lose()
            await gate.is_up()
        gate.tap.is_open = True
        assert (await result(caller)).n_tokens == 30


def _has_made(gate: Gate, n_tokens: int) -> bool:
    return gate.dispatcher.n_tokens == n_tokens


async def test_the_losses_of_those_before_it_do_not_make_a_poison_of_who_waits() -> None:
    async with open_gate(ONE) as gate:
        first = gate.call(request_for("a"))
        waiting = gate.call(request_for("b"))
        await gate.shows(waiting=1, running=1)
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 2)
        await gate.lose()
        await until(lambda: len(gate.of(RequestAssigned)) == 3)
        gate.pour(1)  # Between two tries of the suspect, who waits has a turn.
        assert (await result(waiting)).text == "b"
        await until(lambda: len(gate.of(RequestAssigned)) == 4)
        await gate.lose()
        assert isinstance(await error_of(first), PoisonedRequest)


# Without engines.


async def test_after_many_failures_in_a_row_nobody_waits_until_an_engine_starts() -> None:
    repaired = asyncio.Event()

    def build(spec: EngineSpec) -> Stepper:
        if not repaired.is_set():
            raise EngineStartError("There are no descriptors.")
        return EchoStepper(spec)

    def make(name: str, changed: Callable[[], None]) -> DirectReplica:
        return DirectReplica(name, EngineSpec("echo", 1), build, changed)

    supervision = SupervisionSettings(backoff_s=0.001, max_backoff_s=0.002, max_failures=3)
    gate = Gate()
    gate.supervisor = supervisor = Supervisor(MODEL, make, supervision, gate.tell)
    gate.dispatcher = Dispatcher(MODEL, ONE, supervisor, gate.tell)
    waiting = gate.call(request_for("a"))
    await gate.shows(waiting=1, running=0)
    supervisor.start()
    refusal = await error_of(waiting)
    assert isinstance(refusal, NoReplicaReady)
    assert refusal.retry_after_s
    assert (supervisor.is_down, supervisor.has_given_up) == (True, False)
    assert supervisor.trouble == "There are no descriptors."
    assert isinstance(await error_of(gate.call(request_for("b"))), NoReplicaReady)
    assert gate.tally.ended(MODEL) == {Outcome.REFUSED: 2}
    await until(lambda: len(gate.of(ReplicaLeft)) >= 6)
    assert gate.of(EnginesDown) == [EnginesDown(MODEL, "There are no descriptors.")]
    repaired.set()
    await until(lambda: supervisor.is_ready)
    assert repr(supervisor) == f"<Supervisor {MODEL} [replicas 1 ready, of 1]>"
    assert (await result(gate.call(request_for("c")))).text == "c"
    await supervisor.stop()


async def test_an_engine_that_can_never_start_is_given_up_at_once() -> None:
    def fail(_: EngineSpec) -> Stepper:
        raise ConfigError("There is no such option.")

    def make(name: str, changed: Callable[[], None]) -> DirectReplica:
        return DirectReplica(name, EngineSpec("echo", 1), fail, changed)

    gate = Gate()
    gate.supervisor = Supervisor(MODEL, make, replace(UNDAUNTED, replicas=2), gate.tell)
    gate.dispatcher = Dispatcher(MODEL, ONE, gate.supervisor, gate.tell)
    waiting = gate.call(request_for("a"))
    await gate.shows(waiting=1, running=0)
    gate.supervisor.start()
    assert isinstance(await error_of(waiting), NoReplicaReady)
    await until(lambda: gate.of(SupervisorGaveUp))
    assert gate.supervisor.has_given_up
    assert [left.retry_in_s for left in gate.of(ReplicaLeft)] == [None, None]
    assert gate.of(SupervisorGaveUp) == [SupervisorGaveUp(MODEL)]
    await gate.supervisor.stop()


async def test_who_comes_back_to_a_pool_that_has_given_up_does_not_wait_for_it() -> None:
    pool = Berth()
    await pool.engine.start()
    gate = Gate()
    gate.dispatcher = Dispatcher(MODEL, ONE, pool, gate.tell)
    caller = gate.call(request_for("a"))
    await gate.shows(waiting=0, running=1)
    pool.has_given_up = True
    await pool.engine.stop(drain_s=0)
    assert isinstance(await error_of(caller), NoReplicaReady)
    await gate.shows(waiting=0, running=0)


# Draining.


async def test_a_gate_that_drains_refuses_and_sees_those_inside_to_their_end() -> None:
    async with open_gate(ONE) as gate:
        inside = [gate.call(request_for(text)) for text in ("a", "b")]
        await gate.shows(waiting=1, running=1)
        gate.dispatcher.drain()
        assert isinstance(await error_of(gate.call(request_for("c"))), Draining)
        idle = asyncio.create_task(gate.dispatcher.wait_idle())
        assert not idle.done()
        gate.tap.is_open = True
        assert [(await result(caller)).text for caller in inside] == ["a", "b"]
        with anyio.fail_after(5):
            await idle
        assert gate.is_empty


async def test_a_gate_in_which_nobody_ever_was_is_idle() -> None:
    async with open_gate(ONE) as gate:
        with anyio.fail_after(5):
            await gate.dispatcher.wait_idle()


# Telling.


async def test_a_request_is_told_of_from_its_arrival_to_its_end() -> None:
    async with open_gate(ONE) as gate:
        gate.tap.is_open = True
        request = request_for("a b")
        await result(gate.call(request, Scope(caller_id="theirs")))
        told: list[Event] = [event for event in gate.events if hasattr(event, "request_id")]
        received, assigned, ended = told
        assert received == RequestReceived(request.id, MODEL, "theirs")
        assert isinstance(assigned, RequestAssigned)
        assert (assigned.request_id, assigned.replica) == (request.id, "m-0")
        assert isinstance(ended, RequestEnded)
        assert ended.outcome is Outcome.COMPLETED
        assert ended.waited_s is not None
        assert ended.ttft_s is not None
        assert 0 <= assigned.waited_s <= ended.waited_s <= ended.ttft_s <= ended.total_s
        assert (ended.caller_id, ended.prompt_tokens, ended.n_tokens) == ("theirs", 2, 2)
