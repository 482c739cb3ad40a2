"""What the simulation promises to watch: every invariant with its statement, its kind and its checker.

The table is also specs/invariants.yaml; a test holds the two, and the checkers, together.
"""

from enum import StrEnum

from attrs import frozen

from sz_runtime.simulation.checkers.sometimes import REQUIRED


class Kind(StrEnum):
    """ALWAYS: at every moment. EVENTUALLY: after everything was healed, within the settle time. CALM: always, in runs
    without faults. SOMETIMES: reached at least once in a budget of seeds."""

    ALWAYS = "always"
    EVENTUALLY = "eventually"
    CALM = "calm"
    SOMETIMES = "sometimes"


@frozen
class Invariant:
    """One line of the table. `checker` is the file under sz_runtime/simulation/checkers."""

    id: str
    kind: Kind
    checker: str
    statement: str


def _table(kind: Kind, checker: str, **statements: str) -> list[Invariant]:
    return [Invariant(name, kind, checker, statement) for name, statement in statements.items()]


INVARIANTS: tuple[Invariant, ...] = (
    *_table(
        Kind.ALWAYS,
        "firing",
        FireOnce="A run key, and a (schedule, fire time), is inserted into the ledger at most once.",
        NoMissedFire="Every instant that a cursor passes has a row of the ledger; at the end none that is due is open.",
        OneOutcomePerInstant="Rows of one decision do not overlap, and a range counts exactly what it stands for.",
        CursorMonotonic="A cursor moves from where the store has it, and only forward.",
        RowsMoveWithCursor="Rows of a schedule are inserted in the transaction that moves its cursor, and in no other.",
        TraceComplete="What a store holds at the end is what its writes say (a check of the simulation itself).",
    ),
    *_table(
        Kind.ALWAYS,
        "timing",
        NoEarlyFire="Nothing is decided before its fire time plus spread, by a clock that the node may believe.",
        UntrustedNeverFires="Nothing that follows the wall clock is decided while the time is not trusted.",
        RetryNotEarly="An attempt does not begin before its back-off is over.",
    ),
    *_table(
        Kind.ALWAYS,
        "policies",
        RunKeyDerived="A run key is H(schedule uid, nominal), the same on every node.",
        OnlyActiveFires="A cursor of a schedule moves by firing only while the schedule is active.",
        WindowRespected="What is older than the catch-up window is executed only if whoever ended a pause wants it.",
        GraceRespected="What is later than its grace is never executed.",
        MisfireRespected="After a gap at most one instant is executed, or `max` of them under the policy all.",
        QueueBounded="No more runs of a schedule are open than its overlap policy allows; catch-up is apart.",
        LostOnlyBySemantics="A run is given up as lost only when at most once is promised, or after the loss limit.",
        RetryHonoured="A run does not fail before the failures that its policy allows.",
        TimeoutRespected="An execution ends or is asked to stop when its time-out is over.",
        TimeoutWins="A handler that fails after its time-out has timed out, however late its node hears of both.",
        DeadlineRespected="After the deadline of a run nothing of it begins, and what executes is asked to stop.",
    ),
    *_table(
        Kind.ALWAYS,
        "running",
        AckImpliesDurable="A handler begins only after the claim of that very attempt is durable; a worker's result is "
        "acknowledged only after what came of it is (see carrying).",
        OneLeasePerRun="A worker begins only what is claimed for it at that moment, unless nobody could have told it.",
        CompleteOnce="A row that has its outcome never changes again, and nothing of it begins any more.",
        CancelledNeverDone="A cancelled run neither begins nor succeeds afterwards.",
        ResultFence="Outcomes and failures are those of the current attempt, and of an execution that ended that way.",
        AttemptMonotonic="Each execution of a run has a greater attempt number than the one before.",
        FenceGrows="Each execution of a run carries a greater fence than the one before.",
        AtMostOnceNeverRestarts="At most once: nothing begins after an attempt whose executor vanished.",
        RetryWithinPolicy="Attempts do not go on after the failures that the policy allows, nor after the loss limit.",
        AttemptsKept="Before a run is claimed again, what became of its executed attempts is in its history.",
        LossIsVisible="An execution that vanished leaves a loss in the ledger; retention drops only what is over.",
    ),
    *_table(
        Kind.ALWAYS,
        "cancelling",
        CancelKept="No further attempt of a run begins in the life of a node that was asked to cancel it.",
    ),
    *_table(
        Kind.ALWAYS,
        "carrying",
        CreditNotExceeded="In a session no more runs are sent than the worker has granted, as far as its server knows.",
        LostOnlyAfterLease="A worker is declared lost only after a lease of silence, by a server that was awake.",
        TwinNeverSteals="A worker takes the place of another one of its name only when that was not heard for a while.",
        NothingRepeatedThatStillRuns="A run is given up only when its worker was lost, or another has its name.",
        ExclusiveEndsInTime="Before an exclusive run is claimed anew, or its worker is lost, it was asked to stop.",
        StopObeyed="A worker that is told to stop a run in its present session asks its handler to, or does not begin.",
        SupersededWithCause="A worker is told that somebody else has its run only when it was given up, or replaced.",
    ),
    *_table(
        Kind.ALWAYS,
        "dispatching",
        SilentGetNothingNew="A worker that has missed its heartbeats is sent no run that it was not sent before.",
        DrainingGetNothingNew="A worker that drains begins nothing; a server that knows so sends it nothing new.",
        GivenUpInTime="What was claimed for a worker that is lost moves on within 20 s, while its store works.",
        SupersededIsStopped="A worker that comes back with a run that is not claimed for it is told to stop it.",
    ),
    *_table(
        Kind.ALWAYS,
        "attached",
        RunOncePerIncarnation="A life of a worker begins an attempt once, and never beside another one of that run.",
        SlotsRespected="A worker executes no more runs at once than it has slots, or their method allows.",
        RoutedRight="Whoever executes a run is the one that its schedule asks for, and has its tags.",
        OutboxDurableBeforeSend="A result is sent only when the outbox has it, or has said that it cannot have it.",
        KeptUntilAcknowledged="A result leaves the outbox only when an acknowledgement of it has come.",
        StoppedWithCause="A worker stops a run unasked only when it drains, or an exclusive one when it is cut off.",
        EverythingFits="No machine says what no frame can carry.",
    ),
    *_table(
        Kind.ALWAYS,
        "lanes",
        OverlapRespected="No more runs of one schedule execute at once than its lane is wide.",
        PoolRespected="No more runs execute at once than their pool, and their method, have places.",
        FirstComeFirstServed="Of runs of a schedule that wait for a place, the first to come is claimed first.",
        SkipHasCause="An instant is skipped for overlap only when a run of its schedule was active.",
    ),
    *_table(
        Kind.ALWAYS,
        "fencing",
        EpochMonotonic="Each term that a store gives out is greater than every earlier one.",
        NoStaleEpochWrite="No transaction is applied under a term that is over.",
    ),
    *_table(
        Kind.ALWAYS,
        "health",
        MachinesNeverRaise="No event makes a machine raise.",
        BacklogShrinks="A backlog ends: a node does not ask for wake after wake without end.",
        WakeupsAhead="A wake-up lies in the future, or is for a backlog, and brings something to do.",
        PauseKept="From the answer to a pause until a resume is asked for, nothing of the schedule is decided.",
        DrainWaits="A node that stops in order leaves no execution behind that it has not asked to stop.",
        EveryCommandAnswered="Every command gets one answer, unless its node dies before.",
        MemoryBounded="Memory follows schedules and unfinished runs, not what has been.",
    ),
    *_table(
        Kind.ALWAYS,
        "allowing",
        OnlyAllowedTakePart="Whose key is not its handler's, or was taken away, neither registers nor gets a run.",
        RevokedIsNotHeard="No run ends by a result that came only after the key of its worker was taken away.",
    ),
    *_table(
        Kind.EVENTUALLY,
        "liveness",
        AllRunsTerminal="Every due run has its outcome.",
        NodeLives="Every store has a living node.",
    ),
    *_table(
        Kind.EVENTUALLY,
        "rejoining",
        HandlersRejoin="Every worker that lives is registered, or its twin is.",
        OutboxesEmpty="No result waits in the outbox of a worker that is registered.",
    ),
    *_table(Kind.EVENTUALLY, "firing", SchedulesComeBack="No schedule stays parked whose handler is there."),
    *_table(
        Kind.CALM,
        "calm",
        CalmOneAttempt="No run needs a second attempt.",
        CalmOnTime="What need not wait begins within 100 ms of its due time.",
        CalmNothingMissed="Nothing is missed, lost or made up for.",
    ),
    *_table(
        Kind.CALM,
        "rejoining",
        CalmOneRegistration="Every worker registers once, and is never missed.",
        CalmNoRedelivery="No run is handed over twice.",
    ),
    *(Invariant(f"sometimes: {name}", Kind.SOMETIMES, "sometimes", f"It happens: {name}.") for name in REQUIRED),
)


def as_yaml() -> str:
    """The table as specs/invariants.yaml keeps it."""
    lines = [
        "# Every invariant of the simulation. Generated from sz_runtime/simulation/invariants.py by",
        "# `python -m sz_runtime.simulation.specs`; a test compares.",
    ]
    for invariant in INVARIANTS:
        lines += [
            f'- id: "{invariant.id}"',
            f"  kind: {invariant.kind}",
            f"  checker: {invariant.checker}",
            f'  statement: "{invariant.statement}"',
        ]
    return "\n".join(lines) + "\n"
