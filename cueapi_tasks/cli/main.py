"""The `cueapi-tasks` command: arguments in, an exit code out; an error is one message with its cause and remedy."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType

import click

from cueapi import APIConnectionError, AuthenticationError, CueAPIError

from .. import __version__
from .._sdk import REMEDY, RIVALS
from ..errors import AppLoadError, CueTasksError
from . import deploy as deploying
from . import serve as serving
from .dev import run_dev
from .loader import load, user_traceback

APP = click.argument("app", required=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cueapi-tasks")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:  # noqa: FBT001 - click hands options over by name
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
def dev(app: str | None, fire_now: bool, exit_after: bool, data: Path | None) -> int:  # noqa: FBT001
    """Run an app on this machine alone: server, receiver and deploy in one process."""
    try:
        return run_dev(load(app), data=data, fire_now=fire_now, exit_after=exit_after)
    except KeyboardInterrupt:
        click.echo("stopped")
        return 0


@cli.command()
@APP
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON on standard output.")
@click.option("--exit-code", is_flag=True, help="Exit with 2 where there are changes.")
def plan(app: str | None, as_json: bool, exit_code: bool) -> int:  # noqa: FBT001
    """Show what deploy would do and which runs change."""
    return deploying.show_plan(load(app), as_json=as_json, exit_code=exit_code)


@cli.command()
@APP
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON on standard output.")
def deploy(app: str | None, yes: bool, as_json: bool) -> int:  # noqa: FBT001
    """Make the remote cues equal to what the app declares."""
    return deploying.run_deploy(load(app), yes=yes, as_json=as_json)


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
