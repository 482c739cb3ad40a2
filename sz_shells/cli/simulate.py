"""`schedulezero simulate`: seeds of faults thrown at a configuration, or at workloads of ours, in simulated time."""

import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from sz_shells.cli.common import FAILED, OK, USAGE, console, emit_json, fail, load_or_exit, print_table
from sz_shells.cli.options import OutputOption, SetOption

if TYPE_CHECKING:
    from sz_runtime.simulation.plan import Plan
    from sz_runtime.simulation.runner import Order, SeedReport

DEFAULT_SEEDS = "0..99"
SHRINK_RUNS = 250
MANY_SEEDS = 50
"""So many seeds should have reached what is rare: with fewer it is no news that they have not."""


def simulate(
    config: str | None = None,
    /,
    *,
    seeds: Annotated[str | None, Parameter(help="One seed, or a range A..B with both ends. Default: 0..99.")] = None,
    hours: Annotated[float | None, Parameter(help="Simulated time under faults, for each seed.")] = None,
    scenario: Annotated[Path | None, Parameter(help="Play this script instead of seeds.")] = None,
    jobs: Annotated[int, Parameter(help="Processes that share the seeds.")] = 1,
    mutant: Annotated[str | None, Parameter(help="Plant this bug; end at the first seed that catches it.")] = None,
    list_invariants: Annotated[bool, Parameter(help="Show what is checked, and end.", negative="")] = False,
    list_mutants: Annotated[bool, Parameter(help="Show the bugs that can be planted, and end.", negative="")] = False,
    report: Annotated[Path | None, Parameter(help="Write an HTML page with a timeline of one run.")] = None,
    shrink: Annotated[bool, Parameter(help="Make a failing seed a short scenario file.")] = True,
    settings: SetOption = None,
    output: OutputOption = "table",
) -> int:
    """Run real nodes in simulated time under seeded faults, and check every invariant.

    Crashes, torn and lost writes, full disks, partitions, clocks that jump, stalls between a check and its effect. The
    same seed does the same every time. Exit code 1: an invariant was broken; the line that replays it is printed.

    Parameters
    ----------
    config
        Configuration whose schedules are simulated, with handlers of our own; none are imported. Without it a
        workload is drawn for each seed.
    """
    if list_invariants:
        return _list_invariants(output)
    if list_mutants:
        return _list_mutants(output)
    if jobs < 1:
        fail("--jobs: at least one process has to do the work", USAGE)
    if report is not None:
        _expect_to_write(report)
    if scenario is not None:
        if config is not None or seeds is not None or hours is not None:
            fail("--scenario plays one script: it takes no configuration, no --seeds and no --hours", USAGE)
        return _play(scenario, mutant, report, output)
    order = _order(config, settings, hours, mutant)
    default = "0..499" if mutant is not None else DEFAULT_SEEDS
    return _seeds(
        order, _range(seeds or default), jobs, report, shrink and mutant is None, _named(config, settings), output
    )


simulate_app = App(name="simulate", help="Throw seeded faults at schedules in simulated time.")
simulate_app.default(simulate)


