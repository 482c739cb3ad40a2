"""Steps as lines of text, and back. Every step has exactly one canonical line (see specs/simulation.md)."""

import re
from collections.abc import Callable

from attrs import fields

from sz_protocol.definition import MisfirePolicy
from sz_protocol.durations import format_duration, parse_duration
from sz_runtime.simulation.network import CALM, Weather
from sz_runtime.simulation.steps import (
    HOLDING_POINTS,
    Advance,
    CancelRuns,
    Configure,
    Crash,
    Cut,
    DiskState,
    Drain,
    DriftClock,
    HalfClose,
    Heal,
    Meddle,
    Meddling,
    Mend,
    Partition,
    PauseSchedule,
    Point,
    ResumeSchedule,
    Rewind,
    SetDisk,
    SetKeys,
    SetMethods,
    SetStore,
    SetWeather,
    Stall,
    StallKind,
    Start,
    Step,
    StepClock,
    Strangers,
    TriggerSchedule,
    TrustClock,
)


class ScenarioError(ValueError):
    """A line of a scenario that says nothing; the message names what would be right."""


# --- to text -------------------------------------------------------------------------------------------------


def step_to_line(step: Step) -> str:
    """The canonical line of a step."""
    match step:
        case Advance(us):
            return f"advance {format_duration(us)}"
        case Heal():
            return "heal"
        case Start() | Crash() | Drain() | Stall() | Rewind():
            return _node_line(step)
        case StepClock() | DriftClock() | TrustClock():
            return _clock_line(step)
        case SetDisk() | SetStore():
            return _store_line(step)
        case SetKeys(without):
            return f"keys without {' '.join(without)}" if without else "keys all"
        case Partition() | Cut() | Mend() | SetWeather() | Meddle() | HalfClose() | Strangers():
            return _network_line(step)
        case _:
            return _person_line(step)


def _node_line(step: Start | Crash | Drain | Stall | Rewind) -> str:
    match step:
        case Start(node, by_force):
            return f"start {node}" + (" by force" if by_force else "")
        case Crash(node, point, restart_us, power):
            return f"crash {node}{_at(point)}{' power lost' if power else ''}{_restart(restart_us)}"
        case Drain(node, grace_us, restart_us):
            return f"drain {node} within {format_duration(grace_us)}{_restart(restart_us)}"
        case Stall(node, kind, us, point):
            return f"{kind} {node} for {format_duration(us)}{_at(point)}"
        case Rewind(node, us, restart_us):
            return f"rewind {node} by {format_duration(us)}{_restart(restart_us)}"


def _clock_line(step: StepClock | DriftClock | TrustClock) -> str:
    match step:
        case StepClock(node, us):
            return f"clock {node} {_signed(us)}"
        case DriftClock(node, ppm):
            return f"clock {node} drift {ppm:+d}ppm"
        case TrustClock(node, trusted, error_us):
            word = "trusted" if trusted else "untrusted"
            return f"clock {node} {word}" + (f" {_signed(error_us)}" if error_us else "")


def _store_line(step: SetDisk | SetStore) -> str:
    match step:
        case SetDisk(store, state):
            return f"disk {store} {state}"
        case SetStore(store, slow, unknown, down):
            words = [f"slow {slow:g}"] * (slow != 1) + [f"unknown {unknown:g}"] * (unknown > 0) + ["down"] * down
            return f"store {store} {' '.join(words) or 'ok'}"


def _network_line(step: Partition | Cut | Mend | SetWeather | Meddle | HalfClose | Strangers) -> str:
    match step:
        case Partition(groups):
            return "partition " + " | ".join(" ".join(group) for group in groups)
        case Cut(sender, to):
            return f"cut {sender} -> {to}"
        case HalfClose(sender, to):
            return f"close {sender} -> {to}"
        case Strangers(node, count):
            return f"strangers {node} {count}"
        case Meddle(kind, sender, to):
            return f"{kind} {sender} -> {to}"
        case Mend(swizzle_us):
            return "mend" + (f" within {format_duration(swizzle_us)}" if swizzle_us else "")
        case SetWeather(weather):
            usual = CALM
            words = [
                f"{field.name}={getattr(weather, field.name):g}"
                for field in fields(Weather)
                if getattr(weather, field.name) != getattr(usual, field.name)
            ]
            return f"weather {' '.join(words) or 'calm'}"


