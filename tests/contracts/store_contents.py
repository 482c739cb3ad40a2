"""What every store owes the node: values, the high-water mark, queries (STORE-8 to STORE-13)."""

from typing import Any

import msgpack
import pytest
from attrs import evolve, fields

from sz_protocol.changes import DropRuns, InsertAttempts, InsertRuns, MoveCursors, PutSchedules, UpdateRuns
from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.definition_wire import decode_stored, definition_to_wire
from sz_protocol.kernel.events import FailReason, WriteFailed
from sz_protocol.queries import (
    AttemptsOf,
    DueSchedules,
    LedgerCounts,
    RunByKey,
    RunsByRow,
    RunsPage,
    ScheduleIds,
    SchedulesById,
    SchedulesPage,
    UnfinishedRuns,
)
from sz_protocol.records import INBORN, Outcome, RunKind, RunState, ScheduleState
from sz_protocol.triggers import Cron, Unreadable
from tests.contracts.store_world import (
    MINUTE,
    SECOND,
    T0,
    Session,
    a_move,
    a_run,
    a_schedule,
    an_attempt,
    done,
    edit,
    names,
    put,
    reasons,
    refused,
)

INVALID = FailReason.INVALID

RARE: dict[str, Any] = {
    "kind": RunKind.BACKFILL,
    "failures": 1,
    "losses": 2,
    "not_before_us": T0 + 3,
    "count": 4,
    "until_us": T0 + 5,
    "covers": (T0, T0 + 6),
    "params": {"a": 7},
    "error": "eight",
    "worker": "nine",
}
"""What few runs have."""
TROUBLES_AT_DEFAULT: dict[str, Any] = {
    name: getattr(a_run(1), name) for name in ("failures", "losses", "not_before_us", "error", "worker")
}
ORDINARY_END: dict[str, Any] = {
    "state": RunState.DONE,
    "outcome": Outcome.SUCCEEDED,
    "started_us": T0 + 9,
    "finished_us": T0 + 10,
    "result": "11",
}


