"""Whether a run that is due should happen: clock changes, lateness, overlap and crashes, as values and pure rules."""

from __future__ import annotations

import functools
import zoneinfo
from dataclasses import dataclass
from datetime import datetime, timedelta

from croniter import croniter

from .schedules import Recurring, Schedule, next_run

RUN, DST, LATE = "run", "dst", "late"
"""What is decided: to run, or the policy that is against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a task's runs behave at the edges."""

    dst: str = "once"
    """`once`: a run in the repeated autumn hour is left out the second time, as in Vixie cron; `twice`: it runs."""
    late: str = "run"
    """`run`; `skip`: not more than `max_late` seconds late; `latest`: only the newest slot that is due."""
    max_late: float | None = None
    overlap: str = "allow"
    """`allow`, or `skip` while another execution of the task is running."""
    after_crash: str = "rerun"
    """`rerun`, or `fail` where the process died in the middle of a run."""
    timeout: float | None = None
    """Seconds that an async function may run."""

    @property
    def skips(self) -> bool:
        """Whether a run may be left out because of when it comes."""
        return self.late != "run" or self.overlap != "allow"


def decide(policy: Policy, schedule: Schedule | None, scheduled_for: datetime, now: datetime) -> str:
    """Return `run`, or the policy that leaves the run out; `schedule` is None where the code does not know it.

    `dst` and `latest` look only at a moment that is exactly a slot of the schedule: a fire by hand always runs.
    """
    if policy.late == "skip" and now - scheduled_for > timedelta(seconds=policy.max_late or 0.0):
        return LATE
    if not isinstance(schedule, Recurring):
        return RUN
    try:
        return _of_slot(policy, schedule, scheduled_for, now)
    except OverflowError:  # a moment at an end of the calendar is no slot
        return RUN


def _of_slot(policy: Policy, schedule: Recurring, scheduled_for: datetime, now: datetime) -> str:
    # whether it is a slot is asked last: that takes longer than all the rest of a request
    if policy.dst == "once" and is_second_copy(schedule, scheduled_for) and is_slot(schedule, scheduled_for):
        return DST
    if policy.late == "latest" and is_slot(schedule, scheduled_for):
        newer = next_run(schedule, scheduled_for)
        return LATE if newer is not None and newer <= now else RUN
    return RUN


def is_slot(schedule: Schedule, moment: datetime) -> bool:
    """Tell whether the schedule runs at exactly this moment."""
    return next_run(schedule, moment - timedelta(seconds=1)) == moment


def is_second_copy(schedule: Schedule, run: datetime) -> bool:
    """Tell whether a run repeats, after the clocks went back, one that already came by the same wall clock.

    A schedule whose hour field stands for every hour counts hours that pass, and runs through both copies.
    """
    if not isinstance(schedule, Recurring) or runs_every_hour(schedule.cron):
        return False
    return run.astimezone(zoneinfo.ZoneInfo(schedule.timezone)).fold == 1


@functools.lru_cache(maxsize=4096)
def runs_every_hour(cron: str) -> bool:
    """Tell whether the hour field of an expression stands for every hour."""
    fields, _ = croniter.expand(cron)
    return fields[1] == ["*"]
