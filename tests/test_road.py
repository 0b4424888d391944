"""The whole road, declare to report, through the same code: once in one process without a port, once over sockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cueapi import CueAPI
from cueapi_tasks import Context, CueTasks, Done
from cueapi_tasks.deploy.apply import apply
from cueapi_tasks.deploy.pace import Pace
from cueapi_tasks.deploy.plan import Intent, plan
from cueapi_tasks.server.http import HttpServer
from cueapi_tasks.server.main import Clock, Server, make_credentials

from .support import World

Worlds = Callable[[CueTasks], World]


def invoices(app: CueTasks) -> list[tuple[str, int]]:
    """Declare a task that fails on its first attempt, and return the list of its calls."""
    calls: list[tuple[str, int]] = []

    @app.schedule(cron="30 12 * * *", payload={"region": "eu"}, retry={"backoff_minutes": [0]})
    def send_invoices(region: str, ctx: Context) -> Done:
        calls.append((region, ctx.attempt))
        if ctx.attempt == 1:
            raise ConnectionError("mail server")
        return Done(result="sent", external_id=ctx.execution_id)

    return calls


def test_a_declared_task_is_planned_applied_fired_delivered_verified_run_and_reported(worlds: Worlds) -> None:
    world = worlds(CueTasks("billing"))
    calls = invoices(world.app)
    world.deploy()
    world.clock.advance(minutes=29)
    assert world.run_due() == 0
    world.clock.advance(minutes=1)
    assert (world.run_due(), world.run_due(), world.run_due()) == (1, 1, 0)
    assert calls == [("eu", 1), ("eu", 2)]
    (execution,) = world.client.executions.list().executions
    assert (execution.status, execution.attempts) == ("success", 2)
    assert execution.outcome is not None
    assert (execution.outcome.success, execution.outcome.result) == (True, "sent")


def test_the_same_over_sockets(tmp_path: Path) -> None:
    credentials = make_credentials()
    server = Server(data=tmp_path, credentials=credentials)
    app = CueTasks("billing")
    calls = invoices(app)
    receiver = HttpServer(app.wsgi, host="127.0.0.1", port=0)
    app.override(
        api_key=credentials.api_key,
        base_url=server.url,
        webhook_secret=credentials.webhook_secret,
        callback=f"{receiver.url}/cueapi",
        ledger=f"sqlite:///{tmp_path / 'ledger.db'}",
    )
    server.start()
    receiver.start()
    with CueAPI(credentials.api_key, base_url=server.url) as client:
        made = plan(app.specs(), client.cues.iter(), owner=app.owner, intent=Intent(now=Clock()()))
        apply(made, Pace(client), lambda change: None)
        (cue,) = client.cues.iter()
        fired = client.cues.fire(cue.id)
        deadline = time.monotonic() + 20
        while client.executions.get(fired.id).status != "success":
            assert time.monotonic() < deadline
        execution = client.executions.get(fired.id)
    server.stop()
    receiver.stop()
    app.close()
    assert calls == [("eu", 1), ("eu", 2)]
    assert execution.outcome is not None
    assert execution.outcome.result == "sent"
