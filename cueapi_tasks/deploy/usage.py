"""What an account's plan allows, beside what is declared; pure."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

from cueapi import Account, Cue

from ..declare.schedules import Once, Recurring, Schedule
from ..declare.spec import CueSpec
from .change import Action, Plan, Warned

MONTH = 30
"""Days."""
MANY = 3
"""Schedules from which on it matters that all of them start with the hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Cues and runs a month after a deploy; a limit of None is not known."""

    cues: int
    """The account's active and paused cues, those of others included."""
    cue_limit: int | None
    runs: int
    """This app's, in 30 days."""
    run_limit: int | None


def counted(cues: Iterable[Cue | None]) -> int:
    """Return how many cues count toward a plan's limit: the active and the paused ones (contract, section 6.1)."""
    return sum(cue is not None and cue.status in ("active", "paused") for cue in cues)


def usage_of(plan: Plan, cues: Iterable[Cue], account: Account, now: datetime) -> Usage:
    """Return what the account will use once the plan is carried out."""
    gone = counted(change.cue for change in plan.of(Action.DELETE))
    back = sum("status" in change.fields and not counted([change.cue]) for change in plan.changes if change.cue)
    specs = [change.spec for change in plan.changes if change.spec and not change.spec.paused]
    return Usage(
        cues=counted(cues) + plan.count(Action.CREATE) + back - gone,
        cue_limit=account.active_cue_limit,
        runs=sum(runs_a_month(spec.schedule, now) for spec in specs),
        run_limit=account.monthly_execution_limit,
    )


def cautions_of(usage: Usage, specs: Sequence[CueSpec]) -> Iterator[Warned]:
    """Yield what goes beyond the account's limits, and what all schedules do at once."""
    if usage.cue_limit is not None and usage.cues > usage.cue_limit:
        message = f"the account would have {usage.cues} cues and its plan allows {usage.cue_limit}"
        yield Warned(code="cue_limit", message=message)
    if usage.run_limit is not None and usage.runs > usage.run_limit:
        message = f"about {usage.runs} runs a month are declared and the account's plan allows {usage.run_limit}"
        yield Warned(code="run_limit", message=message)
    crons = [spec.schedule.cron for spec in specs if isinstance(spec.schedule, Recurring)]
    if len(crons) >= MANY and all(_fields(cron)[0] == [0] for cron in crons):
        message = f"all {len(crons)} schedules run at minute 0, with everybody else's; other minutes are quieter"
        yield Warned(code="minute_zero", message=message)


def runs_a_month(schedule: Schedule, now: datetime) -> int:
    """Return about how many runs come in the next 30 days: days that match, times the runs of each."""
    if isinstance(schedule, Once):
        return int(now < schedule.at <= now + timedelta(days=MONTH))
    fields = _fields(schedule.cron)
    seconds = _size(fields[5], 60) if len(fields) > 5 else 1
    a_day = _size(fields[0], 60) * _size(fields[1], 24) * seconds
    return a_day * _days(schedule, now)


def _days(schedule: Recurring, now: datetime) -> int:
    """Return on how many of the next days the schedule runs, found by running it at the first minute of each."""
    parts = schedule.cron.split()
    rest = " ".join(parts[2:5]) if not schedule.cron.startswith("@") else _alias(schedule.cron)
    if rest == "* * *" and len(parts) < 7:
        return MONTH
    minute, hour = (0 if field == ["*"] else field[0] for field in _fields(schedule.cron)[:2])
    years = f" 0 {parts[6]}" if len(parts) == 7 else ""
    today = now.astimezone(ZoneInfo(schedule.timezone)).replace(tzinfo=None)
    end = today + timedelta(days=MONTH)
    cron = croniter(f"{minute} {hour} {rest}{years}", today, max_years_between_matches=1)  # it ends where years do
    days: Iterator[datetime] = cron.all_next(datetime)
    return sum(1 for _ in itertools.takewhile(lambda day: day <= end, days))


def _alias(cron: str) -> str:
    names = {"@weekly": "* * 0", "@monthly": "1 * *", "@yearly": "1 1 *", "@annually": "1 1 *"}
    return names.get(cron.lower(), "* * *")


def _size(field: Sequence[int | str], whole: int) -> int:
    return whole if field == ["*"] else len(field)


@functools.lru_cache(maxsize=4096)
def _fields(cron: str) -> Sequence[Sequence[int | str]]:
    fields, _ = croniter.expand(cron)
    return fields
