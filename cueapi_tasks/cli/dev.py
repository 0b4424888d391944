"""`dev`: embedded server, receiver, worker and deploy in one process, on loopback ports that stay the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import click

from cueapi import Cue, CueAPI, Execution

from .. import web
from ..app import CueTasks
from ..declare.schedules import Once
from ..declare.task import AnyTask
from ..deploy import render
from ..deploy.clock import local
from ..errors import DeployError, ServerStartError
from ..run.worker import WorkerOptions
from ..server.http import HttpServer
from ..server.main import Credentials, Server, make_credentials
from .deploy import Wishes, finish, look
from .listing import print_table
from .narrate import Narrator
from .process import SIGNAL_SECONDS, exit_beside_threads, on_signal
from .state import State, make_folder, read_state, write_state

Made = TypeVar("Made")
Retries = Callable[[str], bool]
"""Tells whether an execution failed in the worker and waits there for its next attempt."""

PATH = "/cueapi"
POLL_SECONDS = 0.1
WORKER_SECONDS = 0.5
"""Between two polls of the worker: the server is on this machine."""
NOTICE_SECONDS = 0.3
"""After this the wait is said."""
GRACE_SECONDS = 5.0
"""How long Ctrl-C lets the worker's runs end."""
IN_FLIGHT = ("pending", "delivering")


def run_dev(app: CueTasks, *, data: Path | None, fire_now: bool, exit_after: bool) -> int:
    """Run everything until Ctrl-C, or with `exit_after` until the runs fired at the start have ended."""
    folder = data or Path(".cueapi") / app.name
    with _narrating(app), _running(app, folder) as client:
        _deploy(app, client)
        _print_tasks(app, client)
        with _working(app, client) as retries:
            fired = _fire_each(app, client) if fire_now else []
            if exit_after:
                return _wait_for(client, fired, retries)
            signals: list[int] = []
            with on_signal(signals.append):
                click.echo("Ctrl-C stops it.")
                while not signals:
                    time.sleep(SIGNAL_SECONDS)
            raise KeyboardInterrupt


@contextmanager
def _running(app: CueTasks, folder: Path) -> Generator[CueAPI]:
    """Run the server and the receiver while the block does."""
    state = _state(folder)
    credentials = Credentials(api_key=state.api_key, webhook_secret=state.webhook_secret)
    server = _on_port(state.server_port, lambda port: Server(data=folder, credentials=credentials, port=port))
    receiver = _on_port(
        state.receiver_port,
        lambda port: HttpServer(web.mount(_not_found, app.wsgi, PATH), host="127.0.0.1", port=port),
    )
    write_state(folder, replace(state, server_port=server.http.port, receiver_port=receiver.port))
    app.override(
        api_key=state.api_key,
        base_url=server.url,
        webhook_secret=state.webhook_secret,
        callback=f"{receiver.url}{PATH}",
        ledger=f"sqlite:///{folder.resolve() / 'ledger.db'}",
    )
    click.echo(f"server   {server.url}\nreceiver {receiver.url}{PATH}\ndata     {folder}\n")
    receiver.start()
    server.start()
    try:
        app.receiver.catch_up()
        with CueAPI(state.api_key, base_url=server.url) as client:
            yield client
    finally:
        server.stop()
        receiver.stop()
        app.close()


@contextmanager
def _working(app: CueTasks, client: CueAPI) -> Generator[Retries]:
    """Run a worker while the block does, if there are tasks for one."""
    if all(spec.transport == "webhook" for spec in app.specs()):
        yield lambda _: False
        return
    worker = app.worker(client, WorkerOptions(poll_interval=WORKER_SECONDS, grace=GRACE_SECONDS))
    with ThreadPoolExecutor(1, "cueapi-tasks-worker") as pool:
        running = pool.submit(worker.run)
        try:
            yield worker.retries
        finally:
            worker.stop()
            _await(running)


def _await(running: Future[Sequence[str]]) -> None:
    """Wait for a worker's drain; a second Ctrl-C, or a run that outlives it, ends the process."""
    try:
        if not wait([running], timeout=NOTICE_SECONDS).done:
            click.echo(f"waiting up to {GRACE_SECONDS:g} s for runs to end; Ctrl-C again ends them")
        left = running.result()
    except KeyboardInterrupt:
        click.echo("stopped; the runs start again with dev")
        exit_beside_threads(1)
    else:
        if left:
            click.echo(f"{len(left)} of the runs did not end; they start again with dev")
            exit_beside_threads(0)


