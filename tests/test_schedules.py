"""Schedules: what can be declared, and the runs that follow."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cueapi_tasks import DeclarationError
from cueapi_tasks.declare import schedules
from cueapi_tasks.declare.schedules import Once, Recurring, runs_after

UTC = timezone.utc


@pytest.mark.parametrize(
    ("cron", "code", "says"),
    [
        ("61 * * * *", "bad_cron", "out of range"),
        ("* * * *", "bad_cron", "has 4 fields; write five"),
        ("", "bad_cron", "has 0 fields"),
        ("0 0 31 2 *", "bad_cron", "never matches"),
        ("@reboot", "bad_cron", "not valid"),
        ("R * * * *", "random_cron", "cannot be forecast"),
        ("r(0-10) * * * *", "random_cron", "cannot be forecast"),
        ("0 " * 60, "bad_cron", "over 100 characters"),
    ],
)
def test_a_cron_that_could_not_run_is_refused_with_its_reason(cron: str, code: str, says: str) -> None:
    with pytest.raises(DeclarationError, match=says) as caught:
        schedules.recurring(cron, "UTC")
    assert caught.value.code == code


@pytest.mark.parametrize("cron", ["0 9 * * MON-FRI", "@daily", "*/5 * * mar fri", "0 0 L * *", "* * * * * */10"])
def test_croniters_dialect_is_accepted(cron: str) -> None:
    assert schedules.recurring(f"  {cron} ", "Europe/Berlin") == Recurring(cron=cron, timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("america/new_york", "America/New_York"),
        ("+02:00", "IANA"),
        ("Europe", "IANA"),
    ],
)
def test_an_unknown_zone_is_refused_with_what_comes_near(zone: str, says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        schedules.recurring("0 9 * * *", zone)


@pytest.mark.parametrize(
    ("interval", "cron"),
    [
        ("1m", "* * * * *"),
        ("15m", "*/15 * * * *"),
        (timedelta(minutes=20), "*/20 * * * *"),
        ("1h", "0 * * * *"),
        ("60min", "0 * * * *"),
        ("6h", "0 */6 * * *"),
        ("1d", "0 0 * * *"),
        ("24h", "0 0 * * *"),
    ],
)
def test_an_interval_becomes_the_cron_that_says_it(interval: str | timedelta, cron: str) -> None:
    assert schedules.every(interval, "UTC").cron == cron


@pytest.mark.parametrize(
    ("interval", "near"),
    [
        ("7m", "'6m' and '10m'"),
        ("90m", "'1h' and '2h'"),
        ("5h", "'4h' and '6h'"),
        ("30s", "'1m'"),
        ("2d", "'1d'"),
        ("0m", "'1m'"),
    ],
)
def test_an_interval_that_cron_cannot_say_is_refused_naming_the_neighbours(interval: str, near: str) -> None:
    with pytest.raises(DeclarationError, match=f"nearest are {near}"):
        schedules.every(interval, "UTC")


@pytest.mark.parametrize("interval", ["", "soon", "15", "m15"])
def test_an_interval_that_is_no_duration_is_refused(interval: str) -> None:
    with pytest.raises(DeclarationError, match="not a duration"):
        schedules.every(interval, "UTC")


@pytest.mark.parametrize("minutes", schedules.EXACT)
def test_every_exact_interval_is_kept_to_in_utc(minutes: int) -> None:
    schedule = schedules.every(timedelta(minutes=minutes), "UTC")
    runs = list(itertools.islice(runs_after(schedule, datetime(2026, 3, 1, tzinfo=UTC)), 30))
    assert {later - earlier for earlier, later in itertools.pairwise(runs)} == {timedelta(minutes=minutes)}


def test_a_naive_moment_is_read_in_the_schedules_zone() -> None:
    assert schedules.once("2027-07-01T09:00", "Europe/Berlin").at == datetime(2027, 7, 1, 7, tzinfo=UTC)


def test_an_aware_moment_is_the_same_instant_in_utc() -> None:
    assert schedules.once("2027-07-01T09:00:00-04:00", "UTC") == Once(
        at=datetime(2027, 7, 1, 13, tzinfo=UTC), timezone="UTC"
    )
    assert schedules.once("2027-07-01T09:00:00Z", "UTC").at == datetime(2027, 7, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "says"),
    [("2027-03-14T02:30", "does not exist"), ("2027-11-07T01:30", "happens twice"), ("at noon", "ISO 8601")],
)
def test_a_moment_in_a_gap_or_a_fold_or_none_at_all_is_refused(moment: str, says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        schedules.once(moment, "America/New_York")


def test_a_daily_run_in_the_spring_gap_comes_once_at_its_end() -> None:
    schedule = schedules.recurring("30 2 * * *", "America/New_York")
    runs = list(itertools.islice(runs_after(schedule, datetime(2027, 3, 14, 0, tzinfo=UTC)), 2))
    assert runs == [datetime(2027, 3, 14, 7, tzinfo=UTC), datetime(2027, 3, 15, 6, 30, tzinfo=UTC)]


def test_a_daily_run_in_the_repeated_hour_comes_in_both_copies_as_the_server_fires_it() -> None:
    schedule = schedules.recurring("30 1 * * *", "America/New_York")
    runs = list(itertools.islice(runs_after(schedule, datetime(2027, 11, 7, 0, tzinfo=UTC)), 2))
    assert runs == [datetime(2027, 11, 7, 5, 30, tzinfo=UTC), datetime(2027, 11, 7, 6, 30, tzinfo=UTC)]


def test_a_one_time_schedule_has_one_run_and_then_none() -> None:
    schedule = schedules.once("2027-01-01T00:00Z", "UTC")
    assert list(runs_after(schedule, datetime(2026, 1, 1, tzinfo=UTC))) == [schedule.at]
    assert list(runs_after(schedule, schedule.at)) == []


def test_the_latest_run_of_a_rare_schedule_is_found_far_back() -> None:
    schedule = Recurring(cron="0 0 29 2 *", timezone="UTC")
    first = datetime(2024, 2, 29, tzinfo=UTC)
    assert schedules.latest_run(schedule, first, datetime(2027, 12, 1, tzinfo=UTC)) == first
    assert schedules.latest_run(schedule, first, first) == first


@given(
    first=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    later=st.timedeltas(timedelta(0), timedelta(days=3)),
    cron=st.sampled_from(["*/7 * * * *", "0 9 * * 1-5", "30 1 * * *", "0 0 1 * *", "15 2 29 2 *"]),
    zone=st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe"]),
)
def test_the_latest_run_is_the_one_that_a_plain_walk_finds(
    first: datetime, later: timedelta, cron: str, zone: str
) -> None:
    schedule = Recurring(cron=cron, timezone=zone)
    start = schedules.next_run(schedule, first.replace(tzinfo=UTC))
    assert start is not None
    now = start + later
    walked = [start, *itertools.takewhile(lambda run: run <= now, runs_after(schedule, start))]
    assert schedules.latest_run(schedule, start, now) == walked[-1]


@given(
    after=st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1)),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
)
def test_a_daily_run_has_its_wall_time_wherever_that_time_exists(
    after: datetime, hour: int, minute: int, zone: str
) -> None:
    run = schedules.next_run(Recurring(cron=f"{minute} {hour} * * *", timezone=zone), after.replace(tzinfo=UTC))
    assert run is not None
    local = run.astimezone(ZoneInfo(zone))
    in_gap = (local - timedelta(seconds=1)).utcoffset() != (run - timedelta(hours=1)).astimezone(
        ZoneInfo(zone)
    ).utcoffset()
    assert (local.hour, local.minute) == (hour, minute) or local.minute == 0 or in_gap
