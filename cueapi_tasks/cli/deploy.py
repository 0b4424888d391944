"""`plan`, `deploy` and `destroy`: compare, show, ask, apply, verify."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import click

from cueapi import Account, Cue, CueAPI

from .. import config
from ..app import CueTasks
from ..declare.spec import CueSpec, Owner
from ..deploy import render, saved
from ..deploy.apply import Report, apply
from ..deploy.change import Action, Change, Plan
from ..deploy.guards import Guard, guards, unreachable
from ..deploy.markdown import to_markdown
from ..deploy.pace import Pace
from ..deploy.plan import Intent, plan
from ..deploy.usage import Usage, cautions_of, counted, usage_of
from ..errors import ConfigurationError, DeployError
from .loader import Project
from .progress import Progress

MOST_FAULTS = 20
"""Failures that are listed one by one."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line asks of a plan."""

    prune: bool = False
    adopt: bool = False
    revision: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sight:
    """A plan, and what it was made from."""

    plan: Plan
    cues: Sequence[Cue]
    account: Account
    server: str
    usage: Usage | None
    """None where nothing changes."""

    @property
    def target(self) -> saved.Target:
        """Where the plan is for."""
        return saved.Target(server=self.server, account=self.account.email)


def connect(settings: config.Settings) -> CueAPI:
    """Return a client for the app's settings."""
    if settings.api_key is None:
        raise ConfigurationError(
            "no_api_key",
            "no API key: set CUEAPI_API_KEY (and CUEAPI_BASE_URL for a server of your own), "
            "or try the app without an account: cueapi-tasks dev",
        )
    if not settings.base_url.startswith(("http://", "https://")):
        raise ConfigurationError(
            "bad_base_url", f"CUEAPI_BASE_URL {settings.base_url!r} must begin with http:// or https://"
        )
    return CueAPI(settings.api_key, base_url=settings.base_url)


def check_project(app: CueTasks, project: Project) -> None:
    """Raise where the project asks for an environment and none is named."""
    if project.require_environment and app.owner.environment is None:
        raise ConfigurationError(
            "environment_required",
            "pyproject.toml requires an environment: set CUEAPI_ENVIRONMENT, as in CUEAPI_ENVIRONMENT=staging",
        )


def look(app: CueTasks, client: CueAPI, wishes: Wishes) -> Sight:
    """Read the remote cues and return what a deploy would do now."""
    specs = app.specs()
    private = unreachable(specs, client.base_url)
    if private is not None:
        raise DeployError(
            "private_callback",
            f"the hosted service cannot call {private}: set CUEAPI_CALLBACK_URL to a public URL, or declare "
            'transport="worker"',
        )
    intent = Intent(
        now=_now(), former=app.former_owner, revision=wishes.revision, prune=wishes.prune, adopt=wishes.adopt
    )
    return see(client, app.owner, specs, intent)


def see(client: CueAPI, owner: Owner, specs: Sequence[CueSpec], intent: Intent) -> Sight:
    """Read the remote cues and return the plan for these specs."""
    cues = list(client.cues.iter())
    made = plan(specs, cues, owner=owner, intent=intent)
    made = replace(made, changes=tuple(_with_history(change, client) for change in made.changes))
    account = client.me()
    usage = usage_of(made, cues, account, intent.now) if made.changed else None
    if usage is not None:
        made = replace(made, warnings=(*made.warnings, *cautions_of(usage, specs)))
    return Sight(plan=made, cues=cues, account=account, server=client.base_url, usage=usage)


def run_plan(
    app: CueTasks,
    wishes: Wishes,
    project: Project,
    *,
    form: str,
    redact: bool = False,
    out: Path | None = None,
) -> bool:
    """Print the plan as `text`, `json` or `markdown`, save it if asked to, and tell whether it holds changes."""
    check_project(app, project)
    with connect(app.settings) as client:
        seen = look(app, client, wishes)
    blocks = list(guards(seen.plan, refuse_older=project.refuse_older))
    if form == "markdown":
        click.echo(to_markdown(seen.plan, usage=seen.usage, guards=blocks, redact=redact))
    else:
        _print_plan(seen, blocks, as_json=form == "json")
    if out is not None:
        saved.save(out, seen.plan, seen.target, seen.cues)
        click.echo(f"saved to {out}; carry it out with: cueapi-tasks deploy --plan {out}", err=True)
    return bool(seen.plan.changed or seen.plan.conflicts)


