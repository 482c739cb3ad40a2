"""Scenario files: scripts with their golden traces, played and rewritten.

A script's steps are done one by one; what the world did because of a step stands under it, indented, after `>`. The
last line is `finish`: everything is healed, the nodes settle, and the ledger is counted. People read the difference
when a trace changes.
"""

from collections import Counter
from pathlib import Path

from attrs import frozen

from sz_runtime.simulation.facts import Noted, RunKept
from sz_runtime.simulation.plan import Plan
from sz_runtime.simulation.rendering import render
from sz_runtime.simulation.scenario_text import FINISH, GOLDEN, HEAD, plan_to_text, strip_comment, text_to_plan
from sz_runtime.simulation.step_lines import line_to_step
from sz_runtime.simulation.steps import Step
from sz_runtime.simulation.world import Result, World


@frozen
class Played:
    """A scenario that was played: its text with the trace as it is now, and the result."""

    text: str
    result: Result


def play(text: str) -> Played:
    """Play a scenario. Raises ScenarioError for a script that cannot be read."""
    plan = text_to_plan(text)
    world = World(plan.seed, plan, keep=True)
    world.begin()
    seen = len(world.trace.records)
    lines: list[str] = []
    for line in text.rstrip("\n").splitlines():
        if GOLDEN.match(line):
            continue
        meaning = strip_comment(line)
        if meaning.split(" ")[0] == FINISH:
            break
        lines.append(line)
        if not meaning or meaning.split(" ")[0] in HEAD:
            continue
        world.do(line_to_step(meaning))
        lines += golden_lines(world.trace.records[seen:], plan)
        seen = len(world.trace.records)
    world.settle()
    result = world.result()
    lines += [FINISH, *(f"  > {line}" for line in summary(result))]
    return Played("\n".join(lines) + "\n", result)


def plan_steps(text: str) -> tuple[Step, ...]:
    """The steps of a script without a head. Raises ScenarioError."""
    lines = (strip_comment(line) for line in text.splitlines())
    return tuple(line_to_step(line) for line in lines if line)


def golden_lines(records: list[Noted], plan: Plan) -> list[str]:
    """The golden trace of one step."""
    return [f"  > {line}" for line in (render(record, plan) for record in records) if line is not None]


def summary(result: Result) -> list[str]:
    """The ledger at the end, counted, and what was broken."""
    counts: Counter[tuple[str, str]] = Counter()
    for record in result.records:
        if isinstance(record, RunKept):
            ended = f"{record.outcome} ({record.reason})" if record.outcome else record.state
            counts[record.schedule_id or record.kind, ended] += record.count
    lines = [f"{schedule_id}: {count} {ended}" for (schedule_id, ended), count in sorted(counts.items())]
    return lines + [str(violation) for violation in result.violations or ("every invariant held",)]


def scenario_of(plan: Plan, *comments: str) -> str:
    """The scenario file that replays a plan, with comments at its top and without a golden trace."""
    return "".join(f"# {comment}\n" for comment in comments) + plan_to_text(plan) + FINISH + "\n"


def check(path: Path, *, rewrite: bool = False) -> tuple[str, str]:
    """The text of a scenario file and what it should be; with `rewrite` the file is brought up to date."""
    text = path.read_text("utf-8")
    now = play(text).text
    if rewrite and now != text:
        path.write_text(now, "utf-8")
        return now, now
    return text, now
