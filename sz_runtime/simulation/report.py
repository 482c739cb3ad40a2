"""A run as one HTML page that a person can read: what was planned, what was broken, and a timeline drawn as SVG.

The page needs nothing from outside: no script, no font, no style sheet.
"""

from collections import Counter
from html import escape

from sz_runtime.simulation import facts as f
from sz_runtime.simulation.rendering import render
from sz_runtime.simulation.scenario_text import plan_to_text
from sz_runtime.simulation.timeline import COLOURS, CUT, HEALED, MESSAGE, TROUBLE, timeline
from sz_runtime.simulation.world import Result

MOST_LINES = 3_000
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin-top: 2em }
pre { background: #f6f6f6; padding: 1em; overflow: auto; max-height: 32em; font-size: 12px }
.scroll { overflow-x: auto; border: 1px solid #ddd; display: flex; background: inherit }
.scroll svg { flex: none } .names { order: -1; position: sticky; left: 0; background: #fffc }
.bad { color: #b00020 } .ok { color: #1b7a3d }
table { border-collapse: collapse } td, th { padding: 2px 12px 2px 0; text-align: left }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b } pre { background: #262626 } .names { background: #1b1b1bcc }
}
"""


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
    lines = [("message", MESSAGE), ("lost or refused", TROUBLE), ("cut off", CUT), ("healed", HEALED)]
    names += [f'<span style="color:{colour}">━</span> {name}' for name, colour in lines]
    signs = "✖ crash &nbsp; ▼ fault &nbsp; ⚑ violation &nbsp; pale: alive &nbsp; amber: stands still"
    return " &nbsp; ".join(names) + f"<br>{signs}. Whatever is drawn says more when the pointer rests on it."


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
