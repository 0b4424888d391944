"""`plan` and `deploy`: compare, show, ask, apply, verify."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone

import click

from cueapi import CueAPI

from ..app import CueTasks
from ..deploy import render
from ..deploy.apply import Report, apply
from ..deploy.plan import Action, Change, Plan, plan
from ..errors import ConfigurationError, DeployError


def connect(app: CueTasks) -> CueAPI:
    """Return a client for the app's settings."""
    settings = app.settings
    if settings.api_key is None:
        raise ConfigurationError(
            "no_api_key",
            "no API key: set CUEAPI_API_KEY (and CUEAPI_BASE_URL for a server of your own), "
            "or try the app without an account: cueapi-tasks dev",
        )
    return CueAPI(settings.api_key, base_url=settings.base_url)


def make_plan(app: CueTasks, client: CueAPI) -> Plan:
    """Read the remote cues and return what a deploy would do now."""
    now = datetime.now(timezone.utc)
    return plan(app.specs(), client.cues.iter(), owner=app.owner, now=now)


def show_plan(app: CueTasks, *, as_json: bool, exit_code: bool) -> int:
    """Print the plan; 2 where it holds changes and the caller wants to know."""
    with connect(app) as client:
        made = make_plan(app, client)
        _print_plan(client, made, as_json=as_json)
    return 2 if exit_code and len(made.writes) + len(made.conflicts) else 0


def run_deploy(app: CueTasks, *, yes: bool, as_json: bool) -> int:
    """Plan, ask, apply and verify."""
    with connect(app) as client:
        made = make_plan(app, client)
        _print_plan(client, made, as_json=as_json)
        _refuse(app, made)
        if made.writes:
            _confirm(yes=yes)
            finish(app, client, made)
    return 0


def finish(app: CueTasks, client: CueAPI, made: Plan) -> None:
    """Apply a plan, then read the remote state again: anything left to do is an error."""
    report = apply(made, client, _say_done)
    _raise_failures(report)
    left = make_plan(app, client)
    if left.writes or left.conflicts:
        names = ", ".join(change.name for change in left.writes + left.conflicts)
        raise DeployError("not_verified", f"the remote state is not what is declared, in {names}; run the deploy again")


def _print_plan(client: CueAPI, made: Plan, *, as_json: bool) -> None:
    where = f"{made.owner.scope} on {client.base_url}, account {client.me().email}"
    click.echo(where, err=as_json)
    click.echo(render.to_text(made), err=as_json)
    if as_json:
        click.echo(json.dumps(render.to_json(made)))


def _refuse(app: CueTasks, made: Plan) -> None:
    if not app.tasks:
        raise DeployError(
            "nothing_declared",
            "the app declares no task; decorate one with @cue.schedule(...), or name the module that holds them",
        )
    if made.conflicts:
        names = ", ".join(change.name for change in made.conflicts)
        raise DeployError("conflict", f"cues that this app did not make have the names {names}; nothing was written")


def _confirm(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise DeployError("not_confirmed", "there is no terminal to ask on: add --yes; nothing was written")
    if not click.confirm("Apply?", err=True):
        raise DeployError("not_confirmed", "nothing was written")


def _say_done(change: Change) -> None:
    verb = {Action.CREATE: "created", Action.PAUSE: "paused", Action.RESUME: "resumed"}.get(change.action, "updated")
    click.echo(f"{verb} {change.name}", err=True)


def _raise_failures(report: Report) -> None:
    if report.failures:
        faults = "\n".join(f"  {each.change.name}: {each.error}" for each in report.failures)
        raise DeployError("incomplete", f"{report.done} changes were made, these were not:\n{faults}")
