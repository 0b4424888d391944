"""A plan as JSON and as text for people; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from ..declare.schedules import Recurring, Schedule
from .plan import VERSION, Action, Change, Plan

_MARKS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.PAUSE: "-",
    Action.RESUME: "+",
    Action.CONFLICT: "!",
}


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as one JSON document; what stays is counted, not listed."""
    return {
        "version": VERSION,
        "app": plan.owner.app,
        "environment": plan.owner.environment,
        "foreign": plan.foreign,
        "summary": {action.value: plan.count(action) for action in Action},
        "changes": [_change(change) for change in plan.changes if change.action is not Action.KEEP],
    }


def to_text(plan: Plan) -> str:
    """Return the plan for people, what stays in one line."""
    lines = [line for change in plan.changes for line in _lines(change)]
    return "\n".join([*lines, summary(plan)])


def summary(plan: Plan) -> str:
    """Return what a plan does in one line."""
    words = {action: f"to {action.value}" for action in Action} | {Action.CONFLICT: "in conflict"}
    counts = [f"{plan.count(action)} {words[action]}" for action in Action if plan.count(action)]
    return ", ".join(counts) or "nothing declared, nothing there"


def describe(schedule: Schedule) -> str:
    """Return a schedule for people."""
    if isinstance(schedule, Recurring):
        return f"{schedule.cron}  {schedule.timezone}"
    return f"once at {local(schedule.at, schedule.timezone)}"


def local(moment: datetime, zone: str) -> str:
    """Return a moment as a clock on the wall of that zone shows it, with its offset's name."""
    return moment.astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M:%S %Z")


def _change(change: Change) -> dict[str, Any]:
    return {
        "action": change.action.value,
        "name": change.name,
        "cue_id": change.cue.id if change.cue else None,
        "fields": {name: {"from": before, "to": after} for name, (before, after) in change.fields.items()},
        "next_runs": {"before": _spelled(change.runs_before), "after": _spelled(change.runs_after)},
        "warnings": [],
    }


def _spelled(runs: Sequence[datetime]) -> list[str]:
    return [run.isoformat().replace("+00:00", "Z") for run in runs]


def _lines(change: Change) -> Iterator[str]:
    if change.action is Action.KEEP:
        return
    yield f"{_MARKS.get(change.action, '~')} {change.action.value} {change.name}"
    if change.action is Action.CONFLICT:
        yield "    a cue of this name exists that this app did not make; rename the task, or that cue"
        return
    if change.action is not Action.CREATE:
        for name, (before, after) in change.fields.items():
            yield f"    {name}: {json.dumps(before)} -> {json.dumps(after)}"
    yield from _run_lines(change)


def _run_lines(change: Change) -> Iterator[str]:
    if change.spec is not None:
        yield f"    {describe(change.spec.schedule)}"
    if list(change.runs_before) == list(change.runs_after):
        return
    zone = change.spec.schedule.timezone if change.spec else "UTC"
    yield f"    next run: {_first(change.runs_before, zone)} -> {_first(change.runs_after, zone)}"


def _first(runs: Sequence[datetime], zone: str) -> str:
    return local(runs[0], zone) if runs else "none"
