"""specs/policies.md says what the policies do: every timeline is drawn anew, every table is asked of the functions."""

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import yaml

from sz_protocol.definition import Definition, Semantics
from sz_protocol.definition_wire import definition_from_wire
from sz_protocol.durations import format_duration, parse_duration
from sz_protocol.kernel.now import MINUTE_US
from sz_protocol.policy import (
    Passed,
    Verdict,
    backoff_us,
    decide_misfire,
    decide_overlap,
    may_restart,
    may_retry,
    spread_offset,
)
from sz_protocol.records import Outcome, Reason
from sz_protocol.settings import Settings
from tests.protocol.policy_timelines import BLOCK, GUIDE, Scene, draw

TEXT = GUIDE.read_text()
NOW_US = 1_000_000 * MINUTE_US


def table(name: str) -> list[list[str]]:
    """The rows of the table below `<!-- table NAME -->`, without backquotes."""
    _, found, rest = TEXT.partition(f"<!-- table {name} -->\n")
    assert found, f"{name} has no table"
    lines = rest.split("\n\n", 1)[0].strip().splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def with_policy(key: str, text: str) -> Definition:
    """A definition with a policy as it is written in the table."""
    trigger = {"type": "interval", "seconds": 1}
    return definition_from_wire(
        {"id": "x", "handler_id": "h", "method": "m", "trigger": trigger, key: yaml.safe_load(text)}
    )


@pytest.mark.parametrize("block", [pytest.param(match, id=match["spec"]) for match in BLOCK.finditer(TEXT)])
def test_each_timeline_is_what_a_node_does(block: re.Match[str]) -> None:
    assert block["drawn"] == draw(Scene(yaml.safe_load(block["spec"])))


def test_the_guide_has_timelines_and_no_other_drawings() -> None:
    assert len(BLOCK.findall(TEXT)) == TEXT.count("```text") == TEXT.count("<!-- timeline ") >= 15


def misfire(policy: str, ages: str) -> str:
    found = with_policy("misfire", policy).misfire
    instants = tuple(NOW_US - int(age) * MINUTE_US for age in ages.split(","))
    verdicts = decide_misfire(found, found.policy, Passed(instants), NOW_US)
    assert [verdict.fire_us for verdict in verdicts] == list(instants), "one verdict each"
    return ", ".join(map(_verdict, verdicts))


def _verdict(verdict: Verdict) -> str:
    if verdict.outcome is not None:
        return str(verdict.reason)
    wait_us = verdict.not_before_us - NOW_US
    return f"run after {format_duration(wait_us)}" if wait_us > 0 else "run"


def overlap(policy: str, active: str) -> tuple[str, str]:
    found = with_policy("overlap", policy).overlap
    return (str(decide_overlap(found, int(active), queued=False)), str(decide_overlap(found, int(active), queued=True)))


class Longest(Random):
    """Draws the longest wait there is."""

    def randint(self, a: int, b: int) -> int:
        return b


def ceiling(policy: str, failures: str) -> str:
    return format_duration(backoff_us(with_policy("retry", policy).retry, int(failures), Longest()))


def again(policy: str, failures: str, worth: str) -> str:
    return yes(may_retry(with_policy("retry", policy).retry, int(failures), worth == "yes"))


def restart(semantics: str, losses: str) -> str:
    return yes(may_restart(Semantics(semantics), int(losses), Settings().loss_limit))


def offset(uid: str, window: str) -> str:
    return format_duration(spread_offset(uid, parse_duration(yaml.safe_load(window))) // 1_000_000 * 1_000_000)


def yes(answer: bool) -> str:
    return "yes" if answer else "no"


TABLES: dict[str, tuple[int, Callable[..., Any]]] = {
    "decide_misfire": (2, misfire),
    "decide_overlap": (2, overlap),
    "backoff_us": (2, ceiling),
    "may_retry": (3, again),
    "may_restart": (2, restart),
    "spread_offset": (2, offset),
}


@pytest.mark.parametrize("name", TABLES)
def test_each_row_of_a_table_is_what_the_function_says(name: str) -> None:
    asked, function = TABLES[name]
    rows = table(name)
    assert len(rows) >= 4
    for row in rows:
        answer = function(*row[:asked])
        assert row[asked:] == (list(answer) if isinstance(answer, tuple) else [answer]), row


def test_a_back_off_lies_anywhere_between_nothing_and_its_ceiling() -> None:
    retry = with_policy("retry", "{attempts: 6, base: 10s, max: 1m}").retry
    drawn = [backoff_us(retry, 2, Random(seed)) for seed in range(200)]
    assert min(drawn) < 1_000_000
    assert max(drawn) > 19_000_000


def test_the_words_of_the_ledger_are_all_there_and_no_others() -> None:
    section = TEXT.partition("## The words of the ledger\n")[2]
    rows = [line.strip("|").split("|") for line in section.strip().splitlines()[2:]]
    assert [cell for row in rows for cell in re.findall(r"`(\w+)`", row[0])] == [str(each) for each in Outcome]
    reasons = [cell for row in rows for cell in re.findall(r"`(\w+)`", row[1])]
    assert set(reasons) == {str(each) for each in Reason}
