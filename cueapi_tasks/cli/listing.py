"""`list` and `next`: what is declared beside what is there, and when it runs."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cueapi import Cue

from ..app import CueTasks
from ..declare.spec import CueSpec
from ..deploy import render
from ..deploy.change import Action, Change
from ..deploy.clock import local, spell_moment
from ..deploy.forecast import coming_runs
from .deploy import Wishes, connect, look

WIDE = 160
"""Columns of a table that is not shown on a terminal."""


def run_list(app: CueTasks, *, as_json: bool) -> None:
    """Print the declared tasks, and what else is this app's, beside the remote state."""
    with connect(app.settings) as client:
        rows = [_row(change) for change in look(app, client, Wishes()).plan.changes]
    if as_json:
        click.echo(json.dumps({"version": 1, "cues": rows}))
        return
    heading = ("cue", "schedule", "transport", "status", "next run", "deploy would")
    shown = ("name", "schedule", "transport", "status", "shown", "action")
    print_table(heading, [[str(row[key]) for key in shown] for row in rows])


def run_next(app: CueTasks, *, count: int, as_json: bool) -> None:
    """Print the coming runs of all declared schedules, the soonest first, in local time and in the schedule's zone."""
    now = datetime.now(timezone.utc)
    coming = list(itertools.islice(merged(app.specs(), now), count))
    if as_json:
        runs = [{"at": spell_moment(run), "name": spec.name} for run, spec in coming]
        click.echo(json.dumps({"version": 1, "runs": runs}))
        return
    rows = [[_here(run), local(run, spec.schedule.timezone), spec.name] for run, spec in coming]
    print_table(("local time", "in the schedule's zone", "cue"), rows)


def merged(specs: Sequence[CueSpec], now: datetime) -> Iterator[tuple[datetime, CueSpec]]:
    """Yield the coming runs of several specs in order; paused ones have none."""
    streams = [_runs(spec, now) for spec in specs if not spec.paused]
    return heapq.merge(*streams, key=lambda pair: (pair[0], pair[1].name))


def print_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that is not cut where it goes into a file."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for each in heading:
        table.add_column(each, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    console.width = console.width if console.is_terminal else WIDE
    console.print(table)


def _here(run: datetime) -> str:
    return f"{run.astimezone():%a %Y-%m-%d %H:%M:%S %Z}"


def _runs(spec: CueSpec, now: datetime) -> Iterator[tuple[datetime, CueSpec]]:
    return ((run, spec) for run in coming_runs(spec.schedule, now, spec.policy))


def _row(change: Change) -> Mapping[str, Any]:
    cue, spec = change.cue, change.spec
    run = cue.next_run if cue else None
    known = spec or cue
    zone = render.zone_of(change)
    return {
        "name": change.name,
        "declared": spec is not None,
        "schedule": render.describe(spec.schedule) if spec else "not declared",
        "transport": known.transport if known else None,
        "status": cue.status if cue else "not deployed",
        "next_run": spell_moment(run.astimezone(timezone.utc)) if run else None,
        "shown": local(run, zone) if run else "none",
        "action": _action(change, cue),
    }


def _action(change: Change, cue: Cue | None) -> str:
    if change.action is Action.KEEP and cue is None:
        return "keep: its moment has passed"
    return change.action.value
