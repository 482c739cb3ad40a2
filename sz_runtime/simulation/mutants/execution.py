"""Bugs of execution: claims, attempts, results, stopping, recovery, placement."""

from itertools import count
from typing import Any

from attrs import evolve

from sz_protocol import policy as policy_module
from sz_protocol.changes import InsertRuns, MoveCursors
from sz_protocol.kernel.effects import StartRuns, Write
from sz_protocol.kernel.events import FailReason
from sz_protocol.machines import admission as admission_module
from sz_protocol.machines import completion as completion_module
from sz_protocol.machines import execution as execution_module
from sz_protocol.machines import run_table as run_table_module
from sz_protocol.machines import scheduling as scheduling_module
from sz_protocol.machines.execution import Execution
from sz_protocol.machines.placement import Placement
from sz_protocol.machines.pools import Pools, Slot
from sz_protocol.machines.run_table import RunTable
from sz_protocol.machines.run_writer import Claim, Durable, RunWriter, Save, Slice, Undone
from sz_protocol.machines.stopping import Stopping
from sz_protocol.policy import OverlapVerdict
from sz_protocol.records import Outcome, RunState
from sz_runtime.simulation.mutants.planting import mutant


def _cursor_before_insert(original: Any) -> Any:
    def put(self: RunWriter, entry: Any) -> None:
        original(self, entry)
        if isinstance(entry, Slice):
            write = self.effects.pop()
            assert isinstance(write, Write)
            moves = tuple(change for change in write.changes if isinstance(change, MoveCursors))
            rows = tuple(change for change in write.changes if isinstance(change, InsertRuns))
            self.effects += [Write(self.ops.next(), moves, write.fence), evolve(write, changes=rows)]

    return put


def _random_run_key(original: Any) -> Any:
    numbers = count()
    return lambda uid, nominal, *kind: original(uid, f"{nominal}\0{next(numbers)}", *kind)


def _history_lost(original: Any) -> Any:
    return lambda *args: evolve(original(*args), attempt=None)


def _start_with_claim(original: Any) -> Any:
    def handle(self: Execution, event: Any, now: Any) -> Any:
        effects = original(self, event, now)
        asked = [e for e in effects if isinstance(e, Write) and self.writer.gate.owns(e.op)]
        for entry in [self.writer.gate.waiting[write.op] for write in asked]:
            if isinstance(entry, Slice | Claim):
                claimed = [run for run in entry.runs if run.state is RunState.LEASED]
                effects.append(StartRuns(tuple(self.table.begin(run, now) for run in claimed)))
        return effects

    return handle


def _start_only_new(original: Any) -> Any:
    def start(self: Execution, runs: Any, now: Any) -> Any:
        return original(self, tuple(run for run in runs if run.row not in self.table.executing), now)

    return start


def _any_attempt(original: Any) -> Any:
    def completion(run: Any, definition: Any, result: Any, *rest: Any) -> Any:
        decided = original(evolve(run, attempt=result.attempt), definition, result, *rest)
        wrong = evolve(decided.run, attempt=max(decided.run.attempt - 1, 1))
        return evolve(decided, run=wrong)

    return completion


_FORGOTTEN: dict[int, None] = {}
"""Rows of the last life, for the mutant that forgets their lanes."""


def _lanes_forgotten(original: Any) -> Any:
    def on_found(self: Execution, runs: Any, schedules: Any, now: Any) -> Any:
        _FORGOTTEN.clear()
        _FORGOTTEN.update(dict.fromkeys(run.row for run in runs))
        return original(self, runs, schedules, now)

    return on_found


def _forgotten_stay_out(original: Any) -> Any:
    def enter(self: Placement, run: Any, width: int) -> None:
        if run.row not in _FORGOTTEN:
            original(self, run, width)

    return enter


def _forgotten_go_on(original: Any) -> Any:
    def has_turn(self: Placement, run: Any) -> bool:
        free = run.row not in self.filed and run.row not in self.slots
        return free if run.row in _FORGOTTEN else original(self, run)

    return has_turn


