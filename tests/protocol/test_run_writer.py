"""run_writer: what becomes of a write, whatever the store answers (RUN-4, RUN-5)."""

from typing import Any

import pytest
from attrs import evolve

from sz_protocol.changes import CursorMove, InsertAttempts, InsertRuns, MoveCursors, UpdateRuns
from sz_protocol.kernel.effects import Publish, Read, Write
from sz_protocol.kernel.events import Event, FailReason, ReadDone, ReadFailed, Woke, WriteDone, WriteFailed
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.machines.completion import Completion
from sz_protocol.machines.run_writer import (
    Claim,
    ClaimsRead,
    Durable,
    Entry,
    Fenced,
    Overtaken,
    RunWriter,
    Save,
    Slice,
    Undone,
    Verdict,
    Wanted,
)
from sz_protocol.notices import StoreRecovered, StoreTroubled
from sz_protocol.ops import Ops
from sz_protocol.queries import RunsByRow
from sz_protocol.records import Attempt, Outcome, Reason, Run, RunState
from sz_protocol.settings import Settings
from tests.protocol.harness import at
from tests.protocol.machine_rig import TERM, leased, row_of, waiting

MOVE = CursorMove("s", 1, 0, 60, 120)
DONE = leased().done(Outcome.SUCCEEDED, Reason.ON_TIME, 1, 2)
GONE = Attempt(row_of(1), 1, Outcome.FAILED, "error", 1, 2)

SLICE = Slice((waiting(),), (MOVE,), stream=1)
CLAIM = Claim((leased(),), (0,))
SAVE = Save((Completion(DONE, 1),))
WANTED = Wanted(5, waiting())


def writing(entry: Entry) -> RunWriter:
    """A writer that has just asked the store for it, as operation 1."""
    writer = RunWriter(Settings(), Ops(TERM))
    writer.put(entry)
    (write,) = taken(writer)
    assert isinstance(write, Write)
    assert (write.op, write.fence) == (1, TERM)
    return writer


def taken(writer: RunWriter) -> list[Any]:
    effects, writer.effects = writer.effects, []
    return effects


def failed(reason: FailReason, op: int = 1, refused: tuple[str | int, ...] = ()) -> WriteFailed:
    return WriteFailed(op, reason, refused, "disk")


def give(writer: RunWriter, event: Event, seconds: float = 0) -> list[Verdict]:
    return writer.handle(event, at(seconds))


@pytest.mark.parametrize(
    ("entry", "changes", "stream"),
    [
        (SLICE, (InsertRuns((waiting(),)), MoveCursors((MOVE,))), 1),
        (CLAIM, (UpdateRuns((leased(),), (0,)),), 0),
        (WANTED, (InsertRuns((waiting(),)),), 0),
        (SAVE, (UpdateRuns((DONE,), (1,)),), 0),
        (Save((Completion(DONE, 1, GONE),)), (UpdateRuns((DONE,), (1,)), InsertAttempts((GONE,))), 0),
    ],
    ids=["SCHED-2: rows and cursors are one write", "claim", "wanted", "save", "save with its history"],
)
def test_what_is_asked_of_the_store(entry: Entry, changes: tuple[Any, ...], stream: int) -> None:
    writer = RunWriter(Settings(), Ops(TERM))
    writer.put(entry)
    assert taken(writer) == [Write(1, changes, TERM, stream)]
    assert not writer.idle
    assert give(writer, WriteDone(1)) == [Durable(entry)]
    assert writer.idle


@pytest.mark.parametrize("entry", [SLICE, CLAIM, WANTED], ids=["slice", "claim", "wanted"])
def test_what_the_store_did_not_take_is_undone(entry: Slice | Claim | Wanted) -> None:
    assert give(writing(entry), failed(FailReason.UNAVAILABLE)) == [Undone(entry, FailReason.UNAVAILABLE, (), "disk")]


def test_sched_2_what_was_decided_on_top_of_a_failed_slice_fails_with_it_and_nothing_after_it() -> None:
    writer = writing(SLICE)
    on_top = evolve(SLICE, runs=(waiting(2),))
    writer.put(on_top)
    give(writer, failed(FailReason.REFUSED, refused=(row_of(1),)))
    assert give(writer, failed(FailReason.PREVIOUS, op=2)) == [Undone(on_top, FailReason.PREVIOUS, (), "disk")]
    assert writer.ops.stream == 2, "of the next slice: the first failure began it, the second one belongs to the first"
    assert writer.retry_at_us is None, "the store is well"


@pytest.mark.parametrize("reason", [FailReason.UNAVAILABLE, FailReason.UNKNOWN])
def test_run_5_pain_7_a_result_is_written_again_until_it_is_durable(reason: FailReason) -> None:
    writer = writing(SAVE)
    assert give(writer, failed(reason)) == []
    assert taken(writer) == [Publish(StoreTroubled(reason, "disk"))]
    assert writer.retry_at_us == at(0.25).mono_us
    assert give(writer, Woke(), 0.2) == []
    assert taken(writer) == []
    give(writer, Woke(), 0.25)
    assert taken(writer) == [Write(2, (UpdateRuns((DONE,), (1,)),), TERM)]
    assert give(writer, WriteDone(2), 1) == [Durable(SAVE)]
    assert taken(writer) == [Publish(StoreRecovered(SECOND_US))]


