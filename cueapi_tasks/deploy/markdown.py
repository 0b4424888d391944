"""A plan as a comment on a pull request; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from . import render
from .change import Action, Change, Plan
from .clock import local
from .guards import Guard
from .usage import Usage


def to_markdown(plan: Plan, *, usage: Usage | None = None, guards: Iterable[Guard] = (), redact: bool = False) -> str:
    """Return the plan in GitHub's Markdown; header values are masked, and payload values too if asked for."""
    redacted = ("payload",) if redact else ()
    lines = [f"### {_code(plan.owner.scope)}: {render.summary(plan)}", ""]
    for change in plan.changes:
        if change.action is not Action.KEEP:
            lines += [*_lines(change, redacted), ""]
    lines += [f"- :warning: {_text(each.message)} ({_code(each.code)})" for each in plan.warnings]
    lines += [f"- :no_entry: {_text(each.message + render.remedy(each))} ({_code(each.code)})" for each in guards]
    if usage is not None:
        lines.append(f"- {render.describe_usage(usage)}")
    return "\n".join(lines).rstrip()


def _lines(change: Change, redacted: Iterable[str]) -> Iterator[str]:
    yield f"#### {change.action.value} {_code(change.name)}"
    if change.note:
        yield f"\n{_text(change.note)}"
    if change.history:
        yield f"\nIts history goes with it: {change.history} executions."
    yield from _table(change, tuple(redacted))
    zone = render.zone_of(change)
    for what, runs in (("before", change.runs_before), ("after", change.runs_after)):
        if runs and change.runs_before != change.runs_after:
            yield f"- next runs {what}: {', '.join(local(run, zone) for run in runs)}"
    yield from (
        f"- {'' if each.code in render.NOTES else ':warning: '}{_text(each.message)}" for each in change.warnings
    )


def _table(change: Change, redacted: tuple[str, ...]) -> Iterator[str]:
    if not change.fields:
        return
    yield "\n| field | from | to |\n|---|---|---|"
    for name, (before, after) in change.fields.items():
        drift = " (edited elsewhere)" if name in change.drift else ""
        values = " | ".join(_value(render.shown(name, value, redacted)) for value in (before, after))
        yield f"| {_code(name)}{drift} | {values} |"
    yield ""


def _value(value: Any) -> str:
    return "" if value is None else _code(json.dumps(value))


def _code(text: str) -> str:
    """Return text as code that can break out of neither its quotes nor its cell."""
    plain = text.replace("|", "\\|").replace("\r", " ").replace("\n", " ")
    return f"`` {plain} ``" if "`" in plain else f"`{plain}`"


def _text(text: str) -> str:
    """Return text that names of cues cannot turn into markup."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`").replace("<", "&lt;").replace("@", "&#64;")
