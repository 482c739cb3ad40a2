"""The timeline of a run as SVG. Lanes from top to bottom: nodes, workers, stores, schedules."""

from html import escape

from attrs import Factory, define

from sz_runtime.simulation import facts as f
from sz_runtime.simulation import worker_facts as w
from sz_runtime.simulation.rendering import clock
from sz_runtime.simulation.step_lines import line_to_step
from sz_runtime.simulation.steps import Cut, Heal, Mend, Partition
from sz_runtime.simulation.world import Result

LEFT, TOP, LANE, PER_SECOND = 110, 40, 26, 12
MARGIN = 12
MOST_WIDE = 24_000
CHATTER = ("beat", "echo")
"""Messages that come all the time; they are drawn faintly."""
COLOURS = {
    "succeeded": "#2e9d5b",
    "failed": "#c8422f",
    "cancelled": "#8a6fb0",
    "killed": "#444444",
    "skipped": "#b5b5b5",
    "missed": "#e0a526",
    "lost": "#111111",
}
ALIVE, STILL, MESSAGE, TROUBLE, CUT, HEALED = "#9ec5e866", "#e0a52688", "#6a8fc0", "#c8422f", "#d6249f", "#2e9d5b"


@define
class Drawing:
    """SVG elements on lanes."""

    last_us: int
    lanes: dict[str, int] = Factory(dict)
    parts: list[str] = Factory(list)

    @property
    def scale(self) -> float:
        """Pixels a microsecond."""
        return min(PER_SECOND, MOST_WIDE / max(self.last_us / 1e6, 1)) / 1e6

    def x(self, at_us: int) -> float:
        """Where a time stands."""
        return round(MARGIN + min(max(at_us, 0), self.last_us) * self.scale, 1)

    def y(self, lane: str) -> int:
        """Where a lane's middle stands; a new lane is added at the bottom."""
        return TOP + self.lanes.setdefault(lane, len(self.lanes)) * LANE + LANE // 2

    @property
    def height(self) -> int:
        """Of all lanes."""
        return TOP + len(self.lanes) * LANE + 10

    def bar(
        self, lane: str, from_us: int, to_us: int, colour: str, title: str, height: int = 12, below: int = 0
    ) -> None:
        """Something that lasts; `below` the middle of its lane."""
        width = max(self.x(to_us) - self.x(from_us), 2)
        y = self.y(lane) - height // 2 + below
        where = f'x="{self.x(from_us)}" y="{y}" width="{width:.1f}" height="{height}"'
        self.parts.append(f'<rect {where} fill="{colour}" rx="2"><title>{escape(title)}</title></rect>')

    def dot(self, lane: str, at_us: int, colour: str, title: str) -> None:
        """Something that happens."""
        where = f'cx="{self.x(at_us)}" cy="{self.y(lane)}" r="3.5"'
        self.parts.append(f'<circle {where} fill="{colour}"><title>{escape(title)}</title></circle>')

    def mark(self, lane: str, at_us: int, sign: str, colour: str, title: str) -> None:
        """A sign: a crash, a fault, a violation."""
        where = f'x="{self.x(at_us)}" y="{self.y(lane) + 5}" font-size="14" text-anchor="middle"'
        self.parts.append(f'<text {where} fill="{colour}">{sign}<title>{escape(title)}</title></text>')

    def arrow(self, sender: str, to: str, at_us: int, until_us: int, style: str, title: str) -> None:
        """A message."""
        ends = f'x1="{self.x(at_us)}" y1="{self.y(sender)}" x2="{self.x(until_us)}" y2="{self.y(to)}"'
        self.parts.append(f"<line {ends} {style}><title>{escape(title)}</title></line>")

    def rule(self, at_us: int, colour: str, title: str) -> None:
        """A line across all lanes."""
        ends = f'x1="{self.x(at_us)}" y1="{TOP - 8}" x2="{self.x(at_us)}" y2="{self.height}"'
        self.parts.append(f'<line {ends} stroke="{colour}" stroke-width="2"><title>{escape(title)}</title></line>')

    def svg(self) -> str:
        """The picture with a scale of seconds, and after it the names of the lanes, which a page shows to its left."""
        width, height = self.x(self.last_us) + 40, self.height
        grid: list[str] = []
        step_us = next(s * 1_000_000 for s in (1, 5, 10, 30, 60, 300, 600, 3600, 86400) if s * 1e6 * self.scale >= 60)
        for at_us in range(0, self.last_us + 1, step_us):
            x = self.x(at_us)
            grid.append(f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{height}" stroke="#8884"/>')
            grid.append(f'<text x="{x}" y="{TOP - 14}" font-size="11" fill="#888">{at_us // 1_000_000}s</text>')
        names = [
            f'<text x="6" y="{self.y(lane) + 4}" font-size="12" fill="#888">{escape(lane)}</text>'
            for lane in self.lanes
        ]
        return _svg(width, height, "timeline", [*grid, *self.parts]) + _svg(LEFT, height, "names", names)


def _svg(width: float, height: int, name: str, parts: list[str]) -> str:
    size = f'width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="{name}" {size} role="img">{"".join(parts)}</svg>'


def timeline(result: Result) -> str:
    """The SVG of a run whose records were kept."""
    drawing = Drawing(max((record.at_us for record in result.records), default=0))
    plan = result.plan
    nodes, stores = [node.name for node in plan.nodes], [node.store for node in plan.nodes]
    for lane in (*nodes, *(worker.name for worker in plan.workers), *stores, *(job.definition.id for job in plan.jobs)):
        drawing.y(lane)
    _draw_lives(drawing, result)
    _draw_cuts(drawing, result)
    _draw_messages(drawing, result)
    for record in result.records:
        _draw(drawing, record)
    _draw_executions(drawing, result)
    for violation in result.violations:
        lane = violation.node if violation.node in drawing.lanes else nodes[0]
        drawing.mark(lane, violation.at_us, "⚑", "#b00020", str(violation))
    return drawing.svg()


def _draw_lives(drawing: Drawing, result: Result) -> None:
    born: dict[str, f.NodeStarted | w.WorkerStarted] = {}
    for record in result.records:
        match record:
            case f.NodeStarted() | w.WorkerStarted():
                born[record.node] = record
            case f.NodeCrashed() | f.NodeStopped() | w.WorkerCrashed() | w.WorkerStopped() if record.node in born:
                _draw_life(drawing, born.pop(record.node), record.at_us)
    for started in born.values():
        _draw_life(drawing, started, drawing.last_us)


def _draw_life(drawing: Drawing, started: f.NodeStarted | w.WorkerStarted, until_us: int) -> None:
    term = f", term {started.term}" if isinstance(started, f.NodeStarted) else ""
    title = f"life {started.incarnation} of {started.node}{term}"
    drawing.bar(started.node, started.at_us, until_us, ALIVE, title, LANE - 6)


def _draw_cuts(drawing: Drawing, result: Result) -> None:
    """A line under each place that something is cut off from, until all is mended."""
    since: dict[str, tuple[int, str]] = {}
    for record in result.records:
        if not isinstance(record, f.Fault):
            continue
        step = line_to_step(record.what)
        places: list[str] = []
        mended_us = drawing.last_us
        match step:
            case Partition(groups=groups):
                places = [place for group in groups for place in group]
            case Cut(sender=sender, to=to):
                places = [sender, to]
            case Mend(swizzle_us=swizzle_us):
                mended_us = record.at_us + swizzle_us
            case Heal():
                mended_us = record.at_us
            case _:
                continue
        for place in places:
            since.setdefault(place, (record.at_us, record.what))
        if not places:
            _end_cuts(drawing, since, mended_us)
    _end_cuts(drawing, since, drawing.last_us)


def _end_cuts(drawing: Drawing, since: dict[str, tuple[int, str]], until_us: int) -> None:
    for place, (from_us, what) in since.items():
        drawing.bar(place, from_us, until_us, CUT, f"cut off: {what}", 3, LANE // 2 - 2)
    since.clear()


def _draw_messages(drawing: Drawing, result: Result) -> None:
    sent = {r.number: r for r in result.records if isinstance(r, f.MessageSent)}
    kinds = {r.number: r.kind for r in result.records if isinstance(r, w.Said)}
    for record in result.records:
        if isinstance(record, f.MessageDelivered):
            message, kind = sent[record.number], kinds.get(record.number, "message")
            style = f'stroke="{MESSAGE}"' + (' opacity="0.3"' if kind in CHATTER else "")
            title = f"{kind} {record.number}, {message.size} bytes"
            drawing.arrow(message.node, record.node, message.at_us, record.at_us, style, title)
        elif isinstance(record, f.MessageSent) and not record.copies:
            style, kind = f'stroke="{TROUBLE}" stroke-dasharray="3 3"', kinds.get(record.number, "message")
            drawing.arrow(record.node, record.to, record.at_us, record.at_us, style, f"{kind} {record.number} lost")


def _draw(drawing: Drawing, record: f.Noted) -> None:
    at_s = record.at_us / 1e6
    match record:
        case f.Phase(name="healed"):
            drawing.rule(record.at_us, HEALED, f"everything is healed at {at_s:.6f} s")
        case f.NodeCrashed(point=point) | w.WorkerCrashed(point=point):
            drawing.mark(record.node, record.at_us, "✖", TROUBLE, f"crashed at {at_s:.6f} s ({point})")
        case f.StartFailed(why=why):
            drawing.dot(record.node, record.at_us, "#88888888", f"could not start: {why}")
        case f.Stalled(kind=kind, until_us=until_us):
            drawing.bar(record.node, record.at_us, until_us, STILL, f"stands still: {kind}")
        case f.Fault(what=what):
            lane = record.node if record.node in drawing.lanes else next(iter(drawing.lanes))
            drawing.mark(lane, record.at_us, "▼", "#e07b26", f"{what} at {at_s:.3f} s")
        case f.Failed(writer=writer, reason=reason):
            drawing.dot(record.node, record.at_us, TROUBLE, f"write of {writer} failed: {reason}")
        case f.TransactionLost(writer=writer):
            drawing.dot(record.node, record.at_us, "#111", f"an unsynced write of {writer} was lost")
        case w.HandlerSeen(handler_id=handler_id, what="lost"):
            drawing.dot(record.node, record.at_us, TROUBLE, f"{handler_id} is declared lost")
        case f.RunWritten(outcome=outcome) if outcome in ("skipped", "missed", "lost"):
            what = f"{record.schedule_id}@{clock(record.fire_us)} {outcome} ({record.reason}), {record.count} instants"
            drawing.dot(record.schedule_id or record.node, record.at_us, COLOURS[outcome], what)


def _draw_executions(drawing: Drawing, result: Result) -> None:
    """On the lane of their schedule; those that go on at the end of the record too."""
    began: dict[tuple[str, int, int], f.ExecutionStarted] = {}
    for record in result.records:
        match record:
            case f.ExecutionStarted():
                began[record.node, record.row, record.attempt] = record
            case f.ExecutionEnded():
                started = began.pop((record.node, record.row, record.attempt), None)
                if started is not None:
                    colour = COLOURS.get(record.how, "#888")
                    _draw_execution(drawing, started, record.at_us, colour, f"{record.how} {record.reason}")
    for started in began.values():
        _draw_execution(drawing, started, drawing.last_us, "#888", "goes on")


def _draw_execution(drawing: Drawing, started: f.ExecutionStarted, until_us: int, colour: str, how: str) -> None:
    what = f"{started.schedule_id}@{clock(started.fire_us)} attempt {started.attempt} on {started.node}: {how}"
    drawing.bar(started.schedule_id or started.node, started.at_us, until_us, colour, what)