def _left_leased(original: Any) -> Any:
    def on_found(self: Execution, runs: Any, schedules: Any, now: Any) -> Any:
        pairs = [(r, s) for r, s in zip(runs, schedules, strict=True) if r.state is not RunState.LEASED]
        return original(self, tuple(r for r, _ in pairs), tuple(s for _, s in pairs), now)

    return on_found


def _whatever_semantics(original: Any) -> Any:
    return lambda semantics, losses, limit: losses < limit


def _never(original: Any) -> Any:
    return lambda *arguments: False


def _retry_for_ever(original: Any) -> Any:
    return lambda retry, failures, retryable: retryable


def _no_backoff(original: Any) -> Any:
    return lambda self, run, now: 0


def _result_dropped(original: Any) -> Any:
    def on_failed(self: RunWriter, entry: Any, failure: Any, now: Any) -> Any:
        if isinstance(entry, Save) and failure.reason in (FailReason.UNAVAILABLE, FailReason.UNKNOWN):
            return []
        return original(self, entry, failure, now)

    return on_failed


def _unknown_is(verdict: Any) -> Any:
    def build(original: Any) -> Any:
        def on_failed(self: RunWriter, entry: Any, failure: Any, now: Any) -> Any:
            if failure.reason is FailReason.UNKNOWN and isinstance(entry, Slice | Claim):
                return [verdict(entry)]
            return original(self, entry, failure, now)

        return on_failed

    return build


def _timeout_ignored(original: Any) -> Any:
    def begin(self: RunTable, run: Any, now: Any) -> Any:
        definition = self.definitions[run.row]
        self.definitions[run.row] = evolve(definition, timeout_us=None)
        order = original(self, run, now)
        self.definitions[run.row] = definition
        return order

    return begin


def _deadline_anew(original: Any) -> Any:
    return lambda run, deadline_us, now: deadline_us


def _skip_nothing(original: Any) -> Any:
    def decide(overlap: Any, active: int, queued: bool) -> Any:
        verdict = original(overlap, active, queued)
        return OverlapVerdict.WAIT if verdict in (OverlapVerdict.SKIP, OverlapVerdict.FULL) else verdict

    return decide


def _pool_ignored(original: Any) -> Any:
    def take_slot(self: Placement, row: int, route: Any) -> Slot | None:
        infos = self.routes.candidates(route)
        if not infos:
            return None
        self.occupy(row, infos[0])
        return self.slots[row]

    return take_slot


def _last_come_first_served(original: Any) -> Any:
    def wait(self: Pools, route: Any, ticket: int, row: int) -> None:
        original(self, route, ticket, row)
        self.lines[route].queue.rotate(1)

    return wait


def _lane_too_wide(original: Any) -> Any:
    return lambda overlap: original(overlap) + 1


def _doomed_forgotten(original: Any) -> Any:
    def settle(self: Stopping, row: int, now: Any) -> None:
        if row in self.table.doomed:
            run = self.table.runs[row]
            self.table.doomed.clear()
            self.table.drop(run, now)
        else:
            original(self, row, now)

    return settle


def _slot_kept(original: Any) -> Any:
    def free(self: Placement, row: int) -> None:
        slot = self.slots.get(row)
        if slot is None or row % 16:
            original(self, row)

    return free


def _success_invented(original: Any) -> Any:
    def decide(run: Any, definition: Any, settings: Any, rng: Any, now_us: int) -> Any:
        completion = original(run, definition, settings, rng, now_us)
        done = evolve(completion.run, state=RunState.DONE, outcome=Outcome.SUCCEEDED, finished_us=now_us)
        return evolve(completion, run=done, attempt=None)

    return decide


def _loss_hidden(original: Any) -> Any:
    def decide(run: Any, *rest: Any) -> Any:
        completion = original(run, *rest)
        return evolve(completion, run=evolve(completion.run, losses=run.losses), attempt=None)

    return decide


def _drain_does_not_wait(original: Any) -> Any:
    def finish(self: Execution, now: Any) -> Any:
        self.drain_until_us, self.cancelled_all, self.gave_up = now.mono_us, True, True
        return original(self, now)

    return finish


