"""A plan as JSON and as text for people; pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ..declare.schedules import Recurring, Schedule
from . import normal
from .change import VERSION, Action, Change, Plan
from .clock import local, spell_moment
from .guards import Guard
from .usage import Usage

MASK = "***"
"""In place of a header's value, and of payload values on request."""
MARKS: Mapping[Action, str] = {
    Action.CREATE: "+",
    Action.RESUME: "+",
    Action.PAUSE: "-",
    Action.DELETE: "-",
    Action.REPLACE: "-/+",
    Action.CONFLICT: "!",
}
NOTES = ("gives_up_after",)
"""Warnings that only inform."""


def to_json(plan: Plan, *, usage: Usage | None = None, guards: Iterable[Guard] = ()) -> dict[str, Any]:
    """Return the plan as one JSON document; what stays is counted, not listed."""
    return {
        "version": VERSION,
        "app": plan.owner.app,
        "environment": plan.owner.environment,
        "revision": plan.revision,
        "foreign": plan.foreign,
        "summary": {action.value: plan.count(action) for action in Action},
        "changes": [_change(change) for change in plan.changes if change.action is not Action.KEEP],
        "warnings": [asdict(each) for each in plan.warnings],
        "guards": [asdict(each) for each in guards],
        "usage": None if usage is None else asdict(usage),
    }


def to_text(plan: Plan, *, usage: Usage | None = None, guards: Iterable[Guard] = ()) -> str:
    """Return the plan for people, what stays in one line."""
    lines = [line for change in plan.changes for line in _lines(change)]
    lines += [f"warning [{each.code}]: {each.message}" for each in plan.warnings]
    lines += [f"refused [{each.code}]: {each.message}{remedy(each)}" for each in guards]
    if usage is not None:
        lines.append(describe_usage(usage))
    return "\n".join([*lines, summary(plan)])


def summary(plan: Plan) -> str:
    """Return what a plan does in one line."""
    words = {action: f"to {action.value}" for action in Action} | {Action.CONFLICT: "in conflict"}
    counts = [f"{plan.count(action)} {words[action]}" for action in Action if plan.count(action)]
    whole = ", ".join(counts) or "nothing declared, nothing there"
    if plan.raised:
        whole += f"; revision {plan.revision} is noted in {plan.raised.name}"
    return f"{whole}; {plan.foreign} cues of others are left alone" if plan.foreign else whole


def remedy(guard: Guard) -> str:
    """Return what allows a guarded step, for people."""
    return f"; allow it with {guard.flag}" if guard.flag else ""


def describe(schedule: Schedule) -> str:
    """Return a schedule for people."""
    if isinstance(schedule, Recurring):
        return f"{schedule.cron}  {schedule.timezone}"
    return f"once at {local(schedule.at, schedule.timezone)}"


def describe_usage(usage: Usage) -> str:
    """Return what the account will use of its plan, for people."""
    cues, runs = (f" of {limit:,}" if limit is not None else "" for limit in (usage.cue_limit, usage.run_limit))
    return f"the account will have {usage.cues:,}{cues} cues; this app runs about {usage.runs:,}{runs} times a month"


def shown(name: str, value: Any, redacted: Collection[str] = ()) -> Any:
    """Return a field's value as it may be shown: header values masked, and those of redacted parts."""
    if name == normal.HEADERS and value is not None:
        return dict.fromkeys(sorted(value), MASK)
    secret = normal.part_of(name) in redacted and not name.startswith(normal.STAMP)
    return MASK if secret and value is not None else value


def zone_of(change: Change) -> str:
    """Return the zone in which a change's runs are shown."""
    return change.spec.schedule.timezone if change.spec else "UTC"


def _change(change: Change) -> dict[str, Any]:
    fields: dict[str, dict[str, Any]] = {
        name: {"from": shown(name, before), "to": shown(name, after)} for name, (before, after) in change.fields.items()
    }
    for name in change.drift:
        fields[name]["drift"] = True
    return {
        "action": change.action.value,
        "name": change.name,
        "cue_id": change.cue.id if change.cue else None,
        "note": change.note,
        "fields": fields,
        "next_runs": {
            "before": [spell_moment(run) for run in change.runs_before],
            "after": [spell_moment(run) for run in change.runs_after],
        },
        "history": change.history,
        "warnings": [asdict(each) for each in change.warnings],
    }


def _lines(change: Change) -> Iterator[str]:
    if change.action is Action.KEEP:
        return
    yield f"{MARKS.get(change.action, '~')} {change.action.value} {change.name}"
    if change.note:
        yield f"    {change.note}"
    if change.history:
        yield f"    its history goes with it: {change.history} executions"
    if change.action is Action.CREATE and change.spec:
        yield f"    {describe(change.spec.schedule)}"
    elif change.action is not Action.CONFLICT:
        yield from _field_lines(change)
    yield from _run_lines(change.runs_before, change.runs_after, zone_of(change))
    yield from (_caution(each.code, each.message) for each in change.warnings)


def _field_lines(change: Change) -> Iterator[str]:
    for name, (before, after) in change.fields.items():
        drift = "  (edited elsewhere since the last deploy)" if name in change.drift else ""
        yield f"    {name}: {json.dumps(shown(name, before))} -> {json.dumps(shown(name, after))}{drift}"


def _run_lines(before: Sequence[datetime], after: Sequence[datetime], zone: str) -> Iterator[str]:
    """Yield the next runs: those before and after side by side where they differ."""
    if before == after:
        return
    if not after:
        rows = [f"{local(before[0], zone)} -> none"]
    elif not before:
        rows = [local(run, zone) for run in after]
    else:
        pairs = itertools.zip_longest((local(run, zone) for run in before), (local(run, zone) for run in after))
        rows = [f"{one or 'none'} -> {other or 'none'}" for one, other in pairs]
    yield from (f"    {'next runs:' if not number else '':<10} {row}" for number, row in enumerate(rows))


def _caution(code: str, message: str) -> str:
    return f"    {message}" if code in NOTES else f"    warning [{code}]: {message}"
