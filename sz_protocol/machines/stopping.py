"""Stopping runs: on demand, at their deadlines, when they are superseded, when the node drains; and giving up on
executions that will not stop. Part of execution.

RUN-7 a run whose last decision the store has not answered yet is doomed, and ends when the answer is there.
RUN-8 whoever asks for a run to be stopped is answered when its end is durable.
"""

from random import Random

from attrs import Factory, define

from sz_protocol.commands import Done, Refusal, RefusalCode
from sz_protocol.kernel.effects import CancelReason, CancelRun, Effect, Publish, Reply
from sz_protocol.kernel.events import RunResult
from sz_protocol.kernel.now import Now
from sz_protocol.machines.completion import decide_completion, decide_stop
from sz_protocol.machines.run_table import RunTable
from sz_protocol.machines.run_writer import RunWriter, Save
from sz_protocol.notices import RunUnresponsive
from sz_protocol.records import Outcome, Run
from sz_protocol.settings import Settings


@define
class Stopping:
    """`asked` holds the requests that wait for the end of a run, by its row."""

    settings: Settings
    rng: Random
    writer: RunWriter
    table: RunTable
    asked: dict[int, list[int]] = Factory(dict)

    def expire(self, now: Now) -> list[Effect]:
        """Stop what has passed a deadline."""
        effects: list[Effect] = []
        for run, reason in self.table.pop_deadlines(now):
            if reason is not None:
                effects += self.stop((run.row,), reason, now)
            elif self.table.executing.get(run.row) is not CancelReason.SHUTDOWN:
                effects += self.give_up((run.row,), now)
        return effects

    def stop(self, rows: tuple[int, ...], reason: CancelReason, now: Now) -> list[Effect]:
        """End runs that wait, ask executing ones to stop."""
        effects: list[Effect] = []
        waiting: list[Run] = []
        for row in rows:
            run = self.table.runs.get(row)
            if run is None:
                continue
            if row in self.table.executing:
                if self.table.ask_to_stop(run, reason, self.settings.cancel_grace_us, now):
                    effects.append(CancelRun(row, run.attempt, reason, run.worker))
            elif self.table.on_its_way(run):
                self.table.doomed.setdefault(row, reason)
            else:
                waiting.append(run)
        self._end(waiting, reason, now)
        return effects

    def settle(self, row: int, now: Now) -> None:
        """The store has answered what was on its way: a doomed run ends, another one goes on."""
        reason = self.table.doomed.get(row)
        if reason is None:
            self.table.settle(row, now)
        else:
            self.table.unsettled.pop(row, None)
            self._end([self.table.runs[row]], reason, now)

    def _end(self, runs: list[Run], reason: CancelReason, now: Now) -> None:
        if runs:
            completions = tuple(decide_stop(run, reason, now.utc_us) for run in runs)
            self.table.apply(completions, now)
            self.writer.put(Save(completions))

    def give_up(self, rows: tuple[int, ...], now: Now) -> list[Effect]:
        """These were asked to stop and did not: record what they come to without them. In this life no other attempt
        follows: this one is still executing, and holds its slot and its lane until it ends."""
        return [effect for row in rows if row in self.table.executing for effect in self._give_up(row, now)]

    def _give_up(self, row: int, now: Now) -> list[Effect]:
        run, reason = self.table.runs[row], self.table.executing[row]
        if reason is None:
            return []
        definition = self.table.definitions[run.row]
        result = RunResult(
            run.row,
            run.attempt,
            Outcome.FAILED,
            reason.value,
            started_us=run.decided_us,
            finished_us=now.utc_us,
            error="the handler did not stop when it was asked to",
            retryable=False,
        )
        completion = decide_completion(run, definition, result, reason, self.settings, self.rng, now.utc_us)
        self.table.strand(run)
        self.writer.put(Save((completion,)))
        return [Publish(RunUnresponsive(run.row, run.schedule_id, run.attempt))]

    # --- on demand --------------------------------------------------------------------------------------------

    def cancel(self, request_id: int, run_id: str, now: Now) -> list[Effect]:
        """Stop one run for somebody."""
        try:
            key = bytes.fromhex(run_id)
        except ValueError:
            key = b""
        for row, run in self.table.runs.items():
            if run.run_key == key:
                self.asked.setdefault(row, []).append(request_id)
                return self.stop((row,), CancelReason.REQUESTED, now)
        message = f"no run {run_id} is waiting or executing here"
        return [Reply(request_id, Refusal(RefusalCode.UNKNOWN_RUN, message))]

    def told(self, run: Run) -> list[Effect]:
        """The end of a run is durable: tell whoever asked for it."""
        requests = self.asked.pop(run.row, None)
        if requests is None:
            return []
        if run.outcome is Outcome.CANCELLED:
            return [Reply(request_id, Done(run.run_id)) for request_id in requests]
        message = f"run {run.run_id} ended first: {run.outcome}"
        return [Reply(request_id, Refusal(RefusalCode.WRONG_STATE, message)) for request_id in requests]

    def void(self, run: Run) -> list[Effect]:
        """The run was never stored, or the store has a later truth about it: who asked has to look again."""
        refusal = Refusal(RefusalCode.CONFLICT, f"run {run.run_id} is decided anew: ask again")
        return [Reply(request_id, refusal) for request_id in self.asked.pop(run.row, ())]
