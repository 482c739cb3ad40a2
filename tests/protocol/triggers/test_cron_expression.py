"""What an expression means, and what is refused when it is written, with the field named."""

import pytest

from sz_protocol.triggers import Cron, TriggerError, fires_between
from sz_protocol.triggers.cron_expression import MACROS, CronFields, parse_cron

from .oracles import iso, us

SUN, MON, TUE, WED, THU, FRI, SAT = range(7)


def fields(expression: str) -> CronFields:
    return parse_cron(expression)


def fires(expression: str, begin: str, end: str, **options: str) -> list[str]:
    return [iso(fire) for fire in fires_between(Cron(expression, **options), us(begin), us(end))]  # type: ignore[arg-type]


def days_of(expression: str, month: str, **options: str) -> list[int]:
    """The days of a month on which the expression fires."""
    year, number = int(month[:4]), int(month[5:])
    following = f"{year + number // 12}-{number % 12 + 1:02}"
    return [int(fire[8:10]) for fire in fires(expression, f"{month}-01", f"{following}-01", **options)]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("5", [5]),
        ("05", [5]),
        ("1,3,2,3", [1, 2, 3]),
        ("10-13", [10, 11, 12, 13]),
        ("10-20/4", [10, 14, 18]),
        ("*/20", [0, 20, 40]),
        ("50/3", [50, 53, 56, 59]),
        ("58-1", [0, 1, 58, 59]),
        ("50-10/10", [0, 10, 50]),
        ("*/60", [0]),
        ("0-4,*/30", [0, 1, 2, 3, 4, 30]),
    ],
)
def test_numbers_ranges_steps_and_lists(text: str, minutes: list[int]) -> None:
    assert list(fields(f"{text} * * * *").minutes) == minutes


@pytest.mark.parametrize(
    ("text", "weekdays"),
    [
        ("0", [SUN]),
        ("7", [SUN]),
        ("mon-FRI", [MON, TUE, WED, THU, FRI]),
        ("FRI-MON", [SUN, MON, FRI, SAT]),
        ("5-7", [SUN, FRI, SAT]),
        ("SAT-SUN", [SUN, SAT]),
        ("7-2", [SUN, MON, TUE]),
        ("0-7", [SUN, MON, TUE, WED, THU, FRI, SAT]),
        ("*/2", [SUN, TUE, THU, SAT]),
        ("SUN,Wed", [SUN, WED]),
    ],
)
def test_weekdays(text: str, weekdays: list[int]) -> None:
    assert list(fields(f"0 0 * * {text}").weekdays) == weekdays


def test_peers_weekday_1_to_5_is_monday_to_friday() -> None:
    # APScheduler 3 reads it as Tuesday to Saturday; 2026-06-01 is a Monday.
    assert days_of("0 9 * * 1-5", "2026-06")[:6] == [1, 2, 3, 4, 5, 8]


def test_months_by_name_and_round_the_year() -> None:
    assert list(fields("0 0 1 nov-FEB *").months) == [1, 2, 11, 12]
    assert list(fields("0 0 1 JAN,jul *").months) == [1, 7]


def test_hours_wrap_round_midnight() -> None:
    assert list(fields("0 22-2 * * *").hours) == [0, 1, 2, 22, 23]


def test_seconds_stand_first() -> None:
    assert fires("*/20 30 2 * * *", "2026-06-01T02:00", "2026-06-01T03:00") == [
        "2026-06-01T02:30:00",
        "2026-06-01T02:30:20",
        "2026-06-01T02:30:40",
    ]


@pytest.mark.parametrize("macro", list(MACROS))
def test_macros_mean_their_expressions(macro: str) -> None:
    assert fields(macro) == fields(MACROS[macro]) == fields(f" {macro.upper()} ")


