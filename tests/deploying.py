"""What the tests of deploy share: code that changes under a world, and a road to its server that can be cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cueapi import Cue, CueAPI
from cueapi_tasks import CueTasks
from cueapi_tasks.declare.binding import STAMP_KEY
from cueapi_tasks.deploy.change import Plan
from cueapi_tasks.server.api import create_api
from cueapi_tasks.server.main import Server, make_credentials
from cueapi_tasks.server.profile import Limits, Profile

from .support import API_KEY, CALLBACK, World

NAME = "billing/report"
HEAD = "from cueapi_tasks import CueTasks\ncue = CueTasks('billing')\n"
REPORT = HEAD + "@cue.schedule(cron='0 9 1 1 *', payload={'key': 'hidden'}, callback_headers={'X-Key': 'secret'})\n"
REPORT += "def report(key: str) -> None: ...\n"
"""The report as source: what the command line loads; a run of it hardly comes due while it is tested."""


class Crash(BaseException):
    """The process dies."""


@dataclass
class Wire(httpx.BaseTransport):
    """The road to a world's server, which keeps each write and breaks where it is told to."""

    inner: httpx.BaseTransport
    writes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    crash_after: int | None = None
    """Die once so many writes were carried out."""
    lose: str | None = None
    """Lose the answer of the first write of this method."""
    refuse: str | None = None
    """Answer the writes of this method with a 422, not carried out."""
    after: Callable[[], object] | None = None
    """Do this once, after the first write."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return self.inner.handle_request(request)
        if request.method == self.refuse:
            return httpx.Response(422, json={"error": {"code": "refused", "message": "no", "status": 422}})
        body = request.read()
        self.writes.append((request.method, request.url.path, json.loads(body) if body else {}))
        answer = self.inner.handle_request(request)
        if self.crash_after is not None and len(self.writes) >= self.crash_after:
            raise Crash
        then, self.after = self.after, None
        if then is not None:
            then()
        if request.method == self.lose:
            self.lose = None
            raise httpx.ReadError("lost", request=request)
        return answer

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self.writes]


def wired(world: World, **faults: Any) -> Wire:
    """Put a new road between a world's client and its server, and return it."""
    wire = Wire(httpx.WSGITransport(create_api(world.engine, world.clock)), **faults)
    world.client.close()
    world.client = CueAPI(API_KEY, base_url="http://localhost", http_client=httpx.Client(transport=wire))
    return wire


def code(world: World, name: str = "billing", **settings: Any) -> CueTasks:
    """Return the world's app after its code has changed: nothing is declared yet."""
    world.app = CueTasks(name, **settings)
    world.app.override(callback=CALLBACK)
    return world.app


def report(region: str = "us") -> None:
    """Send the report."""


def refresh() -> None:
    """Refresh."""


def declare(app: CueTasks, **options: Any) -> CueTasks:
    """Declare the report, at nine every day if nothing else is said."""
    when = {} if options.keys() & {"cron", "every", "at"} else {"cron": "0 9 * * *"}
    app.schedule(**(when | options))(report)
    return app


def cues(world: World) -> dict[str, Cue]:
    return {cue.name: cue for cue in world.client.cues.iter()}


def actions(plan: Plan) -> dict[str, str]:
    return {change.name: change.action.value for change in plan.changes}


def stamp(cue: Cue) -> dict[str, Any]:
    found = cue.payload[STAMP_KEY]
    assert isinstance(found, dict)
    return found


def in_sync(world: World, **wishes: Any) -> bool:
    """Tell whether a deploy would write nothing."""
    return world.plan(**wishes).writes == []


@contextmanager
def embedded(folder: Path, monkeypatch: pytest.MonkeyPatch, **limits: int) -> Iterator[CueAPI]:
    """Run an embedded server that the environment's settings name, and give a client of it."""
    credentials = make_credentials()
    profile = Profile(limits=Limits(**limits))
    server = Server(data=folder, credentials=credentials, profile=profile)
    server.start()
    monkeypatch.setenv("CUEAPI_API_KEY", credentials.api_key)
    monkeypatch.setenv("CUEAPI_BASE_URL", server.url)
    monkeypatch.setenv("CUEAPI_CALLBACK_URL", "https://example.com/cueapi")
    with CueAPI() as made:
        yield made
    server.stop()


def statuses(client: CueAPI) -> dict[str, str]:
    return {cue.name: cue.status for cue in client.cues.iter()}
