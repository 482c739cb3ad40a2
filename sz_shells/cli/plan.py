"""`schedulezero plan`: what a configuration would do, and what a changed one would do differently."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sz_shells.cli.common import FAILED, OK, USAGE, console, fail, iso, ledger_of, load_or_exit
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from rich.console import Console

    from sz_protocol.definition import Definition
    from sz_protocol.planning import Known, Load, Outlook, Planned
    from sz_runtime.config import Config

BARS = 48
BAR_WIDTH = 40
PAST_RUNS = 100
ASIDES = 1000


def plan(
    config: str | None = None,
    other: str | None = None,
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from", help="First instant; a date or an ISO 8601 time.")] = None,
    to: Annotated[str | None, Parameter(name="--to", help="The instant with which it ends, itself left out.")] = None,
    diff: Annotated[bool, Parameter(help="Show only what the second configuration adds and removes.")] = False,
    with_history: Annotated[bool, Parameter(help="Foresee overlaps from past runs; tell which are paused.")] = False,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Show what would fire, and when: in each schedule's zone and in UTC, with what a change of the clock does to it,
    overlaps that its time-outs allow, and the load per minute.

    Fires nothing, needs no server, and imports no handlers. Times without an offset are UTC. Without --from it begins
    now, without --to it covers one day.

    Parameters
    ----------
    config
        Configuration file, or the directory or name of a deployment.
    other
        A second one, to compare with the first: needs --diff.
    """
    from sz_protocol.planning import Outlook, changed_otherwise, diff_plans, plan_of

    if diff != (other is not None):
        fail("plan A B --diff compares two configurations: it needs both the second one and --diff", USAGE)
    from_us, to_us = _stretch(from_, to)
    loaded = load_or_exit(config, settings)
    outlook = Outlook(from_us, to_us, _known(loaded) if with_history else {})
    rows = plan_of(loaded.schedules, outlook)
    if other is None:
        return _print(_Printer(output, loaded.schedules), ((None, row) for row in rows), outlook)
    changed = load_or_exit(other, settings)
    printer = _Printer(output, (*loaded.schedules, *changed.schedules), diff=True)
    changes = diff_plans(_watched(rows, printer), _watched(plan_of(changed.schedules, outlook), printer))
    code = _print(printer, ((str(change), row) for change, row in changes), outlook)
    for schedule_id in changed_otherwise(loaded.schedules, changed.schedules):
        sys.stderr.write(f"{schedule_id}: the same fire times, but its definition differs otherwise\n")
    return code


def _stretch(from_: str | None, to: str | None) -> tuple[int, int]:
    from sz_protocol.kernel.now import DAY_US, SECOND_US

    from_us = _instant("--from", from_) if from_ is not None else int(time.time()) * SECOND_US
    to_us = _instant("--to", to) if to is not None else from_us + DAY_US
    if to_us < from_us:
        fail(f"--to ({iso(to_us)}) lies before --from ({iso(from_us)})", USAGE)
    return from_us, to_us


def _instant(option: str, text: str) -> int:
    from sz_protocol.moments import read_moment

    try:
        return read_moment(text).at_us
    except ValueError as wrong:
        fail(f"{option}: {wrong}", USAGE)


def _known(config: "Config") -> "dict[str, Known]":
    """What the ledger adds: how long past runs took, and which schedules stand still."""
    from sz_protocol.foreseeing import past_of
    from sz_protocol.planning import Known
    from sz_protocol.queries import RunsPage, SchedulesById
    from sz_protocol.records import ScheduleState
    from sz_runtime.ports import StoreError

    store = ledger_of(config)
    ids = tuple(definition.id for definition in config.schedules)
    still = (ScheduleState.PAUSED, ScheduleState.PARKED, ScheduleState.QUARANTINED)
    known: dict[str, Known] = {}
    try:
        for schedule in store.query(SchedulesById(ids)):
            past = past_of(store.query(RunsPage(limit=PAST_RUNS, schedule_id=schedule.id)))
            remark = (
                f"{schedule.state} since {iso(schedule.since_us)}: does not fire" if schedule.state in still else ""
            )
            known[schedule.id] = Known(remark, past)
    except StoreError as broken:
        fail(str(broken))
    return known


