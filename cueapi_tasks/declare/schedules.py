"""When a task runs: schedules as values, checked when they are declared, and the runs that follow from them.

Cron is croniter's dialect in the schedule's IANA zone, because that is what the server runs (contract, section 7).
"""

from __future__ import annotations

import difflib
import itertools
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from croniter import CroniterBadDateError, CroniterError, croniter

from ..errors import DeclarationError

MAX_CRON = 100
"""Characters of an expression that the server stores (contract, section 4)."""
MAX_TIMEZONE = 50
"""Characters of a zone's name that the server stores."""

_ANY_DAY = datetime(2024, 1, 1, tzinfo=timezone.utc)
_RANDOM_FIELD = re.compile(r"(?:^|[\s,])[rR](?:$|[\s,/(])")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?")
_MINUTES_IN_DAY = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """Runs at every match of a cron expression, read in an IANA zone."""

    cron: str
    timezone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """Runs at one instant (UTC); the zone is for people."""

    at: datetime
    timezone: str


Schedule = Recurring | Once


def recurring(cron: str, zone: str) -> Recurring:
    """Return the schedule, or raise `DeclarationError` if the server could not run it."""
    expression = cron.strip()
    if len(expression) > MAX_CRON:
        raise DeclarationError("bad_cron", f"the cron expression is over {MAX_CRON} characters: {cron[:40]}...")
    if _RANDOM_FIELD.search(expression):
        raise DeclarationError(
            "random_cron",
            f"cron {cron!r}: a random field (R) cannot be forecast; write the minute that you mean",
        )
    schedule = Recurring(cron=expression, timezone=check_zone(zone))
    try:
        first = next_run(schedule, _ANY_DAY)
    except CroniterError as error:
        raise DeclarationError("bad_cron", _explain(expression, error)) from error
    if first is None:
        raise DeclarationError("bad_cron", f"cron {expression!r} never matches any date")
    return schedule


def every(interval: str | timedelta, zone: str) -> Recurring:
    """Return the cron schedule that runs at exactly this interval, or raise naming the nearest that can be had."""
    minutes = duration(interval) / 60
    if minutes in EXACT:
        return Recurring(cron=_cron_every(minutes), timezone=check_zone(zone))
    raise DeclarationError(
        "inexact_interval",
        f"every={interval!r} cannot be said exactly in cron: it must divide an hour or a day, in whole minutes. "
        f"The nearest are {' and '.join(_spell(near) for near in _neighbours(minutes))}; "
        "or write the times that you mean with cron=.",
    )


def once(at: str | datetime, zone: str) -> Once:
    """Return the one-time schedule; a naive `at` is read in the zone, and refused in a gap or a fold."""
    moment = _parse_moment(at) if isinstance(at, str) else at
    name = check_zone(zone)
    if moment.tzinfo is None:
        moment = _localise(moment, name)
    return Once(at=moment.astimezone(timezone.utc), timezone=name)


def duration(text: str | timedelta) -> float:
    """Return the seconds of `'15m'`, `'2h'`, `'1d12h'` or a timedelta, or raise if it is none."""
    if isinstance(text, timedelta):
        return text.total_seconds()
    match = _DURATION.fullmatch(text.replace(" ", "").lower())
    if match is None or not match.group():
        raise DeclarationError(
            "bad_interval",
            f"{text!r} is not a duration; write it as '15m', '2h', '1d' or a timedelta",
        )
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def check_zone(name: str) -> str:
    """Return the zone's name if it is an IANA zone, else raise with the names that come near."""
    if len(name) > MAX_TIMEZONE or not _is_zone(name):
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise DeclarationError(
            "unknown_timezone",
            f"timezone {name!r} is not an IANA zone such as 'Europe/Berlin' or 'UTC'{hint}",
        )
    return name


def next_run(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first run after a moment (UTC), or None if there is none.

    At the clock changes this is what the server does: a run in the spring gap comes once, at the gap's end; one in
    the repeated autumn hour comes in both copies.
    """
    if isinstance(schedule, Once):
        return schedule.at if schedule.at > after else None
    local = after.astimezone(zoneinfo.ZoneInfo(schedule.timezone))
    try:
        found: datetime = croniter(schedule.cron, local).get_next(datetime)
    except CroniterBadDateError:  # a seventh field may name years, and they pass
        return None
    return found.astimezone(timezone.utc)


def runs_after(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the runs after a moment (UTC), in order, without end for a recurring schedule."""
    run = next_run(schedule, after)
    while run is not None:
        yield run
        run = next_run(schedule, run)


def latest_run(schedule: Recurring, first: datetime, now: datetime) -> datetime:
    """Return the newest run from `first` (itself a run) up to `now`, looking only as far back as it must."""
    for window in (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366)):
        start = now - window
        if start <= first:
            break
        newest = _last_until(schedule, start, now)
        if newest is not None:
            return newest
    return _last_until(schedule, first, now) or first


def _last_until(schedule: Recurring, after: datetime, until: datetime) -> datetime | None:
    newest = None
    for run in itertools.takewhile(lambda run: run <= until, runs_after(schedule, after)):
        newest = run
    return newest


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        return False
    return True


def _explain(cron: str, error: CroniterError) -> str:
    fields = len(cron.split())
    if fields not in (5, 6, 7) and not cron.startswith("@"):
        return (
            f"cron {cron!r} has {fields} fields; write five: minute hour day-of-month month day-of-week, "
            "as in '0 9 * * 1-5'"
        )
    return f"cron {cron!r} is not valid: {error}"


EXACT: tuple[int, ...] = tuple(
    minutes
    for minutes in range(1, _MINUTES_IN_DAY + 1)
    if (minutes <= 60 and 60 % minutes == 0) or (minutes % 60 == 0 and _MINUTES_IN_DAY % minutes == 0)
)
"""Minutes between runs that one cron expression says exactly."""


def _cron_every(minutes: float) -> str:
    if minutes < 60:
        return "* * * * *" if minutes == 1 else f"*/{minutes:.0f} * * * *"
    if minutes == _MINUTES_IN_DAY:
        return "0 0 * * *"
    return "0 * * * *" if minutes == 60 else f"0 */{minutes / 60:.0f} * * *"


def _neighbours(minutes: float) -> list[int]:
    below = [exact for exact in EXACT if exact < minutes][-1:]
    above = [exact for exact in EXACT if exact > minutes][:1]
    return below + above


def _spell(minutes: int) -> str:
    if minutes == _MINUTES_IN_DAY:
        return "'1d'"
    return f"'{minutes}m'" if minutes < 60 else f"'{minutes // 60}h'"


def _parse_moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError as error:
        raise DeclarationError(
            "bad_moment", f"at={text!r} is not an ISO 8601 moment such as '2027-03-01T09:00'"
        ) from error


def _localise(naive: datetime, zone: str) -> datetime:
    """Read a wall-clock time in a zone; PEP 495's fold tells a gap (offsets shrink) from a repeated hour."""
    first = naive.replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=0)
    second = first.replace(fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    back = first.astimezone(timezone.utc).astimezone(first.tzinfo).replace(tzinfo=None)
    what = "happens twice" if back == naive else "does not exist"
    raise DeclarationError(
        "ambiguous_moment",
        f"at={naive.isoformat()!r} {what} in {zone}, where the clocks change then; "
        "add the UTC offset that you mean, as in '2027-03-01T09:00-05:00'",
    )
