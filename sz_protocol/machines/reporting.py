"""Results on their way to the server: into the outbox, over the link, out of the outbox. Part of attachment.

ATT-5 a result is in the outbox before it is sent, is sent until it is acknowledged, and leaves the outbox only then.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from attrs import Factory, define, evolve

from sz_protocol.attaching import AttachmentSettings, Keep, KeepFailed, Kept, Key
from sz_protocol.kernel.effects import Publish
from sz_protocol.kernel.now import Now
from sz_protocol.kernel.write_gate import WriteGate
from sz_protocol.messages import HeldRun, RunReport
from sz_protocol.notices import OutboxRecovered, OutboxTroubled

MOST_TOGETHER = 256
"""Reports in one Keep, and in one message."""
MOST_WEIGHT = 1_000_000
"""A report that weighs more may be too long for a frame: a server takes at least a MiB."""


# Not frozen, as an exception: four changes a run, on the hot path.
@define(eq=False)
class Filed:
    """One result that is not acknowledged, and what it weighs. `kept`: the outbox holds it; `cleared`: the outbox has
    answered, so it may be sent; `sent`: this life has sent it."""

    report: RunReport
    weight: int
    kept: bool = False
    cleared: bool = False
    sent: bool = False

    @property
    def key(self) -> Key:
        """Whose result it is."""
        return self.report.row, self.report.attempt


@define
class Reporting:
    """`files` in the order of their ending. A result waits in `unkept` for the outbox, then in `ready` for the link,
    then in `under_way` (by when it was sent) for its acknowledgement. One that the outbox failed to keep is in `unkept`
    again, and goes on all the same: to hold it back would not make it safer."""

    settings: AttachmentSettings
    files: dict[Key, Filed] = Factory(dict)
    unkept: dict[Key, None] = Factory(dict)
    gate: WriteGate[tuple[Key, ...]] = Factory(WriteGate[tuple[Key, ...]])
    ready: dict[Key, None] = Factory(dict)
    under_way: dict[Key, int] = Factory(dict)
    under_way_bytes: int = 0
    last_op: int = 0
    failures: int = 0
    keep_at_us: int = 0

    def restore(self, reports: Iterable[RunReport]) -> None:
        """What earlier lives left."""
        for report in reports:
            filed = Filed(report, weigh(report), kept=True, cleared=True)
            self.files[filed.key] = filed
            self.ready[filed.key] = None

    def file(self, report: RunReport) -> None:
        """An execution has ended."""
        weight = weigh(report)
        if weight > MOST_WEIGHT or not (_is_text(report.result) and _is_text(report.error)):
            # Said again for ever, it would stop all that are behind it.
            report = evolve(report, result=None, error="what the handler left cannot be sent")
            weight = weigh(report)
        filed = Filed(report, weight)
        self.files[filed.key] = filed
        self.unkept[filed.key] = None

    def held(self) -> tuple[HeldRun, ...]:
        """All that wait, for a Hello."""
        found = (filed.report for filed in self.files.values())
        return tuple(HeldRun(r.row, r.attempt, r.delivery, r.fence, r.run_id) for r in found)

    # --- the outbox -------------------------------------------------------------------------------------------

    def keep(self, now: Now) -> list[Keep]:
        """Orders to keep what is not kept; while the outbox fails, one at a time and after a wait."""
        failing = self.failures > 0
        if not self.unkept or (failing and (len(self.gate) or now.mono_us < self.keep_at_us)):
            return []
        orders: list[Keep] = []
        for reports in self._parcels(self.unkept, MOST_TOGETHER if failing else len(self.unkept)):
            self.last_op += 1
            keys = tuple((report.row, report.attempt) for report in reports)
            for key in keys:
                del self.unkept[key]
            self.gate.hold(self.last_op, keys)
            orders.append(Keep(self.last_op, reports))
            if failing:
                break
        return orders

    def on_kept(self, answer: Kept) -> list[Publish]:
        """The outbox has them: they may be sent."""
        for key in self.gate.release(answer.op):
            if key in self.files:
                self._clear(key, kept=True)
        recovered = self.failures > 0
        self.failures = self.keep_at_us = 0
        return [Publish(OutboxRecovered())] if recovered else []

    def on_keep_failed(self, failed: KeepFailed, now: Now) -> list[Publish]:
        """They stay in memory; the outbox is asked again."""
        for key in self.gate.release(failed.op):
            if key in self.files:
                self.unkept[key] = None
                self._clear(key, kept=False)
        first = not self.failures
        if now.mono_us >= self.keep_at_us:  # else another order of the same moment has failed
            wait_us = self.settings.keep_retry_us << min(self.failures, 16)
            self.keep_at_us = now.mono_us + min(self.settings.keep_retry_max_us, wait_us)
            self.failures += 1
        return [Publish(OutboxTroubled(failed.detail, len(self.unkept)))] if first else []

    def has_backlog(self, now: Now, *, attached: bool) -> bool:
        """Whether there is something to keep or, with a session, to send at once."""
        waits = self.failures > 0 and (len(self.gate) > 0 or now.mono_us < self.keep_at_us)
        room = len(self.under_way) < self.settings.window and self.under_way_bytes < self.settings.window_bytes
        return bool(self.unkept and not waits) or bool(attached and self.ready and room)

    def next_keep_us(self) -> int | None:
        """When the outbox is to be asked again."""
        return self.keep_at_us if self.failures and self.unkept and not len(self.gate) else None

    # --- the link ---------------------------------------------------------------------------------------------

    def begin_session(self) -> None:
        """A server that may know of none of them."""
        self.ready = {key: None for key, filed in self.files.items() if filed.cleared}
        self.under_way.clear()
        self.under_way_bytes = 0

    def send(self, now: Now) -> list[tuple[RunReport, ...]]:
        """Reports to be sent now, a tuple a message, as far as the window allows."""
        self._take_back_overdue(now)
        messages: list[tuple[RunReport, ...]] = []
        for reports in self._parcels(self.ready, self.settings.window - len(self.under_way)):
            if self.under_way_bytes >= self.settings.window_bytes:
                break
            for report in reports:
                key = report.row, report.attempt
                del self.ready[key]
                self.under_way[key] = now.mono_us
                filed = self.files[key]
                filed.sent = True
                self.under_way_bytes += filed.weight
            messages.append(reports)
        return messages

    def say_again(self, key: Key, fence: int, delivery: int) -> bool:
        """The server sent this run once more: its result goes out again, under the latest hand-over; False when no
        result waits."""
        filed = self.files.get(key)
        if filed is None:
            return False
        self._call_back(key)
        latest = max((filed.report.fence, filed.report.delivery), (fence, delivery))
        filed.report = evolve(filed.report, fence=latest[0], delivery=latest[1])
        if filed.cleared:
            self.ready[key] = None
        return True

    def settle(self, key: Key) -> str:
        """An acknowledgement: the result is forgotten. Otherwise why that must not be."""
        filed = self.files.get(key)
        if filed is None:
            return "no such result waits"
        if not filed.sent:
            return "it was not sent yet"
        self._call_back(key)
        self.ready.pop(key, None)
        self.unkept.pop(key, None)
        del self.files[key]
        return ""

    def next_resend_us(self) -> int | None:
        """When the oldest that is under way is to be sent again."""
        first = next(iter(self.under_way.values()), None)
        return None if first is None else first + self.settings.resend_us

    def _take_back_overdue(self, now: Now) -> None:
        overdue: list[Key] = []
        for key, sent_us in self.under_way.items():
            if sent_us + self.settings.resend_us > now.mono_us:
                break
            overdue.append(key)
        for key in overdue:
            self._call_back(key)
            self.ready[key] = None

    def _call_back(self, key: Key) -> None:
        if self.under_way.pop(key, None) is not None:
            self.under_way_bytes -= self.files[key].weight

    def _clear(self, key: Key, *, kept: bool) -> None:
        filed = self.files[key]
        filed.kept, filed.cleared = kept, True
        if key not in self.under_way:
            self.ready[key] = None

    def _parcels(self, keys: Iterable[Key], limit: int) -> Iterator[tuple[RunReport, ...]]:
        """The first `limit` of these reports, in bundles that one message can carry."""
        parcel: list[RunReport] = []
        size = 0
        for key in list(islice(keys, max(limit, 0))):
            filed = self.files[key]
            if parcel and (len(parcel) >= MOST_TOGETHER or size + filed.weight > self.settings.message_bytes):
                yield tuple(parcel)
                parcel, size = [], 0
            parcel.append(filed.report)
            size += filed.weight
        if parcel:
            yield tuple(parcel)


def _is_text(text: str | None) -> bool:
    """Whether a frame can carry it: half a character it cannot."""
    if text is None or text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def weigh(report: RunReport) -> int:
    """What a report takes on the wire, at most (and a little more)."""
    weight = 300 + 4 * len(report.reason)
    for text in (report.result, report.error):
        if text is not None:
            weight += len(text) if text.isascii() else 4 * len(text)
    return weight