EXECUTION = (
    mutant(
        "cursor_before_insert",
        "the cursor moves in one write, its rows follow in another",
        (RunWriter, "put", _cursor_before_insert),
    ),
    mutant(
        "random_run_key",
        "the run key is drawn anew each time an instant is decided",
        (admission_module, "run_key", _random_run_key),
        (scheduling_module, "run_key", _random_run_key),
    ),
    mutant(
        "start_before_claim_is_durable",
        "a handler begins as soon as its claim is sent to the store",
        (Execution, "handle", _start_with_claim),
        (Execution, "_start", _start_only_new),
    ),
    mutant(
        "result_of_another_attempt",
        "a result is recorded for the attempt before its own",
        (execution_module, "decide_completion", _any_attempt),
    ),
    mutant(
        "overlap_forgotten_after_restart",
        "runs of the last life no longer hold their lanes",
        (Execution, "_on_found", _lanes_forgotten),
        (Placement, "enter", _forgotten_stay_out),
        (Placement, "has_turn", _forgotten_go_on),
    ),
    mutant(
        "never_requeue_after_crash",
        "runs that were executing at a crash stay claimed for ever",
        (Execution, "_on_found", _left_leased),
    ),
    mutant(
        "lost_at_first_crash",
        "a run whose executor vanished is given up, whatever its semantics",
        (completion_module, "may_restart", _never),
    ),
    mutant(
        "at_most_once_restarted",
        "a run whose executor vanished is executed again, whatever its semantics",
        (completion_module, "may_restart", _whatever_semantics),
    ),
    mutant("retry_beyond_policy", "failures are retried for ever", (completion_module, "may_retry", _retry_for_ever)),
    mutant("backoff_ignored", "the next attempt begins at once", (RunTable, "_wait_us", _no_backoff)),
    mutant(
        "result_dropped_when_the_store_fails",
        "a result that the store does not take is forgotten",
        (RunWriter, "_on_failed", _result_dropped),
    ),
    mutant(
        "unknown_taken_for_done",
        "a write whose outcome is unknown counts as durable",
        (RunWriter, "_on_failed", _unknown_is(Durable)),
    ),
    mutant(
        "unknown_taken_for_failed",
        "a write whose outcome is unknown counts as undone",
        (RunWriter, "_on_failed", _unknown_is(lambda entry: Undone(entry, FailReason.UNAVAILABLE))),
    ),
    mutant("timeout_ignored", "nobody stops an execution at its time-out", (RunTable, "begin", _timeout_ignored)),
    mutant(
        "deadline_counted_anew",
        "the deadline of all attempts is counted from when a life first sees the run",
        (run_table_module, "_left_us", _deadline_anew),
    ),
    mutant(
        "overlap_never_skips",
        "instants wait behind a running one although the policy says skip",
        (admission_module, "decide_overlap", _skip_nothing),
    ),
    mutant("pool_ignored", "a pool executes as many runs as come", (Placement, "take_slot", _pool_ignored)),
    mutant(
        "last_come_first_served",
        "who comes last to a line goes to its head",
        (Pools, "wait", _last_come_first_served),
    ),
    mutant(
        "lane_too_wide",
        "one run more of each schedule executes at once than its policy says",
        (admission_module, "lane_width", _lane_too_wide),
        (run_table_module, "lane_width", _lane_too_wide),
        (policy_module, "lane_width", _lane_too_wide),
    ),
    mutant(
        "stopped_while_claimed_is_forgotten",
        "a run that is to be stopped while its claim is on its way is forgotten",
        (Stopping, "settle", _doomed_forgotten),
    ),
    mutant(
        "slot_not_given_back", "now and then an execution keeps its slot when it ends", (Placement, "free", _slot_kept)
    ),
    mutant(
        "success_invented",
        "a run whose executor vanished has succeeded",
        (execution_module, "decide_loss", _success_invented),
    ),
    mutant(
        "history_lost",
        "what became of an attempt is not kept when another one follows",
        (execution_module, "decide_completion", _history_lost),
    ),
    mutant(
        "loss_hidden",
        "a run is restarted after a crash as if nothing had been",
        (execution_module, "decide_loss", _loss_hidden),
    ),
    mutant(
        "drain_does_not_wait",
        "a stop in order does not wait for results to be durable",
        (Execution, "_finish_drain", _drain_does_not_wait),
    ),
)
