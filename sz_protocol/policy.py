"""The policies as pure decisions: misfire and coalescing, overlap, spread, retry, loss. Tables: specs/scheduling.md,
specs/execution.md.
"""

from enum import StrEnum
from hashlib import blake2b
from random import Random
from typing import Final

from sz_protocol.definition import Definition, Misfire, MisfirePolicy, Overlap, OverlapPolicy, Retry, Semantics
from sz_protocol.kernel.now import MINUTE_US, SECOND_US
from sz_protocol.kernel.record import record
from sz_protocol.records import Outcome, Reason, Run

# Bound once, as in records.py.
_SKIP: Final = MisfirePolicy.SKIP
_ALLOW: Final = OverlapPolicy.ALLOW
_LATE: Final = Reason.LATE
_ON_TIME: Final = Reason.ON_TIME

SKIP_GRACE_US = MINUTE_US
"""The grace of `misfire: skip` where none is written: without one it could never skip."""


def spread_offset(uid: str, window_us: int) -> int:
    """H(uid) mod window: a schedule's stable place inside its spread window, the same after every restart
    (POLICY-1)."""
    if window_us <= 0:
        return 0
    return int.from_bytes(blake2b(uid.encode(), digest_size=8, person=b"spread").digest(), "big") % window_us


@record
class Passed:
    """Instants of one schedule that are due and undecided, oldest first: the latest ones one by one, those before
    them as a range (`folded` instants from `folded_from_us` to `folded_until_us`), and those before the window
    likewise (`expired` ...)."""

    instants: tuple[int, ...]
    folded: int = 0
    folded_from_us: int = 0
    folded_until_us: int = 0
    expired: int = 0
    expired_from_us: int = 0
    expired_until_us: int = 0


@record
class Verdict:
    """What becomes of one due instant or folded range: executed when `outcome` is None. `nominal` is its name in the
    run key where that is not the trigger's (monotonic time)."""

    fire_us: int
    outcome: Outcome | None = None
    reason: str = ""
    count: int = 1
    until_us: int | None = None
    covers: tuple[int, ...] = ()
    not_before_us: int = 0
    queued: bool = False
    nominal: str = ""


def grace_of(misfire: Misfire, policy: MisfirePolicy) -> int | None:
    """How late an instant may start; None: however late."""
    if misfire.grace_us is None and policy is MisfirePolicy.SKIP:
        return SKIP_GRACE_US
    return misfire.grace_us


def never_misfires(misfire: Misfire) -> bool:
    """Whether one instant alone is executed however late it is: `decide_misfire` has nothing to decide about it."""
    return misfire.grace_us is None and misfire.policy is not _SKIP


def decide_misfire(
    misfire: Misfire, policy: MisfirePolicy, passed: Passed, now_us: int, spread_us: int = 0
) -> list[Verdict]:
    """What becomes of the instants in `passed`, which were due `spread_us` after their fire times.

    Each instant gets exactly one verdict (LEDGER-1). Past its grace an instant is never executed (POLICY-2). Of the
    others SKIP and LATEST execute the newest only; ALL executes the newest `max`, one after the other, at most
    `rate_per_s`.
    """
    if len(passed.instants) == 1 and grace_of(misfire, policy) is None and not passed.folded and not passed.expired:
        return [Verdict(passed.instants[0])]  # The hot path: on time, or late with nothing else waiting.
    verdicts: list[Verdict] = []
    if passed.expired:
        verdicts.append(_folded(passed.expired, passed.expired_from_us, passed.expired_until_us, Reason.WINDOW))
    if passed.folded:
        verdicts.append(_folded(passed.folded, passed.folded_from_us, passed.folded_until_us, Reason.LIMIT))
    grace = grace_of(misfire, policy)
    fresh = [at for at in passed.instants if grace is None or now_us - spread_us - at <= grace]
    for at in passed.instants[: len(passed.instants) - len(fresh)]:
        verdicts.append(Verdict(at, Outcome.SKIPPED, Reason.MISFIRE))
    if not fresh:
        return verdicts
    if policy is MisfirePolicy.ALL:
        return verdicts + _run_all(misfire, fresh, now_us)
    reason = Reason.COALESCED if policy is MisfirePolicy.LATEST else Reason.MISFIRE
    verdicts += [Verdict(at, Outcome.SKIPPED, reason) for at in fresh[:-1]]
    covers = tuple(fresh[:-1]) if policy is MisfirePolicy.LATEST else ()
    # What stands for others waits for its turn, as every catch-up does: skipped, it would take them all with it.
    verdicts.append(Verdict(fresh[-1], reason=Reason.CATCH_UP if covers else "", covers=covers, queued=bool(covers)))
    return verdicts


