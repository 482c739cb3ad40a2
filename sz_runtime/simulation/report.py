"""A run as one HTML page that a person can read: what was planned, what was broken, and a timeline drawn as SVG.

The page needs nothing from outside: no script, no font, no style sheet.
"""

from collections import Counter
from html import escape

from attrs import Factory, define

from sz_runtime.simulation import facts as f
from sz_runtime.simulation.rendering import clock, render
from sz_runtime.simulation.scenario_text import plan_to_text
from sz_runtime.simulation.world import Result

LEFT, TOP, LANE, PER_SECOND = 150, 40, 26, 12
MOST_WIDE = 24_000
MOST_LINES = 3_000
COLOURS = {
    "succeeded": "#2e9d5b",
    "failed": "#c8422f",
    "cancelled": "#8a6fb0",
    "killed": "#444444",
    "skipped": "#b5b5b5",
    "missed": "#e0a526",
    "lost": "#111111",
}
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin-top: 2em }
pre { background: #f6f6f6; padding: 1em; overflow: auto; max-height: 32em; font-size: 12px }
.scroll { overflow-x: auto; border: 1px solid #ddd }
.bad { color: #b00020 } .ok { color: #1b7a3d }
table { border-collapse: collapse } td, th { padding: 2px 12px 2px 0; text-align: left }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1b1b } pre { background: #262626 } }
"""


@define
class Drawing:
    """SVG elements on lanes: one for each node, store and schedule."""

    first_us: int
    last_us: int
    lanes: dict[str, int] = Factory(dict)
    parts: list[str] = Factory(list)

    @property
    def scale(self) -> float:
        """Pixels a microsecond."""
        seconds = max((self.last_us - self.first_us) / 1e6, 1)
        return min(PER_SECOND, MOST_WIDE / seconds) / 1e6

    def x(self, at_us: int) -> float:
        """Where a time stands."""
        inside_us = min(max(at_us, self.first_us), self.last_us) - self.first_us
        return round(LEFT + inside_us * self.scale, 1)

    def y(self, lane: str) -> int:
        """Where a lane's middle stands; a new lane is added at the bottom."""
        return TOP + self.lanes.setdefault(lane, len(self.lanes)) * LANE + LANE // 2

    def bar(self, lane: str, from_us: int, to_us: int, colour: str, title: str, height: int = 12) -> None:
        """Something that lasts."""
        width = max(self.x(to_us) - self.x(from_us), 2)
        where = f'x="{self.x(from_us)}" y="{self.y(lane) - height // 2}" width="{width:.1f}" height="{height}"'
        self.parts.append(f'<rect {where} fill="{colour}" rx="2"><title>{escape(title)}</title></rect>')

    def dot(self, lane: str, at_us: int, colour: str, title: str) -> None:
        """Something that happens."""
        where = f'cx="{self.x(at_us)}" cy="{self.y(lane)}" r="3.5"'
        self.parts.append(f'<circle {where} fill="{colour}"><title>{escape(title)}</title></circle>')

    def mark(self, lane: str, at_us: int, sign: str, colour: str, title: str) -> None:
        """A sign: a crash, a fault, a violation."""
        where = f'x="{self.x(at_us)}" y="{self.y(lane) + 5}" font-size="14" text-anchor="middle"'
        self.parts.append(f'<text {where} fill="{colour}">{sign}<title>{escape(title)}</title></text>')

    def arrow(self, sender: str, to: str, at_us: int, until_us: int, lost: bool, title: str) -> None:
        """A message."""
        ends = f'x1="{self.x(at_us)}" y1="{self.y(sender)}" x2="{self.x(until_us)}" y2="{self.y(to)}"'
        dash = ' stroke-dasharray="3 3"' if lost else ""
        self.parts.append(
            f'<line {ends} stroke="{"#c8422f" if lost else "#6a8fc0"}"{dash}><title>{escape(title)}</title></line>'
        )

    def svg(self) -> str:
        """The picture, with names of lanes and a scale of seconds."""
        width, height = self.x(self.last_us) + 40, TOP + len(self.lanes) * LANE + 10
        grid: list[str] = []
        step_us = next(s * 1_000_000 for s in (1, 5, 10, 30, 60, 300, 600, 3600, 86400) if s * 1e6 * self.scale >= 60)
        for at_us in range(self.first_us - self.first_us % step_us, self.last_us + 1, step_us):
            if at_us < self.first_us:
                continue
            x = self.x(at_us)
            grid.append(f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{height}" stroke="#8884"/>')
            grid.append(f'<text x="{x}" y="{TOP - 14}" font-size="11" fill="#888">{at_us // 1_000_000}s</text>')
        for lane in self.lanes:
            grid.append(f'<text x="6" y="{self.y(lane) + 4}" font-size="12" fill="#888">{escape(lane)}</text>')
        size = f'width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(grid + self.parts)}</svg>'


def html_report(result: Result) -> str:
    """The page for a run whose records were kept."""
    shown = [record for record in result.records if not isinstance(record, f.RunKept | f.ScheduleKept)]
    told = [line for line in (render(record, result.plan) for record in shown) if line is not None]
    ok = result.ok
    verdict = "every invariant held" if ok else f"{len(result.violations)} violations"
    violations = "".join(f"<li>{escape(str(violation))}</li>" for violation in result.violations)
    more = f"\n... and {len(told) - MOST_LINES} lines more" if len(told) > MOST_LINES else ""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Seed {result.seed}</title><style>{STYLE}</style>",
        f'<h1>Seed {result.seed}: <span class="{"ok" if ok else "bad"}">{verdict}</span></h1>',
        f"<p>Trace hash {result.trace_hash}, {result.stats['simulated_s']} simulated seconds, "
        f"{result.stats['steps']} steps of nodes.</p>",
        f'<ul class="bad">{violations}</ul>',
        f'<h2>Timeline</h2><p>{_legend()}</p><div class="scroll">{timeline(result)}</div>',
        f"<h2>Outcomes</h2>{_outcomes(result)}",
        f"<h2>Plan</h2><pre>{escape(plan_to_text(result.plan))}</pre>",
        f"<h2>Trace</h2><pre>{escape(chr(10).join(told[:MOST_LINES]) + more)}</pre></html>",
    ]
    return "\n".join(parts)


def _legend() -> str:
    names = [f'<span style="color:{colour}">■</span> {name}' for name, colour in COLOURS.items()]
    signs = "✖ crash &nbsp; ▼ fault &nbsp; ⚑ violation &nbsp; pale: alive &nbsp; amber: stands still"
    return " &nbsp; ".join(names) + "<br>" + signs


def _outcomes(result: Result) -> str:
    counts: Counter[tuple[str, str]] = Counter()
    for record in result.records:
        if isinstance(record, f.RunKept):
            counts[record.schedule_id or record.kind, f"{record.outcome or record.state} {record.reason}"] += (
                record.count
            )
    rows = "".join(
        f"<tr><td>{escape(schedule)}<td>{escape(outcome)}<td>{count}"
        for (schedule, outcome), count in sorted(counts.items())
    )
    return f"<table><tr><th>schedule<th>outcome<th>instants{rows}</table>"


def timeline(result: Result) -> str:
    """The SVG of a run: nodes, stores and schedules as lanes."""
    last_us = max((record.at_us for record in result.records), default=0)
    drawing = Drawing(0, last_us)
    for node in result.plan.nodes:
        drawing.y(node.name)
    for node in result.plan.nodes:
        drawing.y(node.store)
    for job in result.plan.jobs:
        drawing.y(job.definition.id)
    _draw_lives(drawing, result)
    _draw_messages(drawing, result)
    for record in result.records:
        _draw(drawing, record)
    _draw_executions(drawing, result)
    for violation in result.violations:
        lane = violation.node if violation.node in drawing.lanes else result.plan.nodes[0].name
        drawing.mark(lane, violation.at_us, "⚑", "#b00020", str(violation))
    return drawing.svg()


def _draw_lives(drawing: Drawing, result: Result) -> None:
    born: dict[str, f.NodeStarted] = {}
    for record in result.records:
        match record:
            case f.NodeStarted():
                born[record.node] = record
            case f.NodeCrashed() | f.NodeStopped() if record.node in born:
                _draw_life(drawing, born.pop(record.node), record.at_us)
    for started in born.values():
        _draw_life(drawing, started, drawing.last_us)


def _draw_life(drawing: Drawing, started: f.NodeStarted, until_us: int) -> None:
    title = f"life {started.incarnation} of {started.node}, term {started.term}"
    drawing.bar(started.node, started.at_us, until_us, "#9ec5e866", title, LANE - 6)


def _draw_messages(drawing: Drawing, result: Result) -> None:
    sent = {r.number: r for r in result.records if isinstance(r, f.MessageSent)}
    for record in result.records:
        if isinstance(record, f.MessageDelivered):
            message = sent[record.number]
            title = f"message {record.number}, {message.size} bytes"
            drawing.arrow(message.node, record.node, message.at_us, record.at_us, False, title)
        elif isinstance(record, f.MessageSent) and not record.copies:
            drawing.arrow(record.node, record.to, record.at_us, record.at_us, True, f"message {record.number} lost")


def _draw(drawing: Drawing, record: f.Noted) -> None:
    match record:
        case f.NodeCrashed(point=point):
            drawing.mark(record.node, record.at_us, "✖", "#c8422f", f"crashed at {record.at_us / 1e6:.6f} s ({point})")
        case f.Stalled(kind=kind, until_us=until_us):
            drawing.bar(record.node, record.at_us, until_us, "#e0a52688", f"stands still: {kind}")
        case f.Fault(what=what):
            lane = record.node if record.node in drawing.lanes else next(iter(drawing.lanes))
            drawing.mark(lane, record.at_us, "▼", "#e07b26", f"{what} at {record.at_us / 1e6:.3f} s")
        case f.Failed(writer=writer, reason=reason):
            drawing.dot(record.node, record.at_us, "#c8422f", f"write of {writer} failed: {reason}")
        case f.TransactionLost(writer=writer):
            drawing.dot(record.node, record.at_us, "#111", f"an unsynced write of {writer} was lost")
        case f.RunWritten(outcome=outcome) if outcome in ("skipped", "missed", "lost"):
            what = f"{record.schedule_id}@{clock(record.fire_us)} {outcome} ({record.reason}), {record.count} instants"
            drawing.dot(record.schedule_id or record.node, record.at_us, COLOURS[outcome], what)


def _draw_executions(drawing: Drawing, result: Result) -> None:
    began: dict[tuple[str, int, int], f.ExecutionStarted] = {}
    for record in result.records:
        match record:
            case f.ExecutionStarted():
                began[record.node, record.row, record.attempt] = record
            case f.ExecutionEnded():
                started = began.pop((record.node, record.row, record.attempt), None)
                if started is not None:
                    what = f"{started.schedule_id}@{clock(started.fire_us)} attempt {started.attempt} on {record.node}"
                    colour = COLOURS.get(record.how, "#888")
                    drawing.bar(
                        started.schedule_id or record.node,
                        started.at_us,
                        record.at_us,
                        colour,
                        f"{what}: {record.how} {record.reason}",
                    )