def _state(folder: Path) -> State:
    state = read_state(folder)
    if state is not None:
        return state
    make_folder(folder)
    (folder.parent if folder.parent.name == ".cueapi" else folder).joinpath(".gitignore").write_text("*\n", "utf-8")
    new = make_credentials()
    return State(api_key=new.api_key, webhook_secret=new.webhook_secret)


def _on_port(port: int, make: Callable[[int], Made]) -> Made:
    """Make a server on the port that it had, or on a free one if that is taken now."""
    try:
        return make(port)
    except ServerStartError as error:
        if error.code != "port_taken" or port == 0:
            raise
        click.echo(f"port {port} is taken by another program; using a free one", err=True)
        return make(0)


def _deploy(app: CueTasks, client: CueAPI) -> None:
    if not app.tasks:
        raise DeployError("nothing_declared", "the app declares no task; decorate one with @cue.schedule(...)")
    seen = look(app, client, Wishes())
    if seen.plan.conflicts:
        raise DeployError("conflict", "; ".join(str(change.note) for change in seen.plan.conflicts))
    finish(client, seen)


def _print_tasks(app: CueTasks, client: CueAPI) -> None:
    cues = {cue.name: cue for cue in client.cues.iter()}
    rows: list[list[str]] = []
    for spec in app.specs():
        cue = cues.get(spec.name)
        run = cue.next_run if cue else None
        when = local(run, spec.schedule.timezone) if run else "none"
        rows.append([spec.name, render.describe(spec.schedule), when])
    print_table(("task", "schedule", "next run"), rows)
    click.echo()


def _fire_each(app: CueTasks, client: CueAPI) -> list[str]:
    """Fire one recurring schedule of each task; a fire would use a one-time cue up, so those are left alone."""
    cues = {cue.name: cue for cue in client.cues.iter()}
    chosen = [_cue_to_fire(app, task, cues.values()) for task in app.tasks]
    return [client.cues.fire(cue.id).id for cue in chosen if cue is not None]


def _cue_to_fire(app: CueTasks, task: AnyTask, cues: Iterable[Cue]) -> Cue | None:
    names = [spec.name for spec in task.specs(app.owner, None) if not isinstance(spec.schedule, Once)]
    if not names:
        click.echo(f"{task.name} is not fired: a fire would use up its one-time cue")
    return next((cue for cue in cues if cue.name in names[:1]), None)


def _wait_for(client: CueAPI, fired: Sequence[str], retries: Retries) -> int:
    """Wait until every fired run has ended; one whose next attempt is minutes away has failed here."""
    failed = [execution for execution in (_ended(client, each, retries) for each in fired) if not _succeeded(execution)]
    if any(execution.status == "retrying" or retries(execution.id) for execution in failed):
        click.echo("not waiting for further attempts")
    click.echo(f"{len(fired) - len(failed)} of {len(fired)} runs succeeded")
    return 1 if failed else 0


def _ended(client: CueAPI, execution_id: str, retries: Retries) -> Execution:
    while True:
        execution = client.executions.get(execution_id)
        reported = execution.status != "success" or execution.outcome is not None
        if (execution.status not in IN_FLIGHT and reported) or retries(execution_id):
            return execution
        time.sleep(POLL_SECONDS)


def _succeeded(execution: Execution) -> bool:
    return execution.outcome is not None and execution.outcome.success


@contextmanager
def _narrating(app: CueTasks) -> Generator[None]:
    """Print each step of each run as a line, in place of the library's log."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logger = logging.getLogger("cueapi_tasks")
    before = (logger.handlers[:], logger.level, logger.propagate)
    logger.handlers, logger.propagate = [Narrator(app.owner.scope)], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


def _not_found(_: web.Environ, start_response: web.StartResponse) -> list[bytes]:
    start_response(f"404 {HTTPStatus.NOT_FOUND.phrase}", [("Content-Length", "0")])
    return []