def _folded(count: int, first_us: int, last_us: int, reason: Reason) -> Verdict:
    return Verdict(first_us, Outcome.MISSED, reason, count=count, until_us=last_us if count > 1 else None)


def _run_all(misfire: Misfire, fresh: list[int], now_us: int) -> list[Verdict]:
    kept_from = max(len(fresh) - misfire.max, 0)
    keep = fresh[kept_from:]
    verdicts = [Verdict(at, Outcome.SKIPPED, Reason.LIMIT) for at in fresh[:kept_from]]
    gap_us = int(SECOND_US / misfire.rate_per_s) if misfire.rate_per_s else 0
    many = len(keep) > 1
    for place, at in enumerate(keep):
        # Catch-up runs wait for each other: `overlap: skip` must not make them cancel themselves (POLICY-3).
        verdicts.append(
            Verdict(
                at,
                reason=Reason.CATCH_UP if many else "",
                not_before_us=now_us + place * gap_us if gap_us and place else 0,
                queued=many,
            )
        )
    return verdicts


class OverlapVerdict(StrEnum):
    """RUN now, WAIT behind what is active, SKIP and record it, or CANCEL what is active and wait for its end."""

    RUN = "run"
    WAIT = "wait"
    SKIP = "skip"
    FULL = "full"
    CANCEL = "cancel"


def lane_width(overlap: Overlap) -> int:
    """How many runs of one schedule may execute at once."""
    return overlap.limit if overlap.policy is _ALLOW else 1


def decide_overlap(overlap: Overlap, active: int, queued: bool) -> OverlapVerdict:
    """What an instant does when `active` runs of its schedule are executing, waiting or between attempts.
    `queued` instants (catch-up, manual) wait whatever the policy (POLICY-3)."""
    width = lane_width(overlap)
    if active < width:
        return OverlapVerdict.RUN
    if queued:
        return OverlapVerdict.WAIT
    match overlap.policy:
        case OverlapPolicy.QUEUE:
            return OverlapVerdict.WAIT if active - width < overlap.limit else OverlapVerdict.FULL
        case OverlapPolicy.CANCEL_RUNNING:
            return OverlapVerdict.CANCEL
        case _:
            return OverlapVerdict.SKIP


def backoff_us(retry: Retry, failures: int, rng: Random) -> int:
    """The wait before the next attempt after `failures` failed ones: full jitter, uniform in
    [0, min(max, base * 2**(failures-1))] (M. Brooker, "Exponential Backoff And Jitter", 2015)."""
    ceiling = min(retry.max_us, retry.base_us << min(failures - 1, 32))
    return rng.randint(0, ceiling) if ceiling > 0 else 0


def may_retry(retry: Retry, failures: int, retryable: bool) -> bool:
    """Whether policy wants another attempt after `failures` failed ones (POLICY-4)."""
    return retryable and failures < retry.attempts


def may_restart(semantics: Semantics, losses: int, limit: int) -> bool:
    """Whether a run whose executor vanished `losses` times is executed again (POLICY-5): never when at most once is
    promised, and not for ever, so that a job that kills its executor cannot do so again and again."""
    return semantics is Semantics.AT_LEAST_ONCE and losses < limit


def success_reason(run: Run, started_us: int, late_us: int) -> str:
    """The word for a success: what was special about it, the strongest first."""
    if run.reason:
        return run.reason
    if run.attempt > 1:
        return Reason.RETRIED
    return _LATE if started_us - run.fire_us > late_us else _ON_TIME


def no_such_method(definition: Definition) -> str:
    """Why a schedule is parked."""
    tags = ", ".join(f"{name}={text}" for name, text in sorted(definition.tags.items()))
    asked = f" with the tags {tags}" if tags else ""
    if definition.handler_id == "*":
        return f"no handler{asked} has a method {definition.method!r} here"
    return f"handler {definition.handler_id!r}{asked} has no method {definition.method!r} here"


def policy_at(definition: Definition, catch_up: MisfirePolicy | None) -> MisfirePolicy:
    """The misfire policy in force: what a person chose at resume, else the definition's."""
    return catch_up if catch_up is not None else definition.misfire.policy
