"""What tests share: a clock set by hand, signed requests, and the whole system in one process without a port."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx

from cueapi import CueAPI, webhook
from cueapi_tasks import CueTasks
from cueapi_tasks.deploy.apply import Report, apply
from cueapi_tasks.deploy.change import Plan
from cueapi_tasks.deploy.pace import Pace
from cueapi_tasks.deploy.plan import Intent, plan
from cueapi_tasks.run.ledger.base import Ledger
from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from cueapi_tasks.run.receiver import Receiver
from cueapi_tasks.run.report import Reporter
from cueapi_tasks.run.runner import Clocks
from cueapi_tasks.run.secrets import Secrets
from cueapi_tasks.server.accounts import digest, make_account
from cueapi_tasks.server.api import create_api
from cueapi_tasks.server.database import MEMORY
from cueapi_tasks.server.deliver import deliver, make_client
from cueapi_tasks.server.engine import Engine
from cueapi_tasks.server.profile import Profile
from cueapi_tasks.server.store import Store
from cueapi_tasks.server.virtual import VirtualServer
from cueapi_tasks.web import Request, Response, wsgi

ROOT = Path(__file__).parent.parent
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
SECRET = "whsec_" + "5" * 64
API_KEY = "cue_sk_" + "a" * 32
CALLBACK = "http://receiver.test/cueapi"


@dataclass
class Clock:
    """A clock that moves when it is told to."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def sleep(self, seconds: float) -> None:
        self.advance(seconds=seconds)

    @property
    def clocks(self) -> Clocks:
        return Clocks(now=self.timestamp, steady=self.timestamp, sleep=self.sleep)

    def timestamp(self) -> float:
        return self.now.timestamp()


def envelope(name: str = "billing/report", **changes: Any) -> dict[str, Any]:
    """Return a delivery's body as CueAPI sends it."""
    body = {
        "attempt": 1,
        "cue_id": "cue_abcdefghijkl",
        "execution_id": str(uuid.uuid4()),
        "name": name,
        "payload": {},
        "scheduled_for": NOON.isoformat(),
    }
    return body | changes


def stamp_payload(task: str = "report", *, app: str = "billing", most: int = 3, **changes: Any) -> dict[str, Any]:
    """Return the routing key and the stamp as a deploy puts them into a cue's payload."""
    stamp = {"v": 1, "app": app, "env": None, "task": task, "schedule": None, "max_attempts": most, "revision": None}
    return {"task": f"{app}/{task}", "_cueapi_tasks": stamp | changes}


def signed(body: object, *, secret: str = SECRET, at: datetime = NOON) -> Request:
    """Return a POST as CueAPI signs it; bytes go as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body, sort_keys=True).encode()
    timestamp = int(at.timestamp())
    headers = {
        "x-cueapi-signature": webhook.sign(raw, secret=secret, timestamp=timestamp),
        "x-cueapi-timestamp": str(timestamp),
    }
    return Request(method="POST", headers=headers, body=raw)


@dataclass
class Reports:
    """The end of the road of outcomes, for tests that look at the receiver alone."""

    client: CueAPI
    received: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def stub_client(*answers: httpx.Response) -> Iterator[Reports]:
    """Give a client whose server answers these in turn, and then 200, keeping each body it gets."""
    queue = [*answers]
    received: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        received.append(json.loads(request.content))
        return queue.pop(0) if queue else httpx.Response(200, json={"outcome_recorded": True})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    with CueAPI(API_KEY, base_url="http://api.test", http_client=http, max_retries=0) as client:
        yield Reports(client=client, received=received)


@contextmanager
def receiver_of(
    app: CueTasks, ledger: Path | Ledger, clock: Clock, client: CueAPI | None, **arguments: Any
) -> Iterator[Receiver]:
    """Give the app's receiver on a hand-set clock and a client handed in."""
    store = SqliteLedger(ledger) if isinstance(ledger, Path) else ledger
    usual: dict[str, Any] = {
        "registry": app.registry,
        "owner": app.owner,
        "secrets": Secrets([SECRET]),
        "ledger": store,
        "stage": app.stage,
    }
    reporter = Reporter(store, app.owner.scope, lambda: client)
    receiver = Receiver(**usual | {"reporter": reporter, "clocks": clock.clocks} | arguments)
    yield receiver
    receiver.close()


ACCOUNT = make_account("local@localhost", API_KEY, SECRET)


@contextmanager
def engine_of(path: Path = MEMORY, profile: Profile | None = None) -> Iterator[Engine]:
    """Give an engine with one account whose key is API_KEY."""
    store = Store(path)
    with store.atomic():
        store.put_account(ACCOUNT, digest(API_KEY))
    yield Engine(store, profile)
    store.close()


class World:
    """Server, client and receiver of one app in one process: no port, no thread that matters, no sleep."""

    def __init__(self, app: CueTasks, ledger: Path) -> None:
        self.app = app
        self.clock = Clock()
        self.store = Store(MEMORY)
        self.engine = Engine(self.store)
        with self.store.atomic():
            self.store.put_account(ACCOUNT, digest(API_KEY))
        api = httpx.WSGITransport(create_api(self.engine, self.clock))
        self.client = CueAPI(API_KEY, base_url="http://localhost", http_client=httpx.Client(transport=api))
        app.override(callback=CALLBACK)
        self._ledger = SqliteLedger(ledger)
        self.receiver = Receiver(
            registry=app.registry,
            owner=app.owner,
            secrets=Secrets([SECRET]),
            ledger=self._ledger,
            reporter=Reporter(self._ledger, app.owner.scope, lambda: self.client),
            stage=app.stage,
            clocks=self.clock.clocks,
        )
        self._deliveries = make_client(httpx.WSGITransport(wsgi(self.receiver.handle)))
        self.server = VirtualServer(self.engine, self.clock, lambda each, now: deliver(self._deliveries, each, now))

    def plan(self, **wishes: Any) -> Plan:
        intent = Intent(now=self.clock.now, former=self.app.former_owner, **wishes)
        return plan(self.app.specs(), self.client.cues.iter(), owner=self.app.owner, intent=intent)

    def deploy(self, **wishes: Any) -> Plan:
        made = self.plan(**wishes)
        assert self.apply(made).failures == ()
        return made

    def apply(self, made: Plan) -> Report:
        pace = Pace(self.client, workers=1, sleep=self.sleep, clock=self.clock)
        return apply(made, pace, lambda change: None)

    def sleep(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.clock.sleep(seconds)
        self.run_due()

    def run_due(self) -> int:
        """Fire and deliver what is due now; return how many attempts were made."""
        return self.server.run_due()

    def close(self) -> None:
        self.receiver.close()
        self._deliveries.close()
        self.client.close()
        self.store.close()


def answer_of(response: Response) -> tuple[int, str]:
    """Return an answer's status and reason."""
    assert set(response.json) == {"status", "reason"}
    return response.status, response.json["reason"]
