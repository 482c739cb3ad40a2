"""The timelines of specs/policies.md, drawn from what a real node did: each block of the guide is what comes out here.

    python -m tests.protocol.policy_timelines        # draw them all anew, after a change that was meant

A block follows a comment that says what happens, as YAML:

    <!-- timeline {from: "08:00", to: "09:00", every: 10m, policies: {overlap: skip}, takes: 25m} -->
"""

import re
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from sz_protocol.commands import Pause, Resume
from sz_protocol.definition import MisfirePolicy
from sz_protocol.definition_wire import definition_from_wire
from sz_protocol.durations import parse_duration
from sz_protocol.kernel.effects import StartRun
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.queries import AttemptsOf, RunsPage, SchedulesById
from sz_protocol.records import Outcome, Reason, Run
from sz_protocol.triggers import fires_between
from sz_shells.stores.memory import MemoryStore
from tests.protocol.explaining_rig import Ending, Handler, World, utc

GUIDE = Path(__file__).parents[2] / "specs" / "policies.md"
BLOCK = re.compile(r"<!-- timeline (?P<spec>\{.*?\}) -->\n```text\n(?P<drawn>.*?)```\n", re.DOTALL)
CELL = 13
DAY = "2026-03-02"
KEYS = {"from", "to", "every", "policies", "takes", "fails", "down", "paused", "resume"}


@frozen
class Bar:
    """One execution: from, to, and the sign at its end."""

    begin_us: int
    end_us: int
    sign: str


@frozen
class Scene:
    """What happens; times are those of one day, in UTC."""

    spec: dict[str, Any]

    def at(self, key: str) -> int:
        """A time of the day."""
        return clock(self.spec[key])

    @property
    def every_us(self) -> int:
        """Between two fire times: one cell of the drawing."""
        return parse_duration(self.spec["every"])

    def column(self, at_us: int) -> int:
        """Where an instant stands."""
        return (at_us - self.at("from")) * CELL // self.every_us


def clock(text: str) -> int:
    """08:30 on the day of the drawings."""
    return utc(f"{DAY}T{text}")


def play(scene: Scene) -> World:
    """Let it happen."""
    spec = scene.spec
    assert set(spec) <= KEYS, f"unknown: {set(spec) - KEYS}"
    every_s = scene.every_us // SECOND_US
    trigger = {"type": "interval", "seconds": every_s, "anchor": f"{DAY}T{spec['from']}:00Z"}
    wire = {"id": "job", "handler_id": "h", "method": "m", "trigger": trigger, **spec["policies"]}
    world = World(MemoryStore(), scene.at("from") - 1, _handler(spec))
    world.start()
    world.apply(definition_from_wire(wire))
    assert world.store.query(SchedulesById(("job",))), "the definition was stored"
    for at_us, what in sorted(_turns(spec)):
        world.until(at_us)
        match what:
            case "down":
                world.kill()
                world.away_until(f"{DAY}T{spec['down'][1]}")
                world.start()
            case "pause":
                world.ask(Pause("job"))
            case "resume":
                world.ask(Resume("job", MisfirePolicy(spec["resume"])))
    world.until(scene.at("to"))
    return world


def _turns(spec: dict[str, Any]) -> list[tuple[int, str]]:
    turns = [(clock(spec["down"][0]), "down")] if "down" in spec else []
    if "paused" in spec:
        turns += [(clock(spec["paused"][0]), "pause"), (clock(spec["paused"][1]), "resume")]
    return turns


def _handler(spec: dict[str, Any]) -> Handler:
    takes = [parse_duration(each) for each in spec.get("takes", ["2m"])]
    fails = int(spec.get("fails", 0))
    started: dict[str, int] = {}

    def handler(start: StartRun) -> Ending:
        number = started.setdefault(start.run_id, len(started))
        taken_us = takes[min(number, len(takes) - 1)]
        if start.attempt <= fails:
            return Ending(taken_us, Outcome.FAILED, Reason.ERROR)
        return Ending(taken_us)

    return handler