def run_deploy(
    app: CueTasks,
    wishes: Wishes,
    project: Project,
    *,
    allowed: Collection[str],
    yes: bool,
    as_json: bool,
    plan_file: Path | None = None,
) -> None:
    """Plan, or read the saved plan; then ask, apply and verify."""
    check_project(app, project)
    kept = saved.read(plan_file) if plan_file else None
    with connect(app.settings) as client:
        seen = look(app, client, wishes)
        if kept is not None:
            saved.check(kept, seen.plan, seen.target, seen.cues)
            seen = replace(seen, plan=kept.plan)
        blocks = [each for each in guards(seen.plan, refuse_older=project.refuse_older) if each.flag not in allowed]
        _print_plan(seen, blocks, as_json=as_json)
        _refuse(blocks)
        if seen.plan.writes:
            _confirm(yes=yes)
            finish(client, seen)


def run_destroy(client: CueAPI, owner: Owner, former: Owner | None, *, yes: bool) -> None:
    """Delete all cues of an owner, after asking."""
    seen = see(client, owner, (), Intent(now=_now(), former=former, prune=True))
    _print_plan(seen, [], as_json=False)
    if seen.plan.writes:
        _confirm(yes=yes)
        finish(client, seen)


def finish(client: CueAPI, seen: Sight) -> None:
    """Apply a plan, then read the remote state again: anything left to do is an error."""
    made, limit = seen.plan, seen.account.active_cue_limit
    crowded = limit is not None and counted(seen.cues) + made.count(Action.CREATE) > limit
    with Progress(len(made.writes)) as progress:
        pace = Pace(client, on_wait=progress.waiting)
        _raise_failures(apply(made, pace, progress.done, deletes_first=crowded))
        _verify(made, pace.client)


def _verify(made: Plan, client: CueAPI) -> None:
    specs = [change.spec for change in made.changes if change.spec]
    left = plan(specs, client.cues.iter(), owner=made.owner, intent=Intent(now=_now()))
    wrong = [change for change in (*left.changed, *left.conflicts) if not change.leftover]
    if wrong:
        others = {left.highest} - {made.revision, None}
        by = f"; a deploy of revision {left.highest} ran at the same time" if others else ""
        names = ", ".join(change.name for change in wrong[:MOST_FAULTS])
        raise DeployError("not_verified", f"the remote state is not what is declared, in {names}{by}; deploy again")


def _with_history(change: Change, client: CueAPI) -> Change:
    """Count what is deleted with a cue."""
    if change.action is not Action.DELETE or change.cue is None:
        return change
    return replace(change, history=client.cues.get(change.cue.id, execution_limit=1).execution_total)


def _print_plan(seen: Sight, blocks: Sequence[Guard], *, as_json: bool) -> None:
    owner = seen.plan.owner
    environment = owner.environment or "none"
    where = f"app {owner.app}, environment {environment}, on {seen.server}, account {seen.account.email}"
    click.echo(where, err=as_json)
    click.echo(render.to_text(seen.plan, usage=seen.usage, guards=blocks), err=as_json)
    if as_json:
        click.echo(json.dumps(render.to_json(seen.plan, usage=seen.usage, guards=blocks)))


def _refuse(blocks: Sequence[Guard]) -> None:
    if blocks:
        reasons = "; ".join(f"{each.message}{render.remedy(each)}" for each in blocks)
        raise DeployError(blocks[0].code, f"{reasons}. Nothing was written")


def _confirm(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise DeployError("not_confirmed", "there is no terminal to ask on: add --yes; nothing was written")
    if not click.confirm("Apply?", err=True):
        raise DeployError("not_confirmed", "nothing was written")


def _raise_failures(report: Report) -> None:
    if report.failures:
        faults = [f"  {each.change.name}: {each.error}" for each in report.failures]
        more = [f"  and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        listed = "\n".join([*faults[:MOST_FAULTS], *more])
        raise DeployError("incomplete", f"{report.done} changes were made, these were not:\n{listed}")


def _now() -> datetime:
    return datetime.now(timezone.utc)
