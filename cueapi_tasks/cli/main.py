"""The `cueapi-tasks` command: arguments in, an exit code out; an error is one message with its cause and remedy."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TypeVar

import click

from cueapi import APIConnectionError, AuthenticationError, CueAPIError

from .. import __version__
from .._sdk import REMEDY, RIVALS
from ..app import CueTasks
from ..errors import AppLoadError, CueTasksError
from ..run.ledger import init_ledger
from ..run.ledger.urls import without_secrets
from ..run.worker import WorkerOptions
from . import deploy as deploying
from . import listing, work
from . import serve as serving
from .dev import run_dev
from .loader import load, project, user_traceback
from .revision import revision_of_checkout

APP = click.argument("app", required=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
SLOTS = click.IntRange(1, 1000)
SECONDS = click.FloatRange(0.0, 3600.0)
INTERVAL = click.FloatRange(0.1, 3600.0)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)

Command = TypeVar("Command", bound=Callable[..., object])


def _with_wishes(command: Command) -> Command:
    """Add what changes a plan."""
    options = (
        click.option("--prune", is_flag=True, help="Delete what left the code, and its history, not only pause it."),
        click.option("--adopt", is_flag=True, help="Take over cues that have a wanted name, or one that is adopted."),
        click.option("--revision", type=int, help="How new the code is; the time of the last git commit by default."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _with_flags(command: Command) -> Command:
    """Add the flags that allow guarded steps, one a guard."""
    flags = {
        "--replace": "Allow a new cue, with a new id, where the transport changes.",
        "--allow-empty": "Allow an app without tasks.",
        "--allow-mass-removal": "Allow the removal of more than half of the app's cues.",
        "--move-callback": "Allow a callback on another host.",
    }
    for flag, text in reversed(flags.items()):
        command = click.option(flag, is_flag=True, help=text)(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cueapi-tasks")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Declare when Python functions run, and have CueAPI run them.

    APP is module:attribute or path.py:attribute; the attribute may be left out where the module holds one CueTasks.
    Without APP, CUEAPI_APP names it, or app = "..." under [tool.cueapi-tasks] in pyproject.toml.
    """


@cli.command()
@APP
@click.option("--now", "fire_now", is_flag=True, help="Fire each task once at the start.")
@click.option("--exit", "exit_after", is_flag=True, help="End when the runs fired by --now have ended.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where state is kept; .cueapi/APP by default.",
)
def dev(app: str | None, fire_now: bool, exit_after: bool, data: Path | None) -> int:
    """Run an app on this machine alone: server, receiver, worker and deploy in one process."""
    if exit_after and not fire_now:
        raise click.UsageError("--exit ends when the runs fired at the start have ended: give --now too")
    try:
        return run_dev(load(app), data=data, fire_now=fire_now, exit_after=exit_after)
    except KeyboardInterrupt:
        click.echo("stopped")
        return 0


@cli.command()
@APP
@_with_wishes
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON on standard output.")
@click.option("--markdown", is_flag=True, help="Print the plan for a comment on a pull request.")
@click.option("--redact", is_flag=True, help="Mask payload values in --markdown.")
@click.option("--out", type=NEW_FILE, help="Save the plan for deploy --plan, readable by you alone.")
@click.option("--exit-code", is_flag=True, help="Exit with 2 where there are changes.")
def plan(
    app: str | None,
    prune: bool,
    adopt: bool,
    revision: int | None,
    as_json: bool,
    markdown: bool,
    redact: bool,
    out: Path | None,
    exit_code: bool,
) -> int:
    """Show what deploy would do and which runs change."""
    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    form = "json" if as_json else "markdown" if markdown else "text"
    wishes = _wishes(prune=prune, adopt=adopt, revision=revision)
    changes = deploying.run_plan(load(app), wishes, project(), form=form, redact=redact, out=out)
    return 2 if exit_code and changes else 0


@cli.command()
@APP
@_with_wishes
@_with_flags
@click.option("--plan", "plan_file", type=FILE, help="Carry out a plan saved by plan --out, and nothing else.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON on standard output.")
def deploy(
    app: str | None,
    prune: bool,
    adopt: bool,
    revision: int | None,
    plan_file: Path | None,
    yes: bool,
    as_json: bool,
    **flags: bool,
) -> None:
    """Make the remote cues equal to what the app declares."""
    allowed = {f"--{name.replace('_', '-')}" for name, given in flags.items() if given}
    wishes = _wishes(prune=prune, adopt=adopt, revision=revision)
    deploying.run_deploy(load(app), wishes, project(), allowed=allowed, yes=yes, as_json=as_json, plan_file=plan_file)


