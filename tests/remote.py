"""An account on the embedded server, in one process and on a hand-set clock, whose connection can be made to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import httpx

from cueapi import Cue, CueAPI
from cueapi_tasks.declare.spec import CueSpec, Owner
from cueapi_tasks.deploy.apply import Report, apply
from cueapi_tasks.deploy.change import Plan
from cueapi_tasks.deploy.pace import Pace
from cueapi_tasks.deploy.plan import Intent, plan
from cueapi_tasks.server.accounts import digest, make_account
from cueapi_tasks.server.api import create_api
from cueapi_tasks.server.database import MEMORY
from cueapi_tasks.server.engine import Engine
from cueapi_tasks.server.profile import Profile
from cueapi_tasks.server.records import Answered, Attempt
from cueapi_tasks.server.store import Store
from cueapi_tasks.server.virtual import VirtualServer

from .support import API_KEY, SECRET, Clock


class Killed(BaseException):
    """The deploying process died: nothing may catch it."""


Fault = Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response]
"""What happens to one request: it may be carried out, lost, or never sent."""


def lost(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Carry the request out and lose the answer."""
    send().read()
    raise httpx.ReadError("the connection was lost", request=request)


def failed_after(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Carry the request out and answer as a server that failed afterwards."""
    send().read()
    return httpx.Response(500, json={"error": {"code": "internal", "message": "later"}})


def unreachable(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Never reach the server."""
    raise httpx.ConnectError("nothing listens", request=request)


def killed_before(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Die before the request is sent."""
    raise Killed


def killed_after(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Die after the request was carried out."""
    send().read()
    raise Killed


class Line(httpx.BaseTransport):
    """The connection to the server: keeps what was written, and makes the n-th request fail as it is told."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner
        self.writes: list[str] = []
        self.requests = 0
        self.refused = 0
        """Answers of 429."""
        self.faults: dict[int, Fault] = {}
        self.rules: dict[str, Fault] = {}
        """What happens to each request whose method and path end so."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        call = f"{request.method} {request.url.path}"
        if request.method != "GET":
            self.writes.append(call)
        ruled = next((fault for end, fault in self.rules.items() if call.endswith(end)), None)
        fault = self.faults.pop(self.requests, ruled)

        def send() -> httpx.Response:
            return self._inner.handle_request(request)

        answer = send() if fault is None else fault(request, send)
        self.refused += answer.status_code == 429
        return answer

    def close(self) -> None:
        self._inner.close()

    def fail(self, after: int, fault: Fault) -> None:
        """Let the request after so many more fail."""
        self.faults = {self.requests + 1 + after: fault}


class Remote:
    """The account: its server, its clock, and a client over a line that can fail."""

    def __init__(self, profile: Profile | None = None) -> None:
        self.clock = Clock()
        self.store = Store(MEMORY)
        profile = profile or Profile()
        account = make_account("local@localhost", API_KEY, SECRET)
        with self.store.atomic():
            self.store.put_account(account, digest(API_KEY))
        self.engine = Engine(self.store, profile)
        self.server = VirtualServer(self.engine, self.clock, self._deliver)
        self.line = Line(httpx.WSGITransport(create_api(self.engine, self.clock)))
        http = httpx.Client(transport=self.line)
        made = CueAPI(API_KEY, base_url="http://localhost", http_client=http)
        self.client = made.with_options(max_retries=10, wait=self.wait)
        self.ran: list[tuple[str, datetime]] = []

    def cues(self) -> dict[str, Cue]:
        """Return all cues by id."""
        return {cue.id: cue for cue in self.client.cues.iter()}

    def wait(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.server.run_until(self.clock.now + timedelta(seconds=seconds))

    def plan(self, specs: Iterable[CueSpec], owner: Owner, revision: int | None = None) -> Plan:
        intent = Intent(now=self.clock.now, revision=revision)
        return plan(specs, self.client.cues.iter(), owner=owner, intent=intent)

    def apply(self, made: Plan) -> Report:
        pace = Pace(self.client, workers=1, sleep=self.wait, clock=self.clock)
        return apply(made, pace, lambda change: None)

    def close(self) -> None:
        self.client.close()
        self.store.close()

    def _deliver(self, attempt: Attempt, now: datetime) -> Answered:
        self.ran.append((attempt.cue_id, attempt.scheduled_for))
        return Answered(status=200, error=None)