def draw(scene: Scene) -> str:
    """What happened, one character for each thirteenth of a cell."""
    world = play(scene)
    rows: list[Run] = sorted(world.store.query(RunsPage(limit=1000)), key=lambda run: run.fire_us)
    assert rows
    fires = list(fires_between(_trigger(world), scene.at("from"), scene.at("to")))
    width = scene.column(scene.at("to"))
    lines = [
        ("time", _words(scene, [(at_us, _wall(at_us)) for at_us in fires])),
        ("fires", _words(scene, [(at_us, "*") for at_us in fires])),
    ]
    if "down" in scene.spec:
        lines.append(("server", _stretch(scene, width, scene.spec["down"], "=", " ")))
    if "paused" in scene.spec:
        lines.append(("paused", _stretch(scene, width, scene.spec["paused"], " ", "-")))
    lanes = _lanes(scene, width, _bars(scene, world, rows))
    lines += [("" if place else "runs", text) for place, text in enumerate(lanes)]
    lines.append(("ledger", _words(scene, [(at_us, _word(rows, at_us)) for at_us in fires])))
    return "".join(f"{name:<8}{text}".rstrip() + "\n" for name, text in lines)


def _trigger(world: World) -> Any:
    return world.store.query(SchedulesById(("job",)))[0].definition.trigger


def _wall(at_us: int) -> str:
    seconds = (at_us - clock("00:00")) // SECOND_US
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}"


def _words(scene: Scene, words: list[tuple[int, str]]) -> str:
    text = ""
    for at_us, word in words:
        assert len(word) < CELL, f"{word} does not fit"
        text = f"{text:<{scene.column(at_us)}}{word}"
    return text


def _stretch(scene: Scene, width: int, between: list[str], outside: str, inside: str) -> str:
    low, high = (scene.column(clock(each)) for each in between)
    return outside * low + inside * (high - low) + outside * (width - high)


def _bars(scene: Scene, world: World, rows: list[Run]) -> list[Bar]:
    bars: list[Bar] = []
    for run in rows:
        for attempt in world.store.query(AttemptsOf(run.row)):
            bars.append(_bar(scene, run, attempt.started_us, attempt.finished_us, attempt.outcome))
        if run.attempt:
            bars.append(_bar(scene, run, run.started_us, run.finished_us or world.now_us, run.outcome))
    return sorted((bar for bar in bars if bar.begin_us < scene.at("to")), key=lambda bar: bar.begin_us)


def _bar(scene: Scene, run: Run, began_us: int | None, ended_us: int, outcome: Outcome | None) -> Bar:
    if outcome is Outcome.LOST:
        # It was found out later; what is drawn is when it happened.
        return Bar(run.decided_us, clock(scene.spec["down"][0]), "?")
    sign = "=" if outcome is None else "]" if outcome is Outcome.SUCCEEDED else "x"
    return Bar(run.decided_us if began_us is None else began_us, ended_us, sign)


def _lanes(scene: Scene, width: int, bars: list[Bar]) -> list[str]:
    """Bars in as few lines as it takes; one that begins where another ends has a line of its own."""
    lanes: list[str] = []
    for bar in bars:
        low, high = scene.column(bar.begin_us), min(scene.column(bar.end_us), width)
        text = "[" + "=" * max(high - low - 2, 0) + bar.sign
        place = next((place for place, lane in enumerate(lanes) if len(lane) <= low), len(lanes))
        if place == len(lanes):
            lanes.append("")
        lanes[place] = f"{lanes[place]:<{low}}{text}"
    return lanes


def _word(rows: list[Run], at_us: int) -> str:
    """The reason that the ledger has for an instant, or for the range that it lies in."""
    for run in rows:
        if run.fire_us <= at_us <= (run.until_us or run.fire_us):
            return str(run.reason) if run.outcome is not None else "(running)" if run.attempt else "(waiting)"
    return "(none)"


def drawn_anew(text: str) -> str:
    """The guide with every timeline as it is now."""

    def again(match: re.Match[str]) -> str:
        scene = Scene(yaml.safe_load(match["spec"]))
        return f"<!-- timeline {match['spec']} -->\n```text\n{draw(scene)}```\n"

    return BLOCK.sub(again, text)


if __name__ == "__main__":
    GUIDE.write_text(drawn_anew(GUIDE.read_text()))
