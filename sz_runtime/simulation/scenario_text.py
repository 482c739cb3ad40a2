"""Plans as text that a person reads and writes: a head that says who takes part, then one line a step.

    seed 7
    node a store a.db
    job tick {trigger: {type: interval, seconds: 5}} takes 100ms..2s fails 0.2
    start a
    advance 12s
    crash a before write restart after 1s
    clock a +1h
    heal

Indented lines beginning with `>` are the golden trace of the line above them; `#` begins a comment.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import yaml
from attrs import Factory, define, evolve, fields

from sz_protocol.attaching import AttachmentSettings
from sz_protocol.definition import Definition
from sz_protocol.definition_wire import DefinitionError, definition_from_wire, definition_to_wire
from sz_protocol.durations import format_duration, parse_duration
from sz_protocol.kernel.now import SECOND_US
from sz_protocol.settings import Settings
from sz_runtime.simulation.behaviour import Behaviour
from sz_runtime.simulation.plan import HANDLER, Job, NodePlan, Plan, WorkerPlan
from sz_runtime.simulation.step_lines import ScenarioError, line_to_step, step_to_line
from sz_runtime.simulation.steps import ANY_MACHINE, SetDisk, Step

GOLDEN = re.compile(r"\s+>")
FINISH = "finish"
"""The last line of a scenario: heal, settle, count."""
HEAD = (
    *(
        "seed",
        "calm",
        "verified",
        "origin",
        "settings",
        "attachment",
        "pool",
        "node",
        "worker",
        "job",
        "first",
        "settle",
    ),
    "patience",
)
_CHANCES = ("fails", "hangs", "stubborn", "unstorable", "poison", "fatal")
_WORDS = ("takes", *_CHANCES, "concurrency", "pool", "here")


# --- to text -------------------------------------------------------------------------------------------------


def plan_to_text(plan: Plan) -> str:
    """The scenario file that replays a plan."""
    return "\n".join([*head_lines(plan), "", *map(step_to_line, plan.steps)]) + "\n"


def head_lines(plan: Plan) -> list[str]:
    """Everything of a plan but its steps; what is as usual is left out."""
    usual = Plan(0, (), ())
    lines = [f"seed {plan.seed}"]
    if plan.calm:
        lines.append("calm")
    if plan.verified:
        lines.append("verified")
    if plan.origin_utc_us != usual.origin_utc_us:
        lines.append(f"origin {_iso(plan.origin_utc_us)}")
    if plan.settle_us != usual.settle_us:
        lines.append(f"settle {format_duration(plan.settle_us)}")
    if plan.patience_us != usual.patience_us:
        lines.append(f"patience {format_duration(plan.patience_us)}")
    lines += [f"settings {name}={value}" for name, value in _odd(plan.settings, Settings())]
    lines += [f"attachment {name}={value}" for name, value in _odd(plan.attachment, AttachmentSettings())]
    lines += [f"pool {name} {size}" for name, size in plan.pools]
    lines += [f"node {node.name} store {node.store}{' remote' if node.remote else ''}" for node in plan.nodes]
    lines += [_worker_line(worker) for worker in plan.workers]
    lines += [_job_line(job) for job in plan.jobs]
    if plan.first_jobs is not None:
        lines.append(f"first {' '.join(map(str, plan.first_jobs)) or 'nothing'}")
    return lines


def _odd(settings: Any, usual: Any) -> list[tuple[str, Any]]:
    """The settings that are not as usual."""
    pairs = [(field.name, getattr(settings, field.name)) for field in fields(type(settings))]
    return [(name, value) for name, value in pairs if value != getattr(usual, name)]


def _worker_line(worker: WorkerPlan) -> str:
    words = [f"worker {worker.name} slots {worker.slots}"]
    words += [f"id {worker.id}"] if worker.id else []
    words += [f"at {' '.join(worker.servers)}"] if worker.servers else []
    words += [f"tags {' '.join(f'{name}={value}' for name, value in worker.tags.items())}"] if worker.tags else []
    words += [f"has {' '.join(worker.has) or 'nothing'}"] if worker.has is not None else []
    words += ["volatile"] * worker.volatile
    words += [f"slow {worker.slow}"] * (worker.slow != 1)
    return " ".join(words + [f"key {worker.key}"] * bool(worker.key))


def _job_line(job: Job) -> str:
    wire = definition_to_wire(job.definition)
    name = wire.pop("id")
    if wire["handler_id"] == HANDLER and wire["method"] == name:
        del wire["handler_id"], wire["method"]
    text = yaml.safe_dump(wire, default_flow_style=True, sort_keys=False, width=100_000).strip()
    return f"job {name} {text} {_behaviour_words(job)}".strip()


def _behaviour_words(job: Job) -> str:
    b, usual = job.behaviour, Behaviour()
    words = []
    if (b.least_us, b.most_us) != (usual.least_us, usual.most_us):
        words.append(f"takes {format_duration(b.least_us)}..{format_duration(b.most_us)}")
    words += [f"{name} {getattr(b, name):g}" for name in _CHANCES if getattr(b, name)]
    if b.concurrency is not None:
        words.append(f"concurrency {b.concurrency}")
    if job.pool != "default":
        words.append(f"pool {job.pool}")
    if job.here:
        words.append("here yes")
    return " ".join(words)


def _iso(utc_us: int) -> str:
    return datetime.fromtimestamp(utc_us // SECOND_US, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- from text -----------------------------------------------------------------------------------------------


@define
class Draft:
    """A plan in the making."""

    seed: int = 0
    settings: Settings = Factory(Settings)
    pools: dict[str, int] = Factory(dict)
    nodes: list[NodePlan] = Factory(list)
    workers: list[WorkerPlan] = Factory(list)
    attachment: AttachmentSettings = Factory(AttachmentSettings)
    jobs: list[Job] = Factory(list)
    steps: list[Step] = Factory(list)
    rest: dict[str, Any] = Factory(dict)

    def plan(self) -> Plan:
        """The plan that was described."""
        plan = Plan(
            self.seed,
            tuple(self.jobs),
            tuple(self.steps),
            settings=self.settings,
            workers=tuple(self.workers),
            attachment=self.attachment,
            **self.rest,
        )
        if self.nodes:
            plan = evolve(plan, nodes=tuple(self.nodes))
        if self.pools:
            plan = evolve(plan, pools=tuple(self.pools.items()))
        _check(plan)
        return plan


def text_to_plan(text: str) -> Plan:
    """The plan that a scenario describes. Raises ScenarioError, which names the line."""
    draft = Draft()
    for number, line in enumerate(text.splitlines(), 1):
        meaning = strip_comment(line)
        if not meaning or GOLDEN.match(line):
            continue
        try:
            _read_line(draft, meaning)
        except (ScenarioError, ValueError, yaml.YAMLError) as error:
            raise ScenarioError(f"line {number}: {error}") from None
    return draft.plan()


def strip_comment(line: str) -> str:
    """What a line says: comments begin at its start, or after white space."""
    return re.sub(r"(^|\s)#.*$", "", line).strip()


def _read_line(draft: Draft, line: str) -> None:
    verb, _, rest = line.partition(" ")
    if verb == FINISH:
        return
    if verb not in HEAD:
        draft.steps.append(line_to_step(line))
        return
    match verb:
        case "seed":
            draft.seed = int(rest)
        case "calm":
            draft.rest["calm"] = True
        case "verified":
            draft.rest["verified"] = True
        case "origin":
            moment = datetime.strptime(rest, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            draft.rest["origin_utc_us"] = int(moment.timestamp()) * SECOND_US
        case "settle":
            draft.rest["settle_us"] = parse_duration(rest)
        case "patience":
            draft.rest["patience_us"] = parse_duration(rest)
        case "settings":
            draft.settings = _read_settings(draft.settings, rest)
        case "attachment":
            draft.attachment = _read_settings(draft.attachment, rest)
        case "pool":
            name, size = rest.split()
            draft.pools[name] = int(size)
        case "node":
            draft.nodes.append(_read_node(rest))
        case "worker":
            draft.workers.append(_read_worker(rest))
        case "job":
            draft.jobs.append(_read_job(rest))
        case "first":
            draft.rest["first_jobs"] = tuple(int(word) for word in rest.split() if word != "nothing")


S = TypeVar("S", Settings, AttachmentSettings)


def _read_settings(settings: S, rest: str) -> S:
    known = [field.name for field in fields(type(settings))]
    for word in rest.split():
        name, _, value = word.partition("=")
        if name not in known:
            raise ScenarioError(f"there is no setting {name!r}; there are {', '.join(known)}")
        changed: dict[str, Any] = {name: None if value == "None" else int(value)}
        settings = evolve(settings, **changed)
    return settings


def _read_node(rest: str) -> NodePlan:
    match = re.fullmatch(r"(\S+) store (\S+)( remote)?", rest)
    if match is None:
        raise ScenarioError('a node is written "node NAME store NAME" or "node NAME store NAME remote"')
    return NodePlan(match[1], match[2], match[3] is not None)


_WORKER = re.compile(
    r"(?P<name>[\w.\-]+)(?: slots (?P<slots>\d+))?(?: id (?P<id>[\w.\-]+))?(?: at (?P<at>[\w.\- ]+?))?"
    r"(?: tags (?P<tags>\w+=\w+(?: \w+=\w+)*))?(?: has (?P<has>[\w.\- ]+?))?(?P<volatile> volatile)?"
    r"(?: slow (?P<slow>\d+))?(?: key (?P<key>[\w.\-]+))?"
)


def _read_worker(rest: str) -> WorkerPlan:
    match = _WORKER.fullmatch(rest)
    if match is None:
        raise ScenarioError(
            'a worker is written "worker NAME slots N id ID at NODES tags A=B has SCHEDULES volatile slow N key ID"'
        )
    found = match.groupdict()
    has = None if found["has"] is None else tuple(word for word in found["has"].split() if word != "nothing")
    return WorkerPlan(
        found["name"],
        int(found["slots"] or 16),
        found["id"] or "",
        tuple((found["at"] or "").split()),
        dict(pair.split("=") for pair in (found["tags"] or "").split()),
        has,
        found["volatile"] is not None,
        int(found["slow"] or 1),
        found["key"] or "",
    )


def _read_job(rest: str) -> Job:
    name, _, rest = rest.partition(" ")
    start, end = rest.find("{"), rest.rfind("}")
    if start != 0 or end < 0:
        raise ScenarioError('a job is written "job ID {trigger: {...}, ...} takes 1s..2s fails 0.1"')
    wire = yaml.safe_load(rest[: end + 1])
    try:
        definition: Definition = definition_from_wire({"handler_id": HANDLER, "method": name, **wire, "id": name})
    except DefinitionError as error:
        raise ScenarioError(f"job {name}: {error}") from None
    return _read_behaviour(Job(definition), rest[end + 1 :].split())


def _read_behaviour(job: Job, words: list[str]) -> Job:
    behaviour = job.behaviour
    if len(words) % 2:
        raise ScenarioError(f"job {job.definition.id}: what follows the braces are pairs of a word and a value")
    for word, value in zip(words[::2], words[1::2], strict=True):
        if word == "takes":
            least, _, most = value.partition("..")
            behaviour = evolve(behaviour, least_us=parse_duration(least), most_us=parse_duration(most or least))
        elif word in _CHANCES:
            chance: dict[str, Any] = {word: float(value)}
            behaviour = evolve(behaviour, **chance)
        elif word == "concurrency":
            behaviour = evolve(behaviour, concurrency=int(value))
        elif word == "pool":
            job = evolve(job, pool=value)
        elif word == "here":
            job = evolve(job, here=value == "yes")
        else:
            raise ScenarioError(
                f"job {job.definition.id}: {word!r} is none of takes, {', '.join(_CHANCES)}, concurrency, pool, here"
            )
    return evolve(job, behaviour=behaviour)


def _check(plan: Plan) -> None:
    """Names that steps use have to exist."""
    nodes = [node.name for node in plan.nodes]
    workers = [worker.name for worker in plan.workers]
    stores = list(dict.fromkeys(node.store for node in plan.nodes))
    pools = dict(plan.pools)
    for job in plan.jobs:
        if job.pool not in pools:
            raise ScenarioError(f"job {job.definition.id}: there is no pool {job.pool!r}; there are {', '.join(pools)}")
    for worker in plan.workers:
        for name in worker.servers:
            _know("node", name, nodes, f"worker {worker.name}")
    for step in plan.steps:
        line = f'"{step_to_line(step)}"'
        if hasattr(step, "node"):
            _know("node", step.node, nodes + workers if isinstance(step, ANY_MACHINE) else nodes, line)
        if hasattr(step, "store"):
            _know("store", step.store, stores + workers if isinstance(step, SetDisk) else stores, line)


def _know(what: str, name: str, known: Sequence[str], where: str) -> None:
    if name not in known:
        raise ScenarioError(f"{where}: there is no {what} {name!r}; there are {', '.join(known)}")