@pytest.mark.parametrize(
    ("expression", "month", "days"),
    [
        ("0 0 L * *", "2024-02", [29]),
        ("0 0 L * *", "2026-02", [28]),
        ("0 0 L-2 * *", "2026-04", [28]),
        ("0 0 1,L * *", "2026-04", [1, 30]),
        ("0 0 LW * *", "2026-05", [29]),  # the 31st is a Sunday
        ("0 0 LW * *", "2026-02", [27]),  # the 28th is a Saturday
        ("0 0 15W * *", "2026-08", [14]),  # a Saturday goes back
        ("0 0 W15 * *", "2026-11", [16]),  # a Sunday goes on
        ("0 0 1W * *", "2026-08", [3]),  # not out of the month backwards
        ("0 0 31W * *", "2026-05", [29]),  # nor forwards
        ("0 0 31W * *", "2026-04", []),  # a month without a 31st
        ("0 0 * * MON#2", "2026-06", [8]),
        ("0 0 * * 7#1", "2026-06", [7]),
        ("0 0 * * 5#5", "2026-06", []),
        ("0 0 * * 5#5", "2026-05", [29]),
        ("0 0 * * 5L", "2026-06", [26]),
        ("0 0 * * L5", "2026-06", [26]),
        ("0 0 * * friL", "2026-06", [26]),
        ("0 0 * * MON#1,5L", "2026-06", [1, 26]),
        ("0 0 * * MON#1,WED", "2026-06", [1, 3, 10, 17, 24]),
        ("0 0 ? * 1#1", "2026-06", [1]),
    ],
)
def test_last_nearest_and_nth(expression: str, month: str, days: list[int]) -> None:
    assert days_of(expression, month) == days


def test_day_of_month_or_weekday_where_both_restrict() -> None:
    assert days_of("0 0 13 * FRI", "2026-06") == [5, 12, 13, 19, 26]
    assert days_of("0 0 13 * FRI", "2026-02") == [6, 13, 20, 27]
    assert days_of("0 0 */10 * MON", "2026-06") == [1, 8, 11, 15, 21, 22, 29], "*/10 restricts: only * and ? do not"
    assert days_of("0 0 L * MON#1", "2026-06") == [1, 30]


def test_day_of_month_and_weekday_by_choice() -> None:
    assert days_of("0 0 13 * FRI", "2026-02", day_rule="and") == [13]
    assert days_of("0 0 13 * FRI", "2026-06", day_rule="and") == []
    assert days_of("0 0 15W * MON", "2026-11", day_rule="and") == [16]


def test_one_open_day_field_leaves_the_other_alone() -> None:
    assert days_of("0 0 * * MON", "2026-06") == [1, 8, 15, 22, 29]
    assert days_of("0 0 13 * *", "2026-06") == [13]
    assert days_of("0 0 13 * ?", "2026-06") == [13]