class ContentsContract:
    """Rules of what is kept and found again."""

    # --- values --------------------------------------------------------------------------------------------------

    def test_store_8_schedules_come_back_equal(self, session: Session) -> None:
        full = Definition(
            id="käse ☂ 'quoted\"",
            handler_id="reports",
            method="build",
            trigger=Cron("0 2 * * 1-5", "Europe/Berlin"),
            params={"a": [1, 2.5, None, True, {"b": "ü"}], "big": 2**63 - 1, "": ""},
            misfire=Misfire(MisfirePolicy.ALL, grace_us=5 * SECOND, max=7, window_us=3600 * SECOND, rate_per_s=2.0),
            overlap=Overlap(OverlapPolicy.QUEUE, 3),
            retry=Retry(4, SECOND, 9 * SECOND),
            timeout_us=3 * SECOND,
            deadline_us=60 * SECOND,
            spread_us=30 * SECOND,
            semantics=Semantics.AT_MOST_ONCE,
            labels={"team": "billing"},
        )
        odd = a_schedule(full.id, definition=full, next_due_us=None, catch_up=MisfirePolicy.SKIP, catch_up_until_us=T0)
        schedules = [odd, a_schedule("left", state=ScheduleState.RETIRED, paused_us=T0 - 7, paused_reason="moving ☂")]
        schedules.append(a_schedule("left before the time was known", paused_us=0))
        schedules += [a_schedule(state.value, state=state, reason=f"{state} ☂", source="") for state in ScheduleState]
        session.do(put(*schedules))
        assert session.read(SchedulesById(tuple(each.id for each in schedules))) == tuple(schedules)

    def test_store_8_runs_come_back_equal(self, session: Session) -> None:
        full = a_run(
            1,
            state=RunState.DONE,
            kind=RunKind.BACKFILL,
            outcome=Outcome.LOST,
            reason="crashed",
            attempt=4,
            failures=2,
            losses=3,
            fence=(1 << 62) + 5,
            not_before_us=T0 + 7,
            started_us=T0 + 8,
            finished_us=T0 + 9,
            count=12,
            until_us=T0 + 10,
            covers=(T0, T0 + 1, T0 + 2),
            params={"x": [1, {"y": None}], "z": b"\x00"},
            result="",
            error="nul \0 and umbrella ☂ and quotes '\"",
        )
        empty = a_run(2, params={}, result="", error="", reason="")
        states = [a_run(10 + n, state=state) for n, state in enumerate(RunState)]
        outcomes = [done(a_run(20 + n), outcome=outcome) for n, outcome in enumerate(Outcome)]
        kinds = [a_run(30 + n, kind=kind, params={}) for n, kind in enumerate(RunKind)]
        runs = (full, empty, done(a_run(3), result=None), a_run(4, fire_us=-5), *states, *outcomes, *kinds)
        session.do(InsertRuns(runs))
        rows = tuple(run.row for run in runs)
        assert session.read(RunsByRow(rows)) == runs
        session.do(InsertAttempts((full_attempt := an_attempt(full, started_us=None, error="\0☂"),)))
        assert session.read(AttemptsOf(full.row)) == (full_attempt,)

    @pytest.mark.parametrize("full", [True, False])
    @pytest.mark.parametrize(
        "change",
        [
            {"state": RunState.PENDING, "attempt": 1, "failures": 1, "not_before_us": T0 + 5, "started_us": T0},
            {"state": RunState.DONE, "outcome": Outcome.CANCELLED, "reason": "requested", "finished_us": T0 + 9},
            {"state": RunState.LEASED, "attempt": 2, "fence": 77, "worker": "edge"},
            TROUBLES_AT_DEFAULT,
            TROUBLES_AT_DEFAULT | ORDINARY_END,
            TROUBLES_AT_DEFAULT | ORDINARY_END | {"result": None, "outcome": Outcome.FAILED},
            *({name: RARE[name]} | ORDINARY_END for name in TROUBLES_AT_DEFAULT),
            ORDINARY_END | {"started_us": None},
            ORDINARY_END | {"outcome": None},
            ORDINARY_END | {"fence": 78, "reason": "late"},
        ],
    )
    def test_store_8_an_update_says_all_of_where_a_run_stands(
        self, session: Session, change: dict[str, Any], full: bool
    ) -> None:
        run = a_run(1, **(RARE if full else {}))
        session.do(InsertRuns((run, a_run(2))))
        session.do(UpdateRuns((evolve(run, **change),), (1,)))
        assert session.read(RunsByRow((run.row,))) == (evolve(run, **change),)
        assert session.read(RunByKey(run.run_key)) == (evolve(run, **change),)
        session.do(UpdateRuns((done(a_run(2)),), (1,)))
        assert session.read(RunsByRow((a_run(2).row,))) == (done(a_run(2)),)

    def test_store_14_every_field_of_a_run_is_inborn_or_says_where_it_stands(self) -> None:
        run = a_run(1)
        told = set(TROUBLES_AT_DEFAULT) | set(ORDINARY_END) | {"attempt", "fence", "reason"}
        assert {field.name for field in fields(type(run))} == told | set(INBORN)
        assert not told & set(INBORN)

    @pytest.mark.parametrize("together", [True, False])
    def test_store_7_the_end_of_a_run_that_is_not_there_is_refused_and_makes_none(
        self, session: Session, together: bool
    ) -> None:
        session.do(InsertRuns((a_run(1), a_run(2))))
        session.do(UpdateRuns((done(a_run(2), finished_us=T0),), (1,)), DropRuns(1 << 60, 10))
        ends = UpdateRuns((done(a_run(1)), done(a_run(2))) if together else (done(a_run(2)),), (1,) * (1 + together))
        assert refused(session, ends) == (a_run(2).row,)
        assert session.read(RunsPage()) == (a_run(1),)
        session.do(UpdateRuns((done(a_run(1)),), (1,)))

    @pytest.mark.parametrize("change", [{"error": "\ud800"}, {"fire_us": 1 << 70}, {"params": {"x": object()}}])
    def test_store_10_data_that_cannot_be_held_is_invalid_and_named(
        self, session: Session, change: dict[str, Any]
    ) -> None:
        """A store may hold more than another; what it cannot hold it names, and the rest is unharmed."""
        bad = a_run(2, **change)
        ops = [
            session.submit(InsertRuns((a_run(1),)), stream=1),
            session.submit(InsertRuns((a_run(3), bad, a_run(4))), stream=1),
            session.submit(InsertRuns((a_run(5),)), stream=2),
        ]
        assert reasons(session, [ops[0], ops[2]]) == [None, None]
        answer = session.answer(ops[1])
        stored = {run.row for run in session.read(UnfinishedRuns())}
        if isinstance(answer, WriteFailed):
            assert (answer.reason, answer.refused) == (INVALID, (bad.row,))
            assert str(bad.row) in answer.detail
            assert stored == {a_run(1).row, a_run(5).row}
        else:
            assert session.read(RunsByRow((bad.row,))) == (bad,)

    def test_store_9_the_latest_recorded_wall_time_is_known_to_the_next_life(self, session: Session) -> None:
        assert session.high_water_us == 0
        session.do(put(a_schedule("a", next_due_us=T0 + 1000 * MINUTE)))
        second = Session.begin(session.world, session.end())
        assert second.high_water_us == T0
        second.do(InsertRuns((a_run(5), a_run(4))), MoveCursors((a_move(a_schedule("a"), T0 + MINUTE, None),)))
        third = Session.begin(second.world, second.end())
        assert third.high_water_us == a_run(5).decided_us
        third.do(UpdateRuns((done(a_run(5), finished_us=T0 + 90 * MINUTE),), (1,)))
        third.do(DropRuns(1 << 60, 10))
        assert refused(third, InsertRuns((a_run(90), a_run(4)))) == (a_run(4).row,)
        assert Session.begin(third.world, third.end()).high_water_us == T0 + 90 * MINUTE

    # --- queries -------------------------------------------------------------------------------------------------

    def test_store_13_what_cannot_be_read_hinders_nobody_and_is_kept_as_it_was(self, session: Session) -> None:
        schedules = [a_schedule(name, next_due_us=T0 + MINUTE) for name in "abc"]
        plain = {**definition_to_wire(schedules[1].definition), "trigger": {"type": "lunar", "phase": "full"}}
        data = msgpack.packb(plain)
        schedules[1] = odd = evolve(schedules[1], definition=decode_stored("b", data))
        assert isinstance(odd.definition.trigger, Unreadable)
        session.do(put(*schedules))
        for query in (SchedulesById(("a", "b", "c")), DueSchedules(T0 + MINUTE, None, 10), SchedulesPage()):
            assert session.read(query) == tuple(schedules)
        aside = evolve(odd, rev=2, state=ScheduleState.QUARANTINED, reason=odd.definition.trigger.why)
        session.do(PutSchedules((aside,), (odd.cursor_us,)))
        (found,) = session.read(SchedulesPage(states=(ScheduleState.QUARANTINED,)))
        assert found == aside
        assert found.definition.trigger.data == data

    def test_store_12_due_schedules_come_in_order_page_by_page(self, session: Session) -> None:
        dues = {"d": 3, "b": 1, "a": 3, "c": 2, "e": 9}
        schedules = {name: a_schedule(name, next_due_us=T0 + due) for name, due in dues.items()}
        session.do(put(*schedules.values(), a_schedule("never", next_due_us=None)))
        session.do(put(a_schedule("paused", next_due_us=T0 + 1, state=ScheduleState.PAUSED)))
        assert names(session.read(DueSchedules(T0 + 3, None, 10))) == ["b", "c", "a", "d"]
        assert names(session.read(DueSchedules(T0 + 3, None, 2))) == ["b", "c"]
        assert names(session.read(DueSchedules(T0 + 3, (T0 + 2, "c"), 2))) == ["a", "d"]
        assert names(session.read(DueSchedules(T0 + 9, (T0 + 3, "b"), 10))) == ["d", "e"]
        assert names(session.read(DueSchedules(T0 + 9, (T0 + 3, "d"), 0))) == []
        session.do(MoveCursors((a_move(schedules["b"], T0 + 1, T0 + 4), a_move(schedules["c"], T0 + 2, None))))
        session.do(edit(schedules["a"], state=ScheduleState.PARKED), edit(schedules["e"], next_due_us=T0 + 2))
        assert names(session.read(DueSchedules(T0 + 9, None, 10))) == ["e", "d", "b"]

    def test_store_12_a_refused_write_leaves_the_order_of_due_schedules(self, session: Session) -> None:
        a, b = a_schedule("a", next_due_us=T0 + 1), a_schedule("b", next_due_us=T0 + 2)
        session.do(put(a, b))
        moves = MoveCursors((a_move(a, T0 + 1, T0 + 9), a_move(b, T0 + 2, None), a_move(b, T0 + 2, None)))
        assert refused(session, edit(a, next_due_us=T0 + 7), moves) == ("a", "b")
        assert session.read(DueSchedules(T0 + 100, None, 10)) == (a, b)
        session.do(MoveCursors((a_move(a, T0 + 1, T0 + 9), a_move(b, T0 + 2, T0 + 8))))
        assert names(session.read(DueSchedules(T0 + 100, None, 10))) == ["b", "a"]

    def test_store_12_schedules_by_id_and_by_page(self, session: Session) -> None:
        states = (ScheduleState.ACTIVE, ScheduleState.PAUSED, ScheduleState.RETIRED)
        ids = [f"s{n}" for n in range(9)]
        stored = [
            a_schedule(name, state=states[n % 3], source="api" if n > 5 else "config") for n, name in enumerate(ids)
        ]
        session.do(put(*reversed(stored)))
        assert names(session.read(SchedulesById(("s3", "nobody", "s1", "s3")))) == ["s3", "s1", "s3"]
        assert names(session.read(SchedulesPage())) == ids
        assert names(session.read(SchedulesPage(after_id="s2", limit=3))) == ["s3", "s4", "s5"]
        assert names(session.read(SchedulesPage(states=states[:2], source="config"))) == ["s0", "s1", "s3", "s4"]
        assert session.read(SchedulesPage(states=())) == ()
        assert session.read(ScheduleIds("config")) == ("s0", "s1", "s3", "s4")
        assert session.read(ScheduleIds("config", after_id="s1", limit=1)) == ("s3",)
        assert session.read(ScheduleIds("api")) == ("s6", "s7")

    def test_store_12_unfinished_runs_in_the_order_of_rows(self, session: Session) -> None:
        session.do(InsertRuns(tuple(a_run(n) for n in (5, 3, 1, 4, 2))))
        session.do(UpdateRuns((done(a_run(3)),), (1,)))
        assert session.read(UnfinishedRuns()) == tuple(a_run(n) for n in (1, 2, 4, 5))
        assert session.read(UnfinishedRuns(after_row=a_run(2).row, limit=1)) == (a_run(4),)
        assert session.read(RunsByRow((a_run(4).row, 77, a_run(3).row))) == (a_run(4), done(a_run(3)))
        assert session.read(RunByKey(b"no such key")) == ()
        assert session.read(AttemptsOf(77)) == ()

    def test_store_12_the_ledger_newest_first_with_filters(self, session: Session) -> None:
        runs = [a_run(n, fire_us=T0 + n // 2, schedule_id="ab"[n % 2]) for n in range(12)]
        for n in range(8):
            runs[n] = done(runs[n], outcome=Outcome.FAILED if n % 4 == 3 else Outcome.SUCCEEDED)
        session.do(InsertRuns(tuple(runs)))
        newest = list(reversed(runs))
        assert session.read(RunsPage()) == tuple(newest)
        assert session.read(RunsPage(limit=3)) == tuple(newest[:3])
        assert session.read(RunsPage(limit=3, before=(T0 + 4, runs[9].row))) == tuple(newest[3:6])
        assert session.read(RunsPage(schedule_id="a")) == tuple(run for run in newest if run.schedule_id == "a")
        assert session.read(RunsPage(state=RunState.LEASED)) == tuple(newest[:4])
        assert session.read(RunsPage(state=RunState.DONE, limit=2)) == tuple(newest[4:6])
        assert session.read(RunsPage(state=RunState.PENDING)) == ()
        assert session.read(RunsPage(outcome=Outcome.FAILED)) == (runs[7], runs[3])
        assert session.read(RunsPage(outcome=Outcome.SUCCEEDED, schedule_id="a", limit=1)) == (runs[6],)
        assert session.read(RunsPage(outcome=Outcome.FAILED, schedule_id="b", to_us=T0 + 3)) == (runs[3],)
        assert session.read(RunsPage(from_us=T0 + 2, to_us=T0 + 4)) == tuple(reversed(runs[4:8]))
        assert session.read(RunsPage(before=(T0 + 3, runs[7].row), from_us=T0 + 3)) == (runs[6],)
        assert session.read(RunsPage(state=RunState.LEASED, outcome=Outcome.FAILED)) == ()

    def test_store_12_the_ledger_in_numbers(self, session: Session) -> None:
        session.do(
            InsertRuns(
                (
                    done(a_run(1)),
                    done(a_run(2)),
                    done(a_run(3), outcome=Outcome.MISSED, reason="window", count=40),
                    a_run(4),
                    done(a_run(5, schedule_id="b"), reason="late"),
                )
            )
        )
        of_a = (
            ("a", RunState.DONE, Outcome.MISSED, "window", 40),
            ("a", RunState.DONE, Outcome.SUCCEEDED, "on_time", 2),
            ("a", RunState.LEASED, None, "on_time", 1),
        )
        assert session.read(LedgerCounts("a")) == of_a
        assert session.read(LedgerCounts()) == (*of_a, ("b", RunState.DONE, Outcome.SUCCEEDED, "late", 1))
        assert session.read(LedgerCounts("nobody")) == ()