class _Printer:
    """Prints rows as they come, counts what there was, and keeps what is no fire out of JSON."""

    def __init__(self, output: str, definitions: "Iterable[Definition]", *, diff: bool = False) -> None:
        from sz_protocol.planning import LoadCount

        self.json = output == "json"
        self.diff = diff
        self.definitions = {definition.id: definition for definition in definitions}
        self.width = max((len(schedule_id) for schedule_id in self.definitions), default=0)
        self.spread = any(definition.spread_us for definition in self.definitions.values())
        self.console = console()
        self.colours = self.console.is_terminal and not self.console.no_color
        self.rows = 0
        self.stuck = False
        self.load = LoadCount()
        self.asides: list[str] = []
        self.more_asides = 0

    def aside(self, row: "Planned") -> None:
        """Keep what is no fire for standard error, where the list holds fires alone."""
        from sz_protocol.planning import PlannedKind

        if row.kind is PlannedKind.STUCK or row.alone:
            if row.kind is PlannedKind.STUCK or len(self.asides) < ASIDES:
                self.asides.append(f"{row.schedule_id}: {iso(row.at_us)}: {row.notes[0]}\n")
            else:
                self.more_asides += 1
        self.stuck = self.stuck or row.kind is PlannedKind.STUCK

    def tell_asides(self) -> None:
        """Once the list is complete and out: a line of theirs in its midst would break it, where both streams are one
        file or one terminal."""
        sys.stdout.flush()
        if self.more_asides:
            self.asides.append(f"and {self.more_asides} more such instants: a shorter --from and --to shows them\n")
        sys.stderr.write("".join(self.asides))

    def as_row(self, change: str | None, row: "Planned") -> dict[str, Any]:
        """One fire as plain data."""
        from sz_protocol.moments import zone_of

        notes = [*row.notes, *(f"{note}, at {iso(at_us)}" for at_us, note in row.left_out)]
        found: dict[str, Any] = {"change": change} if change is not None else {}
        return found | {
            "schedule_id": row.schedule_id,
            "fire_time": iso(row.at_us),
            "notes": notes,
            "local_time": row.local_time,
            "timezone": zone_of(self.definitions[row.schedule_id].trigger),
            "due_time": iso(row.due_us),
        }

    def header(self) -> str:
        """The names of the columns."""
        due = f"{'due (UTC)':<25}  " if self.spread else ""
        return f"{self._sign('')}{'fire time (UTC)':<25}  {'local time':<25}  {due}{'schedule':<{self.width}}  notes"

    def line(self, change: str | None, row: "Planned") -> str:
        """One row of the table."""
        from sz_protocol.planning import PlannedKind

        fires = row.kind is PlannedKind.FIRE
        due = f"{iso(row.due_us) if fires else '':<25}  " if self.spread else ""
        notes = "; ".join(row.notes)
        text = f"{self._sign(change)}{iso(row.at_us):<25}  {row.local_time:<25}  {due}{row.schedule_id:<{self.width}}"
        return self._styled(row, f"{text}  {notes if fires else f'does not fire: {notes}'}".rstrip())

    def _sign(self, change: str | None) -> str:
        return {"added": "+ ", "removed": "- "}.get(change or "", "  ") if self.diff else ""

    def _styled(self, row: "Planned", text: str) -> str:
        if not self.colours or not row.notes:
            return text
        from rich.color import ColorSystem
        from rich.style import Style

        style = Style(color="yellow") if row.kind == "fire" else Style(color="bright_black")
        return style.render(text, color_system=ColorSystem.STANDARD)


def _watched(rows: "Iterator[Planned]", printer: _Printer) -> "Iterator[Planned]":
    """The same rows; what is no fire is told on the way."""
    for row in rows:
        printer.aside(row)
        yield row


def _print(printer: _Printer, rows: "Iterator[tuple[str | None, Planned]]", outlook: "Outlook") -> int:
    if printer.json:
        _print_json(printer, rows)
    else:
        _print_table(printer, rows, outlook)
    printer.tell_asides()
    return FAILED if printer.stuck else OK


def _print_json(printer: _Printer, rows: "Iterator[tuple[str | None, Planned]]") -> None:
    from sz_protocol.planning import PlannedKind

    lead = "[\n  "
    for change, row in rows:
        if row.kind is not PlannedKind.FIRE:
            printer.aside(row)
            continue
        sys.stdout.write(lead + json.dumps(printer.as_row(change, row), ensure_ascii=False))
        lead = ",\n  "
    sys.stdout.write("[]\n" if lead.startswith("[") else "\n]\n")


def _print_table(printer: _Printer, rows: "Iterator[tuple[str | None, Planned]]", outlook: "Outlook") -> None:
    from sz_protocol.planning import PlannedKind
    from sz_protocol.triggers import tzdata_version

    first = next(rows, None)
    if first is not None:
        sys.stdout.write(printer.header() + "\n")
        for change, row in chain((first,), rows):
            sys.stdout.write(printer.line(change, row) + "\n")
            printer.stuck = printer.stuck or row.kind is PlannedKind.STUCK
            if row.kind is PlannedKind.FIRE:
                printer.rows += 1
                printer.load.add(row)
    noun = "difference" if printer.diff else "fire"
    count = f"{printer.rows} {noun if printer.rows == 1 else noun + 's'}"
    stretch = f"from {iso(outlook.from_us)} to {iso(outlook.to_us)}"
    sys.stdout.write(f"{count} {stretch}, {len(printer.definitions)} schedules, time zones of {tzdata_version()}\n")
    if printer.rows and not printer.diff:
        _print_load(printer.console, printer.load.bars(BARS))


def _print_load(out: "Console", bars: "list[Load]") -> None:
    """Starts per minute as bars, plain characters where the output cannot show blocks."""
    from sz_protocol.durations import format_duration
    from sz_protocol.kernel.now import MINUTE_US

    block = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
    most = max(bar.peak for bar in bars)
    width_us = bars[0].width_us
    step = "per minute" if width_us == MINUTE_US else f"in the busiest minute of each {format_duration(width_us)}"
    sys.stdout.write(f"\nload: starts {step} (UTC), stretches without any left out\n")
    for bar in bars:
        length = max(1, round(bar.peak * BAR_WIDTH / most))
        total = "" if width_us == MINUTE_US else f"  at {(iso(bar.peak_us) or '')[:16]}, {bar.starts} in all"
        out.print(f"{(iso(bar.at_us) or '')[:16]}  ", end="", markup=False)
        out.print(block * length, end="", style="green", markup=False)
        out.print(f" {bar.peak}{total}", markup=False)