def test_run_5_the_store_is_left_in_peace_longer_each_time_and_named_once() -> None:
    writer, waits, now_s, op = writing(SAVE), [], 0.0, 1
    for _ in range(7):
        give(writer, failed(FailReason.UNAVAILABLE, op), now_s)
        assert writer.retry_at_us is not None
        waits.append((writer.retry_at_us - at(now_s).mono_us) / SECOND_US)
        now_s += waits[-1]
        give(writer, Woke(), now_s)
        told = taken(writer)
        assert sum(isinstance(effect, Publish) for effect in told) == (op == 1)
        op = told[-1].op
    assert waits == [0.25, 0.5, 1, 2, 4, 5, 5]


@pytest.mark.parametrize("entry", [CLAIM, SAVE], ids=["claim", "save"])
def test_what_was_refused_is_looked_up_before_anything_else(entry: Entry) -> None:
    writer = writing(entry)
    assert give(writer, failed(FailReason.REFUSED, refused=(row_of(1),))) == []
    assert taken(writer) == [Read(2, RunsByRow((row_of(1),)))]


@pytest.mark.parametrize("entry", [SLICE, CLAIM, WANTED], ids=["slice", "claim", "wanted"])
def test_what_may_be_durable_is_looked_up_after_a_while(entry: Entry) -> None:
    writer = writing(entry)
    assert give(writer, failed(FailReason.UNKNOWN)) == []
    taken(writer)
    give(writer, Woke(), 1)
    assert taken(writer) == [Read(2, RunsByRow((row_of(1),)))]


@pytest.mark.parametrize(
    ("entry", "rows", "verdict"),
    [
        (SLICE, (), Undone(SLICE, FailReason.UNKNOWN)),
        (SLICE, (waiting(),), Durable(SLICE)),
        (WANTED, (), Undone(WANTED, FailReason.UNKNOWN)),
        (WANTED, (waiting(),), Durable(WANTED)),
        (CLAIM, (leased(),), ClaimsRead(CLAIM, (leased(),))),
    ],
)
def test_what_the_store_then_says_decides(entry: Entry, rows: tuple[Run, ...], verdict: Verdict) -> None:
    writer = writing(entry)
    give(writer, failed(FailReason.UNKNOWN))
    give(writer, Woke(), 1)
    assert give(writer, ReadDone(2, rows), 1) == [verdict]


@pytest.mark.parametrize(
    ("truth", "verdicts", "written"),
    [
        ((DONE,), [Durable(SAVE)], []),
        ((), [Overtaken((DONE,))], []),
        ((evolve(DONE, outcome=Outcome.LOST),), [Overtaken((DONE,))], []),
        ((leased(attempt=2, fence=row_of(9)),), [Overtaken((DONE,))], []),
        ((leased(attempt=0, fence=0, state=RunState.PENDING),), [], [UpdateRuns((DONE,), (0,))]),
    ],
    ids=["the same", "nothing", "another end", "a later claim", "less: it has to take it"],
)
def test_run_5_a_refused_result_is_void_only_where_the_store_has_a_later_truth(
    truth: tuple[Run, ...], verdicts: list[Verdict], written: list[UpdateRuns]
) -> None:
    writer = writing(SAVE)
    give(writer, failed(FailReason.REFUSED))
    taken(writer)
    assert give(writer, ReadDone(2, truth)) == verdicts
    assert [write.changes[0] for write in taken(writer)] == written


def test_a_read_back_that_fails_is_repeated() -> None:
    writer = writing(CLAIM)
    give(writer, failed(FailReason.REFUSED))
    taken(writer)
    assert give(writer, ReadFailed(2, FailReason.UNAVAILABLE)) == []
    taken(writer)
    give(writer, Woke(), 1)
    assert taken(writer) == [Read(3, RunsByRow((row_of(1),)))]


def test_what_the_store_cannot_hold_of_a_result_is_left_out_of_it_alone() -> None:
    bad = Completion(evolve(DONE, result="\udcff"), 1)
    good = Completion(leased(2).done(Outcome.SUCCEEDED, Reason.ON_TIME, 1, 2, "1"), 1)
    writer = writing(Save((bad, good)))
    give(writer, failed(FailReason.INVALID))
    first, second = taken(writer)
    assert [write.changes[0].runs for write in (first, second)] == [(bad.run,), (good.run,)], "it does not say which"
    give(writer, failed(FailReason.INVALID, first.op))
    (less,) = taken(writer)
    assert less.changes[0].runs[0].result is None
    assert "could not be stored" in less.changes[0].runs[0].error


@pytest.mark.parametrize("op", [1, 99], ids=["its own write", "another machine's"])
def test_a_term_that_is_over_is_over_whoever_learns_of_it(op: int) -> None:
    assert give(writing(SAVE), failed(FailReason.FENCED, op)) == [Fenced()]


def test_answers_for_others_are_left_to_others() -> None:
    writer = writing(SAVE)
    for event in (WriteDone(99), failed(FailReason.UNAVAILABLE, 99), ReadDone(99, ())):
        assert give(writer, event) == []
    assert taken(writer) == []
    assert not writer.idle
