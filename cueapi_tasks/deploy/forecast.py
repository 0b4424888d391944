"""Which runs follow from a schedule, and what a person should know of them before they are changed; pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from ..declare.policy import Policy, is_second_copy
from ..declare.schedules import Recurring, Schedule, runs_after
from ..declare.spec import CueSpec
from . import cautions, normal
from .change import Action, Change, Warned

SHOWN = 5
"""Runs that a plan shows before and after."""


def coming_runs(schedule: Schedule, now: datetime, policy: Policy | None = None) -> Iterator[datetime]:
    """Yield the coming runs (UTC): what the server fires, less the second copies that the policy leaves out."""
    once = (policy or Policy()).dst == "once"
    return (run for run in runs_after(schedule, now) if not (once and is_second_copy(schedule, run)))


def with_forecast(change: Change, now: datetime) -> Change:
    """Add the coming runs before and after, and the warnings; what stays is not worked out."""
    if change.action in (Action.KEEP, Action.CONFLICT):
        return change
    forecast = replace(change, runs_before=_before(change, now), runs_after=_after(change, now))
    return replace(forecast, warnings=tuple(_warnings(forecast, now)))


def _before(change: Change, now: datetime) -> tuple[datetime, ...]:
    cue = change.cue
    if cue is None or cue.status != "active":
        return ()
    return _first(normal.schedule_of(cue), now, change.spec)


def _after(change: Change, now: datetime) -> tuple[datetime, ...]:
    cue, spec = change.cue, change.spec
    status = change.fields.get("status", (None, None))[1]
    if spec is None or status == "paused" or change.action is Action.DELETE:
        return ()
    fires = status == "active" or cue is None or cue.status == "active"
    return _first(spec.schedule, now, spec) if fires else ()


def _first(schedule: Schedule, now: datetime, spec: CueSpec | None) -> tuple[datetime, ...]:
    if isinstance(schedule, Recurring) and not cautions.is_known(schedule):
        return ()  # somebody else's cue may hold what this version cannot read
    return tuple(itertools.islice(coming_runs(schedule, now, spec.policy if spec else None), SHOWN))


def _warnings(change: Change, now: datetime) -> Iterator[Warned]:
    spec = change.spec
    if spec is None or change.action is Action.PAUSE:
        return
    touched = {normal.part_of(name) for name in change.fields}
    yield from cautions.of_next_run(change)
    if "schedule" in touched:
        yield from cautions.of_schedule(spec.schedule, spec.policy, now)
    if "retry" in touched:
        yield from cautions.of_retry(spec.retry)