def _person_line(
    step: PauseSchedule | ResumeSchedule | TriggerSchedule | CancelRuns | Configure | SetMethods,
) -> str:
    match step:
        case PauseSchedule(node, schedule_id):
            return f"ask {node} pause {schedule_id}"
        case ResumeSchedule(node, schedule_id, missed):
            return f"ask {node} resume {schedule_id} {missed}"
        case TriggerSchedule(node, schedule_id, key):
            return f"ask {node} trigger {schedule_id} {key}"
        case CancelRuns(node, schedule_id):
            return f"ask {node} cancel {schedule_id}"
        case Configure(node, jobs):
            return f"configure {node} {' '.join(map(str, jobs)) or 'nothing'}"
        case SetMethods(node, without):
            return f"methods {node} " + (f"without {' '.join(without)}" if without else "all")


def _at(point: Point | None) -> str:
    return f" {point}" if point is not None else ""


def _restart(restart_us: int | None) -> str:
    return f" restart after {format_duration(restart_us)}" if restart_us is not None else ""


def _signed(us: int) -> str:
    return ("-" if us < 0 else "+") + format_duration(abs(us))


# --- from text -----------------------------------------------------------------------------------------------

_NAME = r"[\w.\-]+"
_TIME = r"[0-9][0-9a-z.]*"
_POINT = f"(?P<point>{'|'.join(Point)})"
_RESTART = rf"(?: restart after (?P<restart>{_TIME}))?"

Found = dict[str, str]


