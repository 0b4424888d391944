"""What surprises people about schedules, told before it happens: each warning has a stable code; pure."""

from __future__ import annotations

import functools
import itertools
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from croniter import CroniterError, croniter

from ..declare.policy import Policy, runs_every_hour
from ..declare.schedules import Once, Recurring, Schedule
from ..declare.spec import Retry
from .change import Change, Warned
from .clock import local, spell_duration

YEAR = timedelta(days=366)
DAY = timedelta(days=1)
ATTEMPT_SECONDS = 30.0
"""The longest that a delivery waits for its answer (contract, section 8.3)."""
DEFAULT_BACKOFF_MINUTES = 1
"""What the server takes where the list is empty (contract, section 8.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockChange:
    """A moment (UTC) at which a zone's clocks are put forward or back."""

    moment: datetime
    before: timedelta
    """The offset from UTC before it."""
    after: timedelta

    @property
    def forward(self) -> bool:
        """Whether wall-clock times are missing, rather than repeated."""
        return self.after > self.before

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The wall-clock times (naive) that are missing or repeated, the end excluded."""
        first, last = sorted((self.before, self.after))
        naive = self.moment.replace(tzinfo=None)
        return naive + first, naive + last


def is_known(schedule: Recurring) -> bool:
    """Tell whether this version can work out the runs of a schedule."""
    try:
        zoneinfo.ZoneInfo(schedule.timezone)
        croniter(schedule.cron, datetime(2024, 1, 1, tzinfo=timezone.utc)).get_next(datetime)
    except (CroniterError, zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def of_next_run(change: Change) -> Iterator[Warned]:
    """Yield what becomes of the run that was to come next."""
    if not change.runs_before or not change.runs_after or change.spec is None:
        return
    old, new = change.runs_before[0], change.runs_after[0]
    zone = change.spec.schedule.timezone
    if new < old:
        message = f"the next run comes earlier: {local(new, zone)}, not {local(old, zone)}"
        yield Warned(code="run_brought_forward", message=message)
    if old < new:
        message = f"the run at {local(old, zone)} will not happen; the next is at {local(new, zone)}"
        yield Warned(code="run_dropped", message=message)


def of_schedule(schedule: Schedule, policy: Policy, now: datetime) -> Iterator[Warned]:
    """Yield what is unusual about a schedule."""
    if isinstance(schedule, Once):
        return
    yield from _of_fields(schedule.cron)
    if not runs_every_hour(schedule.cron):
        changes = clock_changes(schedule.timezone, now.astimezone(timezone.utc).date().isoformat())
        for change in (change for change in changes if change.moment > now):
            yield from _of_clock_change(schedule, policy, change)


def of_retry(retry: Retry) -> Iterator[Warned]:
    """Yield how long a failing run goes on at worst (contract, section 8.4)."""
    if retry.max_attempts == 1:
        return
    seconds = worst_case(retry)
    message = (
        f"a run that keeps failing gives up after at most {spell_duration(seconds)} ({retry.max_attempts} attempts)"
    )
    yield Warned(code="gives_up_after", message=message)


def worst_case(retry: Retry) -> float:
    """Return the seconds from a run's start until the last of its attempts has timed out."""
    minutes = retry.backoff_minutes or (DEFAULT_BACKOFF_MINUTES,)
    waits = [minutes[min(attempt, len(minutes) - 1)] for attempt in range(retry.max_attempts - 1)]
    return 60.0 * sum(waits) + ATTEMPT_SECONDS * retry.max_attempts


@functools.lru_cache(maxsize=256)
def clock_changes(zone: str, day: str) -> tuple[ClockChange, ...]:
    """Return the clock changes of a zone in the year from a day (ISO) on, to the second."""
    tz = zoneinfo.ZoneInfo(zone)
    start = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
    days = [start + number * DAY for number in range(YEAR // DAY + 1)]
    return tuple(
        _narrow(tz, one, other) for one, other in itertools.pairwise(days) if _offset(tz, one) != _offset(tz, other)
    )


def _narrow(tz: zoneinfo.ZoneInfo, low: datetime, high: datetime) -> ClockChange:
    before, after = _offset(tz, low), _offset(tz, high)
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (middle, high) if _offset(tz, middle) == before else (low, middle)
    return ClockChange(moment=high, before=before, after=after)


def _offset(tz: zoneinfo.ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(tz).utcoffset() or timedelta()


def _of_clock_change(schedule: Recurring, policy: Policy, change: ClockChange) -> Iterator[Warned]:
    start, end = change.span
    second = timedelta(seconds=1)
    wall: datetime = croniter(schedule.cron, start - second).get_next(datetime)  # naive: the wall clock alone
    if wall >= end:
        return
    times = f"{wall:%H:%M} on {wall:%a %Y-%m-%d}"
    if change.forward:
        then = local(change.moment, schedule.timezone)
        message = f"{times} does not exist in {schedule.timezone}; the run comes once, at {then}"
        yield Warned(code="dst_gap", message=message)
        return
    what = "the run comes the first time only" if policy.dst == "once" else "the run comes both times"
    yield Warned(code="dst_repeated_hour", message=f"{times} happens twice in {schedule.timezone}; {what}")


def _of_fields(cron: str) -> Iterator[Warned]:
    fields, _ = croniter.expand(cron)
    days, weekdays = fields[2], fields[4]
    if len(fields) >= 6:
        message = f"in {cron!r} the sixth field stands for seconds: the first is the minute"
        yield Warned(code="seconds_last", message=message)
    if days != ["*"] and weekdays != ["*"]:
        message = f"{cron!r} runs on the days of the month and on the days of the week, not only where both agree"
        yield Warned(code="day_or_weekday", message=message)
    if days != ["*"] and weekdays == ["*"] and all(isinstance(day, int) and day >= 29 for day in days):
        message = f"{cron!r} runs on days that not every month has; 'L' stands for the last one"
        yield Warned(code="last_days_only", message=message)
