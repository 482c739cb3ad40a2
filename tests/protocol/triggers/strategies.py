"""Hypothesis strategies for triggers, for the tests of this directory and for whoever needs a trigger."""

from datetime import date

from hypothesis import strategies as st

from sz_protocol.triggers import AllOf, AnyOf, Calendar, Cron, Date, EveryNth, Except, Interval, Trigger, TriggerError

YEAR_US = 365 * 86_400 * 1_000_000
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "America/St_Johns",
    "Asia/Tehran",
    "Africa/Cairo",
    "America/Scoresbysund",
    "Asia/Gaza",
    "Pacific/Kwajalein",
    "America/Havana",
    "Asia/Pyongyang",
    "Pacific/Chatham",
]

instants = st.integers(-20 * YEAR_US, 80 * YEAR_US)


@st.composite
def plain_fields(draw: st.DrawFn, low: int, high: int) -> str:
    """`*`, `*/n`, a number, a range, a range with a step, or a list of numbers."""
    number = st.integers(low, high)
    match draw(st.sampled_from(["star", "star", "step", "number", "range", "stepped", "list"])):
        case "star":
            return "*"
        case "step":
            return f"*/{draw(st.integers(1, high - low + 1))}"
        case "number":
            return str(draw(number))
        case "list":
            return ",".join(map(str, draw(st.lists(number, min_size=1, max_size=4))))
        case kind:
            begin, end = sorted([draw(number), draw(number)])
            step = f"/{draw(st.integers(1, high - low + 1))}" if kind == "stepped" else ""
            return f"{begin}-{end}{step}" if begin < end else str(begin)


def special_days() -> st.SearchStrategy[str]:
    """`L`, `LW`, `15W`."""
    return st.sampled_from(["L", "LW"]) | st.integers(1, 31).map(lambda day: f"{day}W")


def special_weekdays() -> st.SearchStrategy[str]:
    """`1#2`, `5L`."""
    nth = st.tuples(st.integers(0, 6), st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}")
    return nth | st.integers(0, 6).map(lambda day: f"{day}L")


@st.composite
def expressions(draw: st.DrawFn, *, special: bool = False, seconds: bool = False) -> str:
    """Five or six fields, most of which can fire."""
    days, weekdays = plain_fields(1, 31), plain_fields(0, 6)
    if special:
        days, weekdays = days | special_days(), weekdays | special_weekdays()
    fields = [plain_fields(0, 59), plain_fields(0, 23), days, plain_fields(1, 12), weekdays]
    if seconds and draw(st.booleans()):
        fields.insert(0, plain_fields(0, 59))
    return " ".join(draw(field) for field in fields)


def is_possible(expression: str) -> bool:
    """Whether the expression can ever fire."""
    try:
        Cron(expression)
    except TriggerError:
        return False
    return True


@st.composite
def bounds(draw: st.DrawFn) -> tuple[int | None, int | None]:
    """start_us and end_us, mostly absent."""
    start = draw(st.none() | st.none() | instants)
    end = draw(st.none() | st.none() | instants)
    if start is not None and end is not None and end < start:
        start, end = end, start
    return start, end


def crons() -> st.SearchStrategy[Trigger]:
    expression = expressions(special=True, seconds=True).filter(is_possible)
    rest = st.tuples(st.sampled_from(ZONES), st.sampled_from(["default", "literal"]), bounds())
    return st.builds(lambda text, other: Cron(text, other[0], other[1], "or", *other[2]), expression, rest)


def intervals() -> st.SearchStrategy[Trigger]:
    period = st.sampled_from([1_000_000, 7_000_000, 60_000_000, 3_600_000_000]) | st.integers(10**6, YEAR_US)
    return st.builds(lambda period_us, anchor, ends: Interval(period_us, anchor, *ends), period, instants, bounds())


def calendars() -> st.SearchStrategy[Trigger]:
    return st.builds(
        lambda every, unit, time_s, key, first, month_end, dst, ends: Calendar(
            every, unit, time_s, key, first, month_end, dst, *ends
        ),
        st.integers(1, 40),
        st.sampled_from(["years", "months", "weeks", "days"]),
        st.integers(0, 86_399) | st.sampled_from([0, 7_200, 9_000]),
        st.sampled_from(ZONES),
        st.dates(date(1960, 1, 1), date(2040, 12, 31)),
        st.sampled_from(["clamp", "skip"]),
        st.sampled_from(["default", "literal"]),
        bounds(),
    )


def dates() -> st.SearchStrategy[Trigger]:
    return st.builds(Date, instants, st.sampled_from(ZONES))


def blackouts_of(inner: st.SearchStrategy[Trigger]) -> st.SearchStrategy[Trigger]:
    days = st.lists(st.dates(date(2020, 1, 1), date(2021, 12, 31)), min_size=1, max_size=4)
    window = st.tuples(instants, st.integers(1, YEAR_US)).map(lambda pair: (pair[0], pair[0] + pair[1]))
    return st.builds(
        lambda trigger, dates, windows, key: Except(trigger, tuple(dates), tuple(windows), key),
        inner,
        days,
        st.lists(window, max_size=3),
        st.sampled_from(ZONES),
    )


def nths_of(inner: st.SearchStrategy[Trigger]) -> st.SearchStrategy[Trigger]:
    numbers = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))
    return st.builds(
        lambda trigger, pair, start: EveryNth(trigger, pair[0], pair[1], start), inner, numbers, st.none() | instants
    )


def leaves() -> st.SearchStrategy[Trigger]:
    """Triggers that contain no other."""
    return crons() | crons() | intervals() | calendars() | dates()


def countable_triggers() -> st.SearchStrategy[Trigger]:
    """Triggers whose fires can be numbered."""
    return leaves() | blackouts_of(leaves()) | nths_of(leaves())


def triggers() -> st.SearchStrategy[Trigger]:
    """Any trigger, combinations of combinations included; none that seldom coincides with itself."""
    inner = countable_triggers()
    several = st.lists(inner, min_size=1, max_size=3)
    return inner | nths_of(inner) | several.map(AnyOf) | st.builds(lambda one: AllOf((one, one)), inner)
