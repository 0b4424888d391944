"""What the reference server answered, asked again: equal under all of the core's quirks, and by default but for its faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cueapi import webhook
from cueapi_tasks.server.api import create_api
from cueapi_tasks.server.deliver import body_of, deliver, make_client
from cueapi_tasks.server.profile import CORE, Profile
from cueapi_tasks.server.records import Answered, Attempt
from cueapi_tasks.server.virtual import VirtualServer

from .support import API_KEY, Clock, engine_of

DATA = Path(__file__).parent / "data"
SHAPES = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<moment Z>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d"), "<moment offset>"),
    (re.compile(r"cue_[a-z0-9]{12}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
)
WORDINGS = {"message", "details", "server_time", "seconds_since_heartbeat"}
ACCOUNT_ROUTES = ("/v1/auth/", "/v1/usage", "/v1/info", "/health", "/status")

AT_ONCE = "it is delivered at once, and not up to 5 s later by the next poll cycle"
HOSTED_FIELDS = "an execution also shows what only the hosted service shows"
A_4XX = "core does not check this and answers with a 500"
DIFFERENT_BY_DEFAULT = {
    "PATCH schedule type bogus (silently ignored)": "a schedule that cannot be is refused, not ignored",
    "PATCH name to an existing name": A_4XX,
    "fire, send_at without timezone": A_4XX,
    "GET execution not a uuid": A_4XX,
    "list executions triggered_by (unknown query parameter is ignored)": "the filter filters",
    "PATCH schedule while paused (next_run is set though status stays paused)": AT_ONCE,
    "resume (PATCH status=active)": AT_ONCE,
    "list executions limit=2": AT_ONCE,
    "list executions status=success": AT_ONCE,
    "list executions status__in": AT_ONCE,
    "replay": AT_ONCE,
    "GET execution after delivery": HOSTED_FIELDS,
    "GET execution after outcome": HOSTED_FIELDS,
    "GET execution while claimed": HOSTED_FIELDS,
    "GET it": HOSTED_FIELDS,
}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"recorded_{name}.jsonl").read_text("utf-8").splitlines()]


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "#" if key in WORDINGS else shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    for pattern, name in SHAPES if isinstance(value, str) else ():
        value = pattern.sub(name, value)
    return value


def agrees(row: dict[str, Any], status: int, answer: Any) -> bool:
    if status != row["status"] or row.get("truncated"):
        return bool(status == row["status"])
    if row["path"].startswith(ACCOUNT_ROUTES) and status == 200:
        return set(row["answer"]) == set(answer)
    return bool(shape(row["answer"]) == shape(answer))


class Replay:
    """Sends the recorded requests in their order, with the ids of this run."""

    def __init__(self, http: httpx.Client, server: VirtualServer, clock: Clock, *, at_once: bool) -> None:
        self._http, self._server, self._clock, self._at_once = http, server, clock, at_once
        self._ids: dict[str, str] = {}

    def differing(self, name: str) -> Iterator[str]:
        for row in rows(name):
            self._clock.advance(milliseconds=5)
            if row["title"].startswith("(poll"):
                self._clock.advance(seconds=4)
                self._server.run_due()
                continue
            answer = self._send(row)
            was, now = row["answer"], answer.json() if answer.content else None
            for field in ("id", "execution_id"):
                if isinstance(was, dict) and isinstance(now, dict) and {field} <= was.keys() & now.keys():
                    self._ids.setdefault(was[field], now[field])
            if not agrees(row, answer.status_code, now):
                yield row["title"]
            if self._at_once:
                self._server.run_due()

    def _send(self, row: dict[str, Any]) -> httpx.Response:
        text, path = None if row["body"] is None else json.dumps(row["body"]), row["path"]
        for old, new in self._ids.items():
            text, path = text and text.replace(old, new), path.replace(old, new)
        headers = {"Content-Type": "application/json", **(row.get("headers") or {})}
        return self._http.request(row["method"], path, content=text, headers=headers)


def differing(name: str, profile: Profile, *, at_once: bool) -> list[str]:
    clock = Clock()
    with engine_of(profile=profile) as engine:
        server = VirtualServer(engine, clock, lambda attempt, now: Answered(status=200, error=None))
        server.run_due()  # the first cycle is over when the recording begins
        transport = httpx.WSGITransport(create_api(engine, clock))
        headers = {"Authorization": f"Bearer {API_KEY}"}
        with httpx.Client(transport=transport, base_url="http://localhost", headers=headers) as http:
            return [*Replay(http, server, clock, at_once=at_once).differing(name)]


@pytest.mark.parametrize("name", ["cues", "worker"])
def test_every_exchange_agrees_under_the_quirks_of_the_core(name: str) -> None:
    assert differing(name, Profile(quirks=CORE), at_once=False) == []


@pytest.mark.parametrize("name", ["cues", "worker"])
def test_by_default_only_what_is_the_cores_fault_differs(name: str) -> None:
    assert {*differing(name, Profile(), at_once=True)} <= DIFFERENT_BY_DEFAULT.keys()


RECORDED = json.loads((DATA / "deliveries.json").read_text("utf-8"))
SIGNED = [each for each in RECORDED["deliveries"] if "X-CueAPI-Signature" in each["headers"]]


@pytest.mark.parametrize("recorded", SIGNED)
def test_a_delivery_has_the_recorded_bytes_and_headers(recorded: dict[str, Any]) -> None:
    given = recorded["headers"]
    envelope = json.loads(recorded["body"] or "{}")
    known = {*["Host", "Accept", "Accept-Encoding", "Connection", "Content-Type", "Content-Length", "User-Agent"]}
    custom = (
        {}
        if recorded["signature_matches_body"]
        else {name: value for name, value in given.items() if name not in known and not name.startswith("X-CueAPI")}
    )
    attempt = Attempt(
        execution_id=given["X-CueAPI-Execution-Id"],
        cue_id=given["X-CueAPI-Cue-Id"],
        cue_name=envelope.get("name", "n"),
        number=int(given["X-CueAPI-Attempt"]),
        scheduled_for=Clock().now.fromisoformat(given["X-CueAPI-Scheduled-For"]),
        url="http://127.0.0.1:9/",
        method=recorded["method"],
        headers=custom,
        payload=envelope.get("payload", {}),
        secret=RECORDED["webhook_secret"],
    )
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b""))

    moment = Clock().now.fromtimestamp(int(given["X-CueAPI-Timestamp"]), Clock().now.tzinfo)
    with make_client(httpx.MockTransport(answer)) as client:
        deliver(client, attempt, moment)
    (request,) = sent
    if recorded["body"]:
        assert body_of(attempt).decode() == recorded["body"]
        assert request.content.decode() == recorded["body"]
    if recorded["signature_matches_body"]:
        assert dict(request.headers.multi_items()) == {name.lower(): value for name, value in given.items()}
        assert [name.lower() for name in given] == [name.lower() for name, _ in request.headers.multi_items()]
        assert request.headers[webhook.SIGNATURE_HEADER] == given["X-CueAPI-Signature"]
