"""Several receivers behind one URL: two environments, old and new code together, and a secret that is rotated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx
import pytest

from cueapi import CueAPI
from cueapi_tasks import CueTasks
from cueapi_tasks.deploy.apply import apply
from cueapi_tasks.deploy.pace import Pace
from cueapi_tasks.deploy.plan import Intent, plan
from cueapi_tasks.run.secrets import Secrets
from cueapi_tasks.server.deliver import deliver, make_client
from cueapi_tasks.server.virtual import VirtualServer
from cueapi_tasks.web import Environ, StartResponse, WSGIApp, wsgi

from .remote import Remote
from .support import SECRET, receiver_of

CALLBACK = "http://receiver.test/cueapi"
RETRY = {"max_attempts": 6, "backoff_minutes": [1]}


class Fleet:
    """One account, and receivers of several apps on one ledger that take deliveries in turn."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.remote = Remote()
        stack.callback(self.remote.close)
        self._stack, self._folder = stack, folder
        self._edges: list[WSGIApp] = []
        self._turn = count()
        line = make_client(httpx.WSGITransport(self._next))
        stack.callback(line.close)
        self._server = VirtualServer(
            self.remote.engine, self.remote.clock, lambda attempt, now: deliver(line, attempt, now)
        )

    @property
    def client(self) -> CueAPI:
        return self.remote.client

    def add(self, app: CueTasks, secrets: Secrets | None = None) -> None:
        arguments = {} if secrets is None else {"secrets": secrets}
        opened = receiver_of(app, self._folder / "ledger.db", self.remote.clock, self.client, **arguments)
        self._edges.append(wsgi(self._stack.enter_context(opened).handle))

    def deploy(self, app: CueTasks) -> None:
        app.override(callback=CALLBACK)
        intent = Intent(now=self.remote.clock.now, former=app.former_owner)
        made = plan(app.specs(), self.client.cues.iter(), owner=app.owner, intent=intent)
        pace = Pace(self.client, workers=1, sleep=self.remote.clock.sleep, clock=self.remote.clock)
        assert apply(made, pace, lambda change: None).failures == ()

    def fire(self, name: str) -> str:
        return next(self.client.cues.fire(cue.id).id for cue in self.client.cues.iter() if cue.name == name)

    def run(self, minutes: int) -> None:
        for _ in range(minutes):
            self.remote.clock.advance(minutes=1)
            self._server.run_due()

    def ended(self, executions: Sequence[str]) -> set[tuple[str, str | None]]:
        found = [self.client.executions.get(each) for each in executions]
        return {(each.status, each.outcome_state) for each in found}

    def _next(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return self._edges[next(self._turn) % len(self._edges)](environ, start_response)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(stack, tmp_path)


def app_of(ran: list[str], label: str, task: str, environment: str | None = None, was: str | None = None) -> CueTasks:
    app = CueTasks("billing", environment=environment)

    @app.schedule(cron="0 9 * * *", task=task, retry=RETRY, was=was)
    def work() -> None:
        ran.append(label)

    return app


def test_two_environments_on_one_account_never_run_each_others_deliveries(fleet: Fleet) -> None:
    ran: list[str] = []
    production, staging = app_of(ran, "production", "work"), app_of(ran, "staging", "work", environment="staging")
    for app in (production, staging):
        fleet.deploy(app)
        fleet.add(app)
    fired = [fleet.fire(name) for name in ["billing/work"] * 4 + ["billing@staging/work"] * 3]
    fleet.run(8)
    assert fleet.ended(fired) == {("success", "reported_success")}
    assert sorted(ran) == ["production"] * 4 + ["staging"] * 3


def test_a_rolling_deploy_of_a_new_task_loses_no_execution(fleet: Fleet) -> None:
    ran: list[str] = []
    old, new = app_of(ran, "old", "work"), app_of(ran, "new", "work")
    new.schedule(cron="0 9 * * *", task="added", retry=RETRY)(lambda: ran.append("added"))
    fleet.add(old)
    fleet.add(new)
    fleet.deploy(new)
    fired = [fleet.fire("billing/added") for _ in range(5)]
    fleet.run(8)
    assert fleet.ended(fired) == {("success", "reported_success")}
    assert ran == ["added"] * 5


def test_a_rolling_deploy_of_a_renamed_task_loses_no_execution(fleet: Fleet) -> None:
    ran: list[str] = []
    old, new = app_of(ran, "old", "work"), app_of(ran, "new", "renamed", was="work")
    fleet.deploy(old)
    before = [fleet.fire("billing/work") for _ in range(3)]
    fleet.add(old)
    fleet.add(new)
    fleet.deploy(new)
    after = [fleet.fire("billing/renamed") for _ in range(3)]
    fleet.run(8)
    assert fleet.ended(before + after) == {("success", "reported_success")}
    assert len(ran) == 6


def test_a_rolling_deploy_of_a_changed_payload_loses_no_execution(fleet: Fleet) -> None:
    ran: list[str] = []
    old, new = CueTasks("billing"), CueTasks("billing")
    old.schedule(cron="0 9 * * *", task="work", retry=RETRY)(lambda: ran.append("old"))

    @new.schedule(cron="0 9 * * *", task="work", retry=RETRY, payload={"region": "eu"})
    def work(region: str) -> None:
        ran.append(region)

    fleet.deploy(old)
    before = [fleet.fire("billing/work") for _ in range(3)]
    fleet.add(old)
    fleet.add(new)
    fleet.deploy(new)
    after = [fleet.fire("billing/work") for _ in range(3)]
    fleet.run(8)
    assert fleet.ended(before + after) == {("success", "reported_success")}
    assert len(ran) == 6


@pytest.mark.parametrize("how", ["refreshed", "both configured"])
def test_after_a_key_rotation_no_execution_is_refused_for_longer_than_a_retry(fleet: Fleet, how: str) -> None:
    ran: list[str] = []
    app = app_of(ran, "run", "work")
    fleet.deploy(app)
    before = [fleet.fire("billing/work") for _ in range(3)]
    rotated = fleet.client.webhook_secret.regenerate(confirm=True)
    secrets: Callable[[], Secrets] = {
        "refreshed": lambda: Secrets([SECRET], fleet.client.webhook_secret.get),
        "both configured": lambda: Secrets([SECRET, rotated]),
    }[how]
    fleet.add(app, secrets())
    after = [fleet.fire("billing/work") for _ in range(3)]
    fleet.run(3)
    assert fleet.ended(before + after) == {("success", "reported_success")}
    assert all(fleet.client.executions.get(each).attempts <= 2 for each in before + after)
    assert len(ran) == 6