def _us(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ScenarioError(str(error)) from None


def _restart_us(found: Found) -> int | None:
    return _us(found["restart"]) if found["restart"] else None


def _point(found: Found) -> Point | None:
    return Point(found["point"]) if found["point"] else None


def _signed_us(text: str) -> int:
    return -_us(text[1:]) if text.startswith("-") else _us(text.removeprefix("+"))


def _stall(found: Found) -> Step:
    point = _point(found)
    if point is not None and point not in HOLDING_POINTS:
        raise ScenarioError(f"a process can be held up at: {', '.join(HOLDING_POINTS)}")
    return Stall(found["node"], StallKind(found["kind"]), _us(found["us"]), point)


def _set_store(found: Found) -> Step:
    return SetStore(found["store"], float(found["slow"] or 1), float(found["unknown"] or 0), found["down"] is not None)


def _weather(found: Found) -> Step:
    kinds = {field.name: field.type for field in fields(Weather)}
    values: dict[str, float] = {}
    for word in found["words"].split():
        name, _, number = word.partition("=")
        if name not in kinds:
            raise ScenarioError(f"the weather has no {name!r}; it has {', '.join(kinds)}")
        values[name] = int(float(number)) if kinds[name] is int else float(number)
    return SetWeather(Weather(**values))  # type: ignore[arg-type]


_LINES: list[tuple[str, Callable[[Found], Step]]] = [
    (rf"advance (?P<us>{_TIME})", lambda f: Advance(_us(f["us"]))),
    (rf"start (?P<node>{_NAME})(?P<force> by force)?", lambda f: Start(f["node"], bool(f["force"]))),
    (
        rf"crash (?P<node>{_NAME})(?: {_POINT})?(?P<power> power lost)?{_RESTART}",
        lambda f: Crash(f["node"], _point(f), _restart_us(f), bool(f["power"])),
    ),
    (
        rf"drain (?P<node>{_NAME}) within (?P<us>{_TIME}){_RESTART}",
        lambda f: Drain(f["node"], _us(f["us"]), _restart_us(f)),
    ),
    (rf"(?P<kind>pause|stall|suspend) (?P<node>{_NAME}) for (?P<us>{_TIME})(?: {_POINT})?", _stall),
    (
        rf"rewind (?P<node>{_NAME}) by (?P<us>{_TIME}){_RESTART}",
        lambda f: Rewind(f["node"], _us(f["us"]), _restart_us(f) or 0),
    ),
    (rf"clock (?P<node>{_NAME}) (?P<us>[+-]{_TIME})", lambda f: StepClock(f["node"], _signed_us(f["us"]))),
    (rf"clock (?P<node>{_NAME}) drift (?P<ppm>[+-]?\d+)ppm", lambda f: DriftClock(f["node"], int(f["ppm"]))),
    (
        rf"clock (?P<node>{_NAME}) (?P<word>trusted|untrusted)(?: (?P<us>[+-]{_TIME}))?",
        lambda f: TrustClock(f["node"], f["word"] == "trusted", _signed_us(f["us"] or "+0s")),
    ),
    (
        rf"disk (?P<store>{_NAME}) (?P<state>{'|'.join(DiskState)})",
        lambda f: SetDisk(f["store"], DiskState(f["state"])),
    ),
    (
        rf"store (?P<store>{_NAME})(?: ok)?(?: slow (?P<slow>[\d.e+]+))?(?: unknown (?P<unknown>[\d.e-]+))?"
        r"(?P<down> down)?",
        _set_store,
    ),
    (
        rf"partition (?P<groups>{_NAME}(?: {_NAME})*(?: \| {_NAME}(?: {_NAME})*)+)",
        lambda f: Partition(tuple(tuple(group.split()) for group in f["groups"].split("|"))),
    ),
    (rf"cut (?P<sender>{_NAME}) -> (?P<to>{_NAME})", lambda f: Cut(f["sender"], f["to"])),
    (
        rf"(?P<kind>{'|'.join(Meddling)}) (?P<sender>{_NAME}) -> (?P<to>{_NAME})",
        lambda f: Meddle(Meddling(f["kind"]), f["sender"], f["to"]),
    ),
    (rf"close (?P<sender>{_NAME}) -> (?P<to>{_NAME})", lambda f: HalfClose(f["sender"], f["to"])),
    (rf"strangers (?P<node>{_NAME}) (?P<count>\d+)", lambda f: Strangers(f["node"], int(f["count"]))),
    (rf"mend(?: within (?P<us>{_TIME}))?", lambda f: Mend(_us(f["us"]) if f["us"] else 0)),
    (r"weather (?P<calm>calm)", lambda f: SetWeather(CALM)),
    (r"weather (?P<words>\w+=[\d.e+-]+(?: \w+=[\d.e+-]+)*)", _weather),
    (rf"ask (?P<node>{_NAME}) pause (?P<id>{_NAME})", lambda f: PauseSchedule(f["node"], f["id"])),
    (
        rf"ask (?P<node>{_NAME}) resume (?P<id>{_NAME}) (?P<missed>{'|'.join(MisfirePolicy)})",
        lambda f: ResumeSchedule(f["node"], f["id"], MisfirePolicy(f["missed"])),
    ),
    (
        rf"ask (?P<node>{_NAME}) trigger (?P<id>{_NAME}) (?P<key>{_NAME})",
        lambda f: TriggerSchedule(f["node"], f["id"], f["key"]),
    ),
    (rf"ask (?P<node>{_NAME}) cancel (?P<id>{_NAME})", lambda f: CancelRuns(f["node"], f["id"])),
    (
        rf"configure (?P<node>{_NAME}) (?:nothing|(?P<jobs>\d+(?: \d+)*))",
        lambda f: Configure(f["node"], tuple(int(job) for job in (f["jobs"] or "").split())),
    ),
    (
        rf"methods (?P<node>{_NAME}) (?:all|without (?P<ids>{_NAME}(?: {_NAME})*))",
        lambda f: SetMethods(f["node"], tuple((f["ids"] or "").split())),
    ),
    (rf"keys (?:all|without (?P<ids>{_NAME}(?: {_NAME})*))", lambda f: SetKeys(tuple((f["ids"] or "").split()))),
    (r"heal", lambda f: Heal()),
]
_PATTERNS = [(re.compile(pattern), build) for pattern, build in _LINES]

VERBS = (
    *("advance", "start", "crash", "drain", "pause", "stall", "suspend", "rewind", "clock", "disk", "store"),
    *(
        "partition",
        "cut",
        "mend",
        "weather",
        "ask",
        "configure",
        "methods",
        "keys",
        *Meddling,
        "close",
        "strangers",
        "heal",
    ),
)


def line_to_step(line: str) -> Step:
    """The step that a line means. Raises ScenarioError."""
    words = " ".join(line.split())
    for pattern, build in _PATTERNS:
        match = pattern.fullmatch(words)
        if match is not None:
            return build(match.groupdict())
    verb = words.split(" ")[0]
    if verb in VERBS:
        raise ScenarioError(f'"{words}" is no complete step; the forms of "{verb}" stand in specs/simulation.md')
    raise ScenarioError(f'no step begins with "{verb}"; known: {", ".join(VERBS)}')
