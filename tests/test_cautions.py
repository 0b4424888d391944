"""What a plan warns of, before it happens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from cueapi_tasks import CueTasks
from cueapi_tasks.declare.policy import Policy
from cueapi_tasks.declare.schedules import Recurring
from cueapi_tasks.declare.spec import Retry
from cueapi_tasks.deploy.cautions import clock_changes, of_retry, of_schedule, worst_case
from cueapi_tasks.deploy.clock import spell_duration
from cueapi_tasks.deploy.forecast import coming_runs

from .deploying import NAME, code, declare
from .support import ACCOUNT, NOON, World

Worlds = Callable[[CueTasks], World]
UTC = timezone.utc
NEW_YORK = "America/New_York"


def warned(cron: str, zone: str = "UTC", dst: str = "once", now: datetime = NOON) -> dict[str, str]:
    return {each.code: each.message for each in of_schedule(Recurring(cron=cron, timezone=zone), Policy(dst=dst), now)}


@pytest.mark.parametrize(
    ("cron", "codes"),
    [
        ("0 9 * * *", []),
        ("0 9 L * *", []),
        ("0 9 28 * *", []),
        ("0 9 28-31 * *", []),
        ("0 9 29 * *", ["last_days_only"]),
        ("0 9 29-31 * *", ["last_days_only"]),
        ("0 9 31 1,3 *", ["last_days_only"]),
        ("0 9 31 * 1", ["day_or_weekday"]),
        ("0 9 1 * MON", ["day_or_weekday"]),
        ("0 9 * * 1-5", []),
        ("0 9 * * * 30", ["seconds_last"]),
        ("*/5 * * * * *", ["seconds_last"]),
        ("0 9 1 * 1 30", ["seconds_last", "day_or_weekday"]),
        ("@monthly", []),
    ],
)
def test_the_fields_of_a_cron_that_surprise_people(cron: str, codes: Sequence[str]) -> None:
    assert [*warned(cron)] == [*codes]


def test_a_run_in_the_spring_gap_is_told_with_the_moment_at_which_it_comes() -> None:
    assert warned("30 2 * * *", NEW_YORK) == {
        "dst_gap": f"02:30 on Sun 2027-03-14 does not exist in {NEW_YORK}; the run comes once, "
        "at Sun 2027-03-14 03:00:00 EDT"
    }


@pytest.mark.parametrize(("dst", "what"), [("once", "comes the first time only"), ("twice", "comes both times")])
def test_a_run_in_the_repeated_hour_is_told_with_what_will_happen(dst: str, what: str) -> None:
    message = warned("30 1 * * *", NEW_YORK, dst)["dst_repeated_hour"]
    assert message.startswith(f"01:30 on Sun 2027-11-07 happens twice in {NEW_YORK}")
    assert what in message


@pytest.mark.parametrize(
    ("cron", "zone", "codes"),
    [
        ("30 1 * * *", "Europe/Berlin", set()),
        ("30 2 * * *", "Europe/Berlin", {"dst_gap", "dst_repeated_hour"}),
        ("0 3 * * *", "Europe/Berlin", set()),
        ("*/15 1,2 * * 0", "Europe/Berlin", {"dst_gap", "dst_repeated_hour"}),
        ("30 2 * * 1-5", "Europe/Berlin", set()),
        ("30 * * * *", "Europe/Berlin", set()),
        ("*/15 * * * *", "Europe/Berlin", set()),
        ("45 1 * * *", "Australia/Lord_Howe", {"dst_repeated_hour"}),
        ("15 1 * * *", "Australia/Lord_Howe", set()),
        ("15 2 * * *", "Australia/Lord_Howe", {"dst_gap"}),
        ("30 2 * * *", "UTC", set()),
        ("30 2 * * *", "Asia/Tokyo", set()),
    ],
)
def test_only_runs_that_meet_a_clock_change_are_warned_about(cron: str, zone: str, codes: set[str]) -> None:
    assert {*warned(cron, zone)} == codes


def test_what_is_said_of_the_clock_changes_is_what_the_forecast_shows() -> None:
    for dst, hours in (("once", [5]), ("twice", [5, 6])):
        schedule = Recurring(cron="30 1 * * *", timezone=NEW_YORK)
        runs = coming_runs(schedule, datetime(2027, 11, 7, tzinfo=UTC), Policy(dst=dst))
        that_day = itertools.takewhile(lambda run: run < datetime(2027, 11, 8, tzinfo=UTC), runs)
        assert [run.hour for run in that_day] == hours


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (NEW_YORK, [("2026-11-01T06:00", -60), ("2027-03-14T07:00", 60)]),
        ("Europe/Berlin", [("2026-10-25T01:00", -60), ("2027-03-28T01:00", 60)]),
        ("Australia/Lord_Howe", [("2026-10-03T15:30", 30), ("2027-04-03T15:00", -30)]),
        ("UTC", []),
        ("Asia/Kolkata", []),
    ],
)
def test_the_clock_changes_of_the_coming_year_to_the_second(zone: str, expected: list[tuple[str, int]]) -> None:
    found = clock_changes(zone, "2026-06-01")
    assert [(each.moment.isoformat()[:16], (each.after - each.before) // timedelta(minutes=1)) for each in found] == (
        expected
    )
    assert all(each.forward == (minutes > 0) for each, (_, minutes) in zip(found, expected, strict=True))


def test_the_wall_clock_times_of_a_gap_and_of_a_repeated_half_hour() -> None:
    forward, back = clock_changes("Australia/Lord_Howe", "2026-06-01")
    assert [f"{moment:%H:%M}" for moment in (*forward.span, *back.span)] == ["02:00", "02:30", "01:30", "02:00"]


@pytest.mark.parametrize(
    ("attempts", "backoff", "minutes"),
    [
        (1, (1, 5, 15), 0.5),
        (3, (1, 5, 15), 1 + 5 + 1.5),
        (5, (2,), 4 * 2 + 2.5),
        (10, (1, 5, 15), 1 + 5 + 7 * 15 + 5),
        (3, (), 1 + 1 + 1.5),
        (2, (0,), 1),
    ],
)
def test_the_worst_case_until_a_failing_run_gives_up(attempts: int, backoff: tuple[int, ...], minutes: float) -> None:
    retry = Retry(max_attempts=attempts, backoff_minutes=backoff)
    assert worst_case(retry) == 60 * minutes
    assert [each.code for each in of_retry(retry)] == ["gives_up_after"] * (attempts > 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.4, "0 s"), (45, "45 s"), (60, "1 min"), (450, "7 min 30 s"), (3600, "1 h"), (3605, "1 h 5 s"),
        (7500, "2 h 5 min"), (7501, "2 h 5 min"), (273_600, "3 d 4 h"), (86_399, "23 h 59 min"),
    ],
)  # fmt: skip
def test_a_duration_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert spell_duration(seconds) == text


@pytest.mark.parametrize(("seconds", "told"), [(-1, True), (0, False), (1, False)])
def test_a_clock_change_of_earlier_today_is_over(seconds: int, told: bool) -> None:
    now = datetime(2027, 3, 14, 7, 0, tzinfo=UTC) + timedelta(seconds=seconds)
    found = of_schedule(Recurring(cron="30 2 * * *", timezone=NEW_YORK), Policy(), now)
    assert any("2027-03-14" in each.message for each in found) == told


@pytest.mark.parametrize(
    ("before", "after", "codes"),
    [
        ("0 9 * * *", "0 8 * * *", ["run_brought_forward"]),
        ("0 9 * * *", "0 10 * * *", ["run_dropped"]),
        ("0 9 * * *", "0 9 * * 1-5", []),
    ],
)
def test_a_run_that_a_deploy_drops_or_brings_forward(
    worlds: Worlds, before: str, after: str, codes: Sequence[str]
) -> None:
    world = worlds(declare(CueTasks("billing"), cron=before))
    world.deploy()
    declare(code(world), cron=after)
    assert [each.code for each in world.plan().changes[0].warnings] == [*codes]


def test_what_does_not_change_is_not_warned_about(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), cron="30 2 29 * 1", timezone="Europe/Berlin"))
    assert {each.code for each in world.deploy().changes[0].warnings} >= {"day_or_weekday", "gives_up_after"}
    declare(code(world), cron="30 2 29 * 1", timezone="Europe/Berlin", description="x")
    assert world.plan().changes[0].warnings == ()
    declare(code(world), cron="30 2 29 * 1", timezone="Europe/Berlin", retry={"max_attempts": 2})
    assert [each.code for each in world.plan().changes[0].warnings] == ["gives_up_after"]


def test_a_cue_whose_schedule_cannot_be_read_has_no_runs_to_show(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    record = world.store.cue_named(ACCOUNT.id, NAME)
    assert record is not None
    with world.store.atomic():
        world.store.update_cue(replace(record, cron="of another kind"))
    (change,) = world.plan().changes
    assert (change.runs_before, len(change.runs_after)) == ((), 5)


def test_a_one_time_task_has_no_schedule_to_warn_of(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), at=(NOON + timedelta(days=1)).isoformat(), retry={"max_attempts": 1}))
    assert world.plan().changes[0].warnings == ()


def test_a_cron_that_names_years_has_no_runs_after_them(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), cron="0 9 24 12 * 0 2026-2027"))
    assert [run.year for run in world.deploy().changes[0].runs_after] == [2026, 2027]
