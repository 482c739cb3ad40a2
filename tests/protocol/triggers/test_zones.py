"""Zones: the table read from tzdata agrees with the standard library, and names are exact."""

from datetime import UTC, datetime, timedelta

import pytest

from sz_protocol.triggers import tzdata_version, zone_names
from sz_protocol.triggers.tzif import read_tzif
from sz_protocol.triggers.zones import zone, zone_problem

from .oracles import oracle_zone

DAY_S = 86_400


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_every_zone_has_the_offsets_of_the_standard_library_at_every_transition() -> None:
    checked = 0
    for key in zone_names():
        ours, theirs = zone(key), oracle_zone(key)
        for begin in ours.begins[1:]:
            for utc_s in (begin - 1, begin):
                moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=utc_s)
                offset = moment.astimezone(theirs).utcoffset()
                assert offset == timedelta(seconds=ours.offsets[ours.segment(utc_s)]), (key, moment)
                checked += 1
    assert checked > 50_000


@pytest.mark.parametrize("key", ["Europe/Berlin", "Africa/Casablanca", "America/St_Johns", "Pacific/Apia", "Asia/Gaza"])
def test_no_transition_is_left_out(key: str) -> None:
    ours, theirs = zone(key), oracle_zone(key)
    for hour in range(0, 160 * 366 * 24, 7):
        moment = datetime(1930, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        offset = moment.astimezone(theirs).utcoffset()
        assert offset == timedelta(seconds=ours.offsets[ours.segment(int(moment.timestamp()))]), moment


def test_a_wall_time_is_the_first_instant_that_shows_it() -> None:
    berlin = zone("Europe/Berlin")
    assert berlin.first_instant(seconds("2026-06-01T12:00:00")) == seconds("2026-06-01T10:00:00")
    assert berlin.first_instant(seconds("2026-10-25T02:30:00")) == seconds("2026-10-25T00:30:00"), "first pass"
    assert berlin.first_instant(seconds("2026-03-29T02:30:00")) == seconds("2026-03-29T01:00:00"), "end of the gap"


def test_a_day_can_have_two_stretches() -> None:
    # St John's turned its clock back at 00:01, so the old day was shown again after one minute of the new one.
    midnight = seconds("2010-11-06T00:00:00")
    spans = zone("America/St_Johns").utc_spans(midnight, midnight + DAY_S)
    assert spans == [
        (seconds("2010-11-06T02:30:00"), seconds("2010-11-07T02:30:00")),
        (seconds("2010-11-07T02:31:00"), seconds("2010-11-07T03:30:00")),
    ]


def test_a_day_of_twenty_three_and_a_half_hours_is_one_stretch_on_either_side_of_the_change() -> None:
    midnight = seconds("2026-10-04T00:00:00")
    assert zone("Australia/Lord_Howe").utc_spans(midnight, midnight + DAY_S) == [
        (seconds("2026-10-03T13:30:00"), seconds("2026-10-03T15:30:00")),
        (seconds("2026-10-03T15:30:00"), seconds("2026-10-04T13:00:00")),
    ]


def test_a_day_can_be_missing() -> None:
    midnight = seconds("2011-12-30T00:00:00")
    assert zone("Pacific/Apia").utc_spans(midnight, midnight + DAY_S) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("Kathmandu", "Asia/Kathmandu"),
        ("America/NewYork", "America/New_York"),
    ],
)
def test_a_wrong_zone_name_is_refused_with_the_nearest_one(name: str, hint: str) -> None:
    assert repr(hint) in zone_problem(name)
    with pytest.raises(ValueError, match="unknown time zone"):
        zone(name)


@pytest.mark.parametrize("name", ["", "../etc/passwd", "Factory", "localtime", "Europe", 5, None, True])
def test_what_is_no_zone_name_is_refused(name: object) -> None:
    assert zone_problem(name)


def test_the_version_of_the_data_is_shown() -> None:
    version = tzdata_version()
    assert len(version) == 5
    assert version[:4].isdigit()


def test_the_host_s_zone_files_play_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONTZPATH", "/nowhere")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    zone.cache_clear()
    assert zone("Europe/Berlin").first_instant(seconds("2026-06-01T12:00:00")) == seconds("2026-06-01T10:00:00")


def test_what_is_no_zone_file_is_refused() -> None:
    with pytest.raises(ValueError, match="TZif"):
        read_tzif(b"TZif1" + bytes(60))
