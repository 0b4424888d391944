"""What the tests of deploy share: code that changes under a world, and a road to its server that can be cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from cueapi import Cue, CueAPI
from cueapi_tasks import CueTasks
from cueapi_tasks.declare.binding import STAMP_KEY
from cueapi_tasks.deploy.change import Plan
from cueapi_tasks.server.api import create_api

from .support import API_KEY, CALLBACK, World

NAME = "billing/report"


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