@cli.command("list")
@APP
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def list_(app: str | None, as_json: bool) -> None:
    """Show the declared tasks beside their remote state."""
    listing.run_list(load(app), as_json=as_json)


@cli.command("next")
@APP
@click.option("--count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def next_(app: str | None, count: int, as_json: bool) -> None:
    """Show the coming runs of all tasks; asks no server."""
    listing.run_next(load(app), count=count, as_json=as_json)


@cli.command()
@APP
@click.option("--app", "name", help="The app's name, where its code is gone.")
@click.option("--environment", help="The environment of --app.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(app: str | None, name: str | None, environment: str | None, yes: bool) -> None:
    """Delete all cues that the app owns in one environment."""
    if name is None and environment is not None:
        raise click.UsageError("--environment goes with --app; with code, set CUEAPI_ENVIRONMENT")
    declared = CueTasks(name, environment=environment) if name else load(app)
    if name is None:
        deploying.check_project(declared, project())
    with deploying.connect(declared.settings) as client:
        deploying.run_destroy(client, declared.owner, declared.former_owner, yes=yes)


@cli.command()
@APP
@click.option("--concurrency", type=SLOTS, default=10, show_default=True, help="Plain functions at a time.")
@click.option("--async-concurrency", type=SLOTS, default=100, show_default=True, help="Async functions at a time.")
@click.option(
    "--poll-interval",
    type=INTERVAL,
    default=5.0,
    show_default=True,
    help="Seconds between two looks at an empty queue.",
)
@click.option(
    "--grace", type=SECONDS, default=25.0, show_default=True, help="Seconds that runs have to end, when draining."
)
@click.option("--once", is_flag=True, help="Run what is due, and exit; what is due later is left to a later call.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def worker(
    app: str | None,
    concurrency: int,
    async_concurrency: int,
    poll_interval: float,
    grace: float,
    once: bool,
    log_format: str,
) -> int:
    """Pull executions of tasks with transport="worker" and run them; SIGTERM drains."""
    options = WorkerOptions(
        concurrency=concurrency, async_concurrency=async_concurrency, poll_interval=poll_interval, grace=grace
    )
    debug = click.get_current_context().find_root().params["debug"]
    explain = partial(_explain, debug=debug)
    return work.run_worker(partial(load, app), options, once=once, log_format=log_format, explain=explain)


@cli.group()
def ledger() -> None:
    """Look after the ledger of an app."""


@ledger.command()
@APP
def init(app: str | None) -> None:
    """Make the ledger's table in PostgreSQL, and see that the ledger, of any kind, can be used."""
    where = load(app).settings.ledger
    init_ledger(where)
    click.echo(f"the ledger {without_secrets(where)} is ready")


cli.add_command(serving.server)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a usage error is 1, since 2 says that a plan holds changes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _stop_on_sigterm()
    _warn_of_rivals()
    try:
        code = cli.main(given, prog_name="cueapi-tasks", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 1
    except click.Abort:
        click.echo("stopped", err=True)
        return 1
    except (CueTasksError, CueAPIError) as error:
        _explain(error, debug="--debug" in given)
        return 1
    return code if isinstance(code, int) else 0


def run() -> None:
    """Run the command as a program."""
    sys.exit(main())


def _wishes(*, prune: bool, adopt: bool, revision: int | None) -> deploying.Wishes:
    known = revision if revision is not None else revision_of_checkout()
    return deploying.Wishes(prune=prune, adopt=adopt, revision=known)


def _explain(error: CueTasksError | CueAPIError, *, debug: bool) -> None:
    if isinstance(error, AppLoadError) and error.__cause__ is not None:
        click.echo(user_traceback(error.__cause__), err=True)
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True)
    click.echo(f"{click.style('error', fg='red')} [{error.code or 'api_error'}]: {error}{_remedy(error)}", err=True)


def _remedy(error: CueTasksError | CueAPIError) -> str:
    if isinstance(error, AuthenticationError):
        return "; check CUEAPI_API_KEY, and that CUEAPI_BASE_URL is the server that it belongs to"
    if isinstance(error, APIConnectionError):
        return "; check CUEAPI_BASE_URL and the network, or try the app without an account: cueapi-tasks dev"
    return ""


def _warn_of_rivals() -> None:
    """Say that another distribution claims the package `cueapi`: uninstalling that one would delete our files."""
    installed = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    for name in (rival for rival in RIVALS if rival in installed):
        click.echo(f"warning: {name} is installed too and claims the package cueapi; mend it with: {REMEDY}", err=True)


def _stop_on_sigterm() -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if os.name != "nt" and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
