"""Rows of the benchmark table, and the table."""

from collections.abc import Iterable

from attrs import frozen


@frozen
class Row:
    """One figure: what was measured, of whom, how much of what unit. `higher` tells which way is better."""

    target: str
    work: str
    who: str
    figure: float
    unit: str
    higher: bool = True


def ratio(ours: Row, other: Row) -> float:
    """How many times better ours is."""
    if ours.higher:
        return ours.figure / other.figure if other.figure else float("inf")
    return other.figure / ours.figure if ours.figure else float("inf")


def render(rows: Iterable[Row]) -> str:
    """The rows as Markdown, with the ratio of `schedulezero` to each other row of the same work."""
    listed = list(rows)
    lines = ["| target | work | who | figure | unit | schedulezero is |", "|---|---|---|---:|---|---:|"]
    for row in listed:
        ours = [r for r in listed if (r.target, r.work, r.unit) == (row.target, row.work, row.unit) and is_ours(r)]
        compared = "" if not ours or is_ours(row) else f"{ratio(ours[0], row):.2f}×"
        lines.append(f"| {row.target} | {row.work} | {row.who} | {number(row.figure)} | {row.unit} | {compared} |")
    return "\n".join(lines)


def is_ours(row: Row) -> bool:
    """Whether the row is one of ScheduleZero's."""
    return row.who.startswith("schedulezero")


def number(figure: float) -> str:
    """A figure with as many digits as mean something."""
    if figure >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.3g}"