REFUSED = [
    ("*/61 * * * *", "minute: '*/61': the step must be a whole number from 1 to 60"),
    ("* */25 * * *", "hour: '*/25': the step must be a whole number from 1 to 24"),
    ("*/0 * * * *", "minute: '*/0': the step must be"),
    ("*/-5 * * * *", "minute: '*/-5': the step must be"),
    ("60 * * * *", "minute: '60' is not 0 to 59"),
    ("* 24 * * *", "hour: '24' is not 0 to 23"),
    ("* * 0 * *", "day of month: '0' is not 1 to 31"),
    ("* * 32 * *", "day of month: '32' is not 1 to 31"),
    ("* * * 13 *", "month: '13' is not 1 to 12 or JAN to DEC"),
    ("* * * 0 *", "month: '0' is not"),
    ("* * * * 8", "weekday: '8' is not 0 to 7 or SUN to SAT"),
    ("* * * * MOY", "weekday: 'MOY' is not 0 to 7 or SUN to SAT; did you mean 'MON'?"),
    ("* * * JUNE *", "month: 'JUNE' is not 1 to 12 or JAN to DEC; did you mean 'JUN'?"),
    ("60 * * * * *", "second: '60' is not 0 to 59"),
    ("1,,2 * * * *", "minute: '1,,2' has an empty place in its list"),
    (", * * * *", "minute: ',' has an empty place"),
    ("1- * * * *", "minute: '1-' is not 0 to 59"),
    ("-5 * * * *", "minute: '-5' is not 0 to 59"),
    ("1-2-3 * * * *", "minute: '1-2-3' is not"),
    ("*/2/3 * * * *", "minute: '*/2/3' is not"),
    ("** * * * *", "minute: '**' is not"),
    ("1.5 * * * *", "minute: '1.5' is not"),
    ("? * * * *", "minute: '?': ? stands alone, and only for day of month or weekday; write *"),
    ("* * 28-3 * *", "day of month: '28-3' runs backwards, and months differ in length; write 28-31,1-3"),
    ("H * * * *", "minute: 'H': hashed and random fields are not supported; use the schedule's `spread`"),
    ("H(0-29)/10 * * * *", "minute: 'H(0-29)/10': hashed and random"),
    ("* R * * *", "hour: 'R': hashed and random"),
    ("0 0 L-31 * *", "day of month: 'L-31': L-n counts from 1 to 30"),
    ("0 0 W * *", "day of month: 'W': W takes one day, as in 15W"),
    ("0 0 1-5W * *", "day of month: '1-5W': W takes one day"),
    ("0 0 32W * *", "day of month: '32W': '32' is not 1 to 31"),
    ("0 0 * * L", "weekday: 'L' needs a weekday, as in 5L"),
    ("0 0 * * 5LL", "weekday: '5LL': L is written once"),
    ("0 0 * * 1#6", "weekday: '1#6': # is followed by 1 to 5"),
    ("0 0 * * 1#", "weekday: '1#': # is followed by 1 to 5"),
    ("0 0 30 2 *", "day of month: day 30 never comes in month 2, which has at most 29 days"),
    ("0 0 31 4 *", "day of month: day 31 never comes in month 4, which has at most 30 days"),
    ("0 0 31 2,4,6,9,11 *", "day of month: day 31 never comes in month 2, 4, 6, 9, 11"),
    ("0 0 30W 2 *", "day of month: day 30 never comes in month 2"),
    ("0 0 L-29 2 *", "day of month: day 30 never comes in month 2"),
    ("* * * *", "has 4 fields; write 5 fields (minute hour day-of-month month weekday), or 6 with seconds first"),
    ("*", "has 1 field; write"),
    ("", "has 0 fields; write"),
    ("0 0 0 1 1 * 2030", "has 7 fields; years are not supported"),
    ("@reboot", "@reboot is no time"),
    ("@every 5m", "@every is no cron expression: use a trigger of type interval"),
    ("@dialy", "unknown macro '@dialy'; did you mean '@daily'?"),
    ("@", "unknown macro '@'; known are @yearly"),
    ("٣ * * * *", "only plain ASCII"),
    ("* * * *\u00a0*", "only plain ASCII"),
    ("0," * 300 + "0 * * * *", "characters long; at most 512 are read"),
]


@pytest.mark.parametrize(("expression", "message"), REFUSED)
def test_what_is_wrong_is_refused_when_it_is_written_with_the_field_named(expression: str, message: str) -> None:
    with pytest.raises(TriggerError) as refused:
        Cron(expression)
    assert [path for path, _ in refused.value.problems] == [("expression",)]
    assert message in refused.value.problems[0][1]


def test_day_30_of_february_is_refused_under_and_as_well() -> None:
    with pytest.raises(TriggerError, match="never comes in month 2"):
        Cron("0 0 30 2 MON", day_rule="and")
    assert days_of("0 0 30 2 MON", "2026-02") == [2, 9, 16, 23], "with or, the Mondays stay"


def test_the_29th_of_february_waits_for_leap_years_beyond_2100() -> None:
    assert fires("0 0 29 2 *", "2092-01-01", "2108-01-01") == [
        "2092-02-29T00:00:00",
        "2096-02-29T00:00:00",
        "2104-02-29T00:00:00",
    ]


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(TriggerError) as refused:
        Cron("60 24 0 13 8", "Europe/Berln", "litteral")  # type: ignore[arg-type]
    paths = [path for path, _ in refused.value.problems]
    assert paths.count(("expression",)) == 5
    assert ("timezone",) in paths
    assert ("dst",) in paths


@pytest.mark.parametrize("value", [5, None, True, ["* * * * *"]])
def test_an_expression_is_text(value: object) -> None:
    with pytest.raises(TriggerError, match="must be text"):
        Cron(value)  # type: ignore[arg-type]
