"""The runs that happen equal what a scan of every minute finds, without croniter, both clock changes included."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from cueapi_tasks.server.records import Answered, Attempt
from cueapi_tasks.server.schemas import HostedCueIn
from cueapi_tasks.server.virtual import VirtualServer

from .support import ACCOUNT, Clock, engine_of

UTC = timezone.utc
MINUTE = timedelta(minutes=1)
DAYS = timedelta(days=3)
ZONES = {
    "America/New_York": [datetime(2027, 3, 13, 5, tzinfo=UTC), datetime(2027, 11, 6, 4, tzinfo=UTC)],
    "Europe/Berlin": [datetime(2027, 3, 27, tzinfo=UTC), datetime(2027, 10, 30, tzinfo=UTC)],
    "Asia/Kolkata": [datetime(2027, 5, 30, tzinfo=UTC)],
    "UTC": [datetime(2028, 2, 28, tzinfo=UTC)],
}
CRONS = [
    "0 9 * * *",
    "30 1 * * *",
    "30 2 * * *",
    "0 2,3 * * *",
    "15,45 1-3 * * *",
    "*/20 * * * *",
    "0 * * * *",
    "0 0 * * *",
    "0 12 * * 1-5",
    "0 6 1 * 0",
    "0 0 29 2 *",
]


def numbers(field: str, low: int, high: int) -> set[int]:
    """Return what one field of a cron expression stands for."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def matches(cron: str, wall: datetime) -> bool:
    minute, hour, day, month, weekday = cron.split()
    by_day = wall.day in numbers(day, 1, 31)
    by_weekday = wall.isoweekday() % 7 in {number % 7 for number in numbers(weekday, 0, 7)}
    either = day != "*" and weekday != "*"
    return (
        wall.minute in numbers(minute, 0, 59)
        and wall.hour in numbers(hour, 0, 23)
        and wall.month in numbers(month, 1, 12)
        and ((by_day or by_weekday) if either else (by_day and by_weekday))
    )


def scan(cron: str, zone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Walk every minute; a match that the spring gap swallows comes once, at the gap's end (contract, section 7)."""
    previous = start.astimezone(ZoneInfo(zone))
    for number in itertools.count(1):
        moment = start + number * MINUTE
        if moment > end:
            return
        wall = moment.astimezone(ZoneInfo(zone))
        jump = wall.replace(tzinfo=None) - previous.replace(tzinfo=None)
        skipped = [previous.replace(tzinfo=None) + k * MINUTE for k in range(1, int(jump / MINUTE))]
        if matches(cron, wall.replace(tzinfo=None)) or any(matches(cron, each) for each in skipped):
            yield moment
        previous = wall


@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize(("zone", "start"), [(zone, start) for zone, starts in ZONES.items() for start in starts])
def test_what_runs_is_what_a_scan_of_every_minute_finds(cron: str, zone: str, start: datetime) -> None:
    ran: list[datetime] = []

    def deliver(attempt: Attempt, now: datetime) -> Answered:
        assert attempt.scheduled_for == now
        ran.append(now)
        return Answered(status=200, error=None)

    clock = Clock(start)
    with engine_of() as engine:
        body = {
            "name": "n",
            "schedule": {"type": "recurring", "cron": cron, "timezone": zone},
            "callback": {"url": "http://r.test"},
        }
        engine.cues.create(ACCOUNT, HostedCueIn.model_validate(body), start)
        VirtualServer(engine, clock, deliver).run_until(start + DAYS)
    assert ran == [*scan(cron, zone, start, start + DAYS)]
