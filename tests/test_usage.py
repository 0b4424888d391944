"""How much a plan says that an account will use, against runs that are really counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from cueapi_tasks import CueTasks
from cueapi_tasks.declare.schedules import Once, Recurring, Schedule, runs_after
from cueapi_tasks.deploy.usage import Usage, cautions_of, runs_a_month, usage_of

from .deploying import code, declare, refresh
from .support import NOON, World

Worlds = Callable[[CueTasks], World]
UTC = timezone.utc
NEW_YORK = "America/New_York"


def usage(**values: Any) -> Usage:
    return Usage(**({"cues": 10, "cue_limit": 10, "runs": 300, "run_limit": 300} | values))


@pytest.mark.parametrize(
    ("used", "codes"),
    [
        (usage(), []),
        (usage(cues=11), ["cue_limit"]),
        (usage(runs=301), ["run_limit"]),
        (usage(cues=11, runs=301), ["cue_limit", "run_limit"]),
        (usage(cues=11, runs=301, cue_limit=None, run_limit=None), []),
    ],
)
def test_the_limits_of_an_account(used: Usage, codes: Sequence[str]) -> None:
    assert [each.code for each in cautions_of(used, ())] == [*codes]


@pytest.mark.parametrize(
    ("crons", "codes"),
    [
        (["0 9 * * *", "0 8 * * *", "@daily"], ["minute_zero"]),
        (["0 9 * * *", "0 8 * * *"], []),
        (["0 9 * * *", "0 8 * * *", "1 8 * * *"], []),
        (["0 9 * * *", "0 8 * * *", "*/5 * * * *"], []),
    ],
)
def test_everything_at_minute_zero(crons: Sequence[str], codes: Sequence[str]) -> None:
    app = CueTasks("billing")
    for number, cron in enumerate(crons):
        app.schedule(cron=cron, task=f"t{number}")(refresh)
    assert [each.code for each in cautions_of(usage(), app.specs())] == [*codes]


def counted(schedule: Schedule, now: datetime) -> int:
    """Return how many runs really come within 30 days."""
    end = now + timedelta(days=30)
    return sum(1 for _ in itertools.takewhile(lambda run: run <= end, runs_after(schedule, now)))


@pytest.mark.parametrize("now", [NOON, datetime(2027, 2, 1, tzinfo=UTC), datetime(2027, 1, 31, 23, 59, tzinfo=UTC)])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize(
    "cron",
    [
        "0 9 * * *", "*/15 * * * *", "0 * * * *", "0 0 1 * *", "0 0 L * *", "15 3 1,15 * 1", "@daily", "@hourly",
        "@weekly", "@monthly", "@yearly", "0 12 * 12 *", "0 0 29 2 *", "30 6 * * 1-5", "0 9 * * 1 30", "0 9 1 * * 0 2026",
        "0 9 * * * 0 2027-2028",
    ],
)  # fmt: skip
def test_runs_a_month_are_what_is_counted_where_the_clocks_do_not_change(cron: str, zone: str, now: datetime) -> None:
    schedule = Recurring(cron=cron, timezone=zone)
    assert runs_a_month(schedule, now) == counted(schedule, now)


@pytest.mark.parametrize("now", [NOON, datetime(2027, 3, 1, 15, 30, tzinfo=UTC), datetime(2027, 10, 20, tzinfo=UTC)])
@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    ("cron", "a_day"),
    [("*/20 9-17 * * 1-5", 27), ("30 6,18 * * *", 2), ("*/30 2 * * *", 2), ("*/30 * 1 * *", 48), ("0 9 * * 1 0,30", 2)],
)
def test_runs_a_month_are_never_off_by_more_than_the_runs_of_one_day(
    cron: str, a_day: int, zone: str, now: datetime
) -> None:
    schedule = Recurring(cron=cron, timezone=zone)
    assert abs(runs_a_month(schedule, now) - counted(schedule, now)) <= a_day


@pytest.mark.parametrize(
    ("cron", "a_minute"), [("* * * * * *", 60), ("* * * * *", 1), ("* * * * * */10", 6), ("* * * * * 5", 1)]
)
def test_runs_a_month_counts_seconds(cron: str, a_minute: int) -> None:
    assert runs_a_month(Recurring(cron=cron, timezone="UTC"), NOON) == 30 * 1440 * a_minute


@pytest.mark.parametrize(("days", "runs"), [(-1, 0), (0, 0), (1, 1), (30, 1), (31, 0)])
def test_a_one_time_run_counts_if_it_comes_within_the_month(days: int, runs: int) -> None:
    assert runs_a_month(Once(at=NOON + timedelta(days=days), timezone="UTC"), NOON) == runs


def test_the_account_after_a_deploy_counts_active_and_paused_cues_of_others_too(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.app.schedule(at=NOON + timedelta(days=1))(refresh)
    world.client.cues.create("of others", cron="0 1 * * *", callback="http://x.test")

    def used(**wishes: Any) -> tuple[int, int]:
        made = world.plan(**wishes)
        found = usage_of(made, world.client.cues.iter(), world.client.me(), world.clock.now)
        return found.cues, found.runs

    assert used() == (3, 31)
    world.deploy()
    assert used() == (3, 31)
    world.clock.advance(days=1)
    while world.run_due():
        pass
    assert used() == (2, 30)
    declare(code(world), paused=True).schedule(at=NOON + timedelta(days=9))(refresh)
    assert used() == (3, 1)  # the one that had ended counts again
    code(world)
    assert used() == (2, 0)
    assert used(prune=True) == (1, 0)