def _range(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        fail(f"--seeds: {text!r} is neither a number nor a range such as 0..99", USAGE)
    if not seeds or seeds.start < 0:
        fail(f"--seeds: {text!r} holds no seed; a range goes upwards, from 0 on, both ends included", USAGE)
    return seeds


def _order(config: str | None, settings: list[str] | None, hours: float | None, mutant: str | None) -> "Order":
    from sz_protocol.kernel.now import HOUR_US
    from sz_runtime.simulation.runner import Order
    from sz_runtime.simulation.workload import jobs_of

    _know_mutant(mutant)
    if hours is not None and not 0 < hours <= 24 * 366:
        fail("--hours: has to lie between 0 and 8784 (a year)", USAGE)
    length_us = None if hours is None else round(hours * HOUR_US)
    if config is None:
        if settings:
            fail("--set changes a configuration: name one", USAGE)
        return Order(length_us=length_us, mutant=mutant)
    schedules = load_or_exit(config, settings).schedules
    if not schedules:
        fail(f"{config}: has no schedules to simulate", USAGE)
    return Order(jobs_of(schedules), HOUR_US if length_us is None else length_us, mutant=mutant)


def _named(config: str | None, settings: list[str] | None) -> str:
    """The configuration as a command line names it; empty where there is none."""
    words = [config, *(word for setting in settings or () for word in ("--set", setting))] if config else []
    return " ".join(map(shlex.quote, words))


def _know_mutant(mutant: str | None) -> None:
    from sz_runtime.simulation.mutants import UnknownMutant, planted

    if mutant is not None:
        try:
            planted(mutant)
        except UnknownMutant as unknown:
            fail(f"--mutant: {unknown}", USAGE)


# --- seeds -------------------------------------------------------------------------------------------------------


def _seeds(order: "Order", seeds: range, jobs: int, report: Path | None, shrink: bool, named: str, output: str) -> int:
    from sz_runtime.simulation.runner import run_seeds

    reports: list[SeedReport] = []
    broken: SeedReport | None = None
    for one in _with_progress(run_seeds(order, seeds, jobs), len(seeds)):
        reports.append(one)
        broken = broken or (one if one.violations else None)
        if broken is not None and order.mutant is not None:
            break
    if report is not None:
        _write_report(order, broken.seed if broken is not None else reports[-1].seed, report)
    if output == "json":
        emit_json(_as_json(reports, order.mutant))
    else:
        _print_reports(reports, order.mutant)
    if broken is None:
        return OK
    _tell_replay(order, broken, shrink, named)
    return FAILED


def _with_progress(reports: "Iterator[SeedReport]", total: int) -> "Iterator[SeedReport]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("seeds", total=total)
        for one in reports:
            progress.advance(task)
            yield one


def _as_json(reports: "list[SeedReport]", mutant: str | None) -> dict[str, Any]:
    return {
        "mutant": mutant,
        "seeds": [
            {
                "seed": one.seed,
                "trace_hash": one.trace_hash,
                "violations": [_violation(v) for v in one.violations],
                "simulated_seconds": one.stats["simulated_s"],
                "steps": one.stats["steps"],
            }
            for one in reports
        ],
        "reached": _sums(reports),
    }


def _violation(violation: Any) -> dict[str, Any]:
    return {
        "invariant": violation.invariant,
        "at_seconds": violation.at_us / 1e6,
        "node": violation.node,
        "message": violation.message,
    }


def _sums(reports: "Iterable[SeedReport]") -> dict[str, int]:
    """What was reached, over all seeds; rare states that never were are shown with 0."""
    from sz_runtime.simulation.checkers.sometimes import REQUIRED

    sums = dict.fromkeys(REQUIRED, 0)
    for one in reports:
        for name, count in one.stats.items():
            if name not in ("steps", "records", "simulated_s"):
                sums[name] = sums.get(name, 0) + count
    return dict(sorted(sums.items()))


def _print_reports(reports: "list[SeedReport]", mutant: str | None) -> None:
    out = console()
    failed = [one for one in reports if one.violations]
    for one in failed[:10]:
        out.print(f"[bold]seed {one.seed}[/bold] broke {len(one.violations)}:")
        for violation in one.violations[:5]:
            out.print(f"  {violation}", markup=False)
    hours = sum(one.stats["simulated_s"] for one in reports) / 3600
    steps = sum(one.stats["steps"] for one in reports)
    instants = sum(one.stats.get("instants decided", 0) for one in reports)
    rare = _sums(reports)
    never = [name for name, count in rare.items() if not count]
    out.print(
        f"{_number(len(reports), 'seed')}, {hours:.1f} simulated hours, {steps} steps, {instants} fire times decided"
    )
    if mutant is not None:
        verdict = f"caught by seed {failed[0].seed}" if failed else "survived"
        out.print(f"mutant {mutant}: {verdict}")
    else:
        out.print("every invariant held" if not failed else f"{_number(len(failed), 'seed')} broke an invariant")
        if never and len(reports) >= MANY_SEEDS:
            out.print(f"never reached by these seeds: {', '.join(never)}", markup=False)


def _number(count: int, what: str) -> str:
    """A count with its noun."""
    return f"{count} {what}{'' if count == 1 else 's'}"


# --- what failed ---------------------------------------------------------------------------------------------------


def _tell_replay(order: "Order", broken: "SeedReport", shrink: bool, named: str) -> None:
    """How to see it again: the seed, and a scenario file that is as short as we could make it."""
    options = [f"--seeds {broken.seed}..{broken.seed}"]
    if order.length_us is not None:
        options.append(f"--hours {_as_hours(order.length_us)}")
    if order.mutant is not None:
        options.append(f"--mutant {order.mutant}")
    command = " ".join(["schedulezero simulate", *([named] if named else []), *options])
    sys.stderr.write(f"replay: {command}   ({_code_version()})\n")
    if shrink:
        path = Path(f"seed-{broken.seed}.scenario")
        sys.stderr.write("making it shorter, which may take a while (--no-shrink: not wanted) ...\n")
        sys.stderr.flush()
        path.write_text(_shrunk(order, broken), "utf-8")
        sys.stderr.write(f"shrunk: schedulezero simulate --scenario {path}\n\n{path.read_text('utf-8')}")


def _as_hours(length_us: int) -> str:
    """Hours of which `--hours` makes the same length again."""
    return repr(length_us / 3_600_000_000).removesuffix(".0")


def _shrunk(order: "Order", broken: "SeedReport") -> str:
    from sz_runtime.simulation.scenario import scenario_of
    from sz_runtime.simulation.shrink import shrink
    from sz_runtime.simulation.world import World

    invariant = broken.violations[0].invariant

    def fails(plan: "Plan") -> bool:
        result = World(plan.seed, plan, stop_at_first=True).run()
        return any(violation.invariant == invariant for violation in result.violations)

    plan = shrink(order.plan_of(broken.seed), fails, SHRINK_RUNS)
    return scenario_of(plan, f"Shrunk from seed {broken.seed}; breaks {invariant}.", _code_version())


def _code_version() -> str:
    """The commit where this is a checkout, else the version that is installed."""
    from importlib.metadata import version

    from sz_shells.cli.commit import commit_of

    commit = commit_of(Path(__file__).parents[2])
    text = f"schedulezero {version('schedulezero')}"
    return f"{text}, commit {commit[:12]}" if commit is not None else text


def _write_report(order: "Order", seed: int, path: Path) -> None:
    from sz_runtime.simulation.report import html_report
    from sz_runtime.simulation.runner import run_one

    _write(path, html_report(run_one(order, seed, keep=True)))


def _expect_to_write(path: Path) -> None:
    """Find out before the work, which may take an hour, that its report could not be written."""
    try:
        path.open("a").close()
    except OSError as error:
        fail(f"--report: cannot write {path}: {error.strerror}", USAGE)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        fail(f"--report: cannot write {path}: {error.strerror}", USAGE)


# --- scenarios -------------------------------------------------------------------------------------------------------


def _play(path: Path, mutant: str | None, report: Path | None, output: str) -> int:
    from contextlib import nullcontext

    from sz_runtime.simulation.mutants import planted
    from sz_runtime.simulation.report import html_report
    from sz_runtime.simulation.scenario import play
    from sz_runtime.simulation.step_lines import ScenarioError

    _know_mutant(mutant)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"--scenario: cannot read {path}: {getattr(error, 'strerror', None) or error}", USAGE)
    try:
        with planted(mutant) if mutant is not None else nullcontext():
            played = play(text)
    except ScenarioError as wrong:
        fail(f"{path}: {wrong}", USAGE)
    result = played.result
    if report is not None:
        _write(report, html_report(result))
    if output == "json":
        one = {"seed": result.seed, "trace_hash": result.trace_hash}
        emit_json({"mutant": mutant, "seeds": [{**one, "violations": [_violation(v) for v in result.violations]}]})
    else:
        sys.stdout.write(played.text)
    return FAILED if result.violations else OK


# --- lists ---------------------------------------------------------------------------------------------------------


def _list_invariants(output: str) -> int:
    from attrs import asdict

    from sz_runtime.simulation.invariants import INVARIANTS

    if output == "json":
        emit_json([asdict(invariant) for invariant in INVARIANTS])
    else:
        rows = ((one.id, one.kind, one.checker, one.statement) for one in INVARIANTS)
        print_table("Invariants", ("id", "kind", "checker", "statement"), rows)
    return OK


def _list_mutants(output: str) -> int:
    from sz_runtime.simulation.mutants import MUTANTS

    if output == "json":
        emit_json([{"name": name, "summary": mutant.summary} for name, mutant in MUTANTS.items()])
    else:
        print_table("Mutants", ("name", "what it does"), ((name, m.summary) for name, m in MUTANTS.items()))
    return OK
