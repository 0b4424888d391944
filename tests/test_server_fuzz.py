"""Anything at all on any route: never a 500, and never a change to another account's data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cueapi_tasks.server.accounts import digest, make_account
from cueapi_tasks.server.api import create_api
from cueapi_tasks.server.database import MEMORY
from cueapi_tasks.server.engine import Engine
from cueapi_tasks.server.store import Store

from .support import ACCOUNT, API_KEY, SECRET, Clock

OTHER_KEY = "cue_sk_" + "b" * 32
CUE = {"name": "theirs", "schedule": {"type": "recurring", "cron": "0 9 * * *"}, "transport": "worker"}


class Victim:
    """A server with two accounts, and what the second one owns."""

    def __init__(self) -> None:
        self.store = Store(MEMORY)
        with self.store.atomic():
            self.store.put_account(ACCOUNT, digest(API_KEY))
            self.store.put_account(make_account("other@x", OTHER_KEY, SECRET), digest(OTHER_KEY))
        self.app: Flask = create_api(Engine(self.store), Clock(), allow_register=True)
        self.http = httpx.Client(transport=httpx.WSGITransport(self.app), base_url="http://localhost")
        self.owner = {"Authorization": f"Bearer {OTHER_KEY}"}
        self.cue: str = self.http.post("/v1/cues", json=CUE, headers=self.owner).json()["id"]
        self.execution: str = self.http.post(f"/v1/cues/{self.cue}/fire", headers=self.owner).json()["id"]
        self.routes = sorted(
            {(rule.rule, method) for rule in self.app.url_map.iter_rules() for method in rule.methods or ()}
        )

    def state(self) -> Any:
        paths = ("/v1/cues", "/v1/executions", "/v1/auth/webhook-secret", "/v1/alerts", "/v1/workers")
        return [self.http.get(path, headers=self.owner).json() for path in paths]


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    made = Victim()
    yield made
    made.http.close()
    made.store.close()


odd_text = st.text(max_size=20) | st.sampled_from(["\0", "a" * 300, "cue_x", "../..", "%00", "'; --", "１"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | odd_text
    | st.sampled_from(["2027-01-01T00:00:00Z", "0 9 * * *", "UTC", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "name",
    "description",
    "schedule",
    "transport",
    "callback",
    "payload",
    "retry",
    "on_failure",
    "verification",
    "catch_up",
    "status",
    "send_at",
    "payload_override",
    "merge_strategy",
    "idempotency_key",
    "worker_id",
    "handlers",
    "success",
    "result",
    "error",
    "metadata",
    "external_id",
    "result_url",
    "result_ref",
    "result_type",
    "summary",
    "artifacts",
    "valid",
    "reason",
    "email",
    "alert_webhook_url",
]
NESTED = [
    "type",
    "cron",
    "at",
    "timezone",
    "url",
    "method",
    "headers",
    "max_attempts",
    "backoff_minutes",
    "webhook",
    "pause",
    "mode",
]
bodies = st.dictionaries(
    st.sampled_from(FIELDS), values | st.dictionaries(st.sampled_from(NESTED), values, max_size=4), max_size=6
)
plausible = st.fixed_dictionaries(
    {
        "name": odd_text,
        "schedule": st.fixed_dictionaries(
            {"type": st.sampled_from(["recurring", "once"])},
            optional={
                "cron": odd_text | st.from_regex(r"[0-9*/,LRW#@-]{1,4}( [0-9*/,LRW#@-]{1,4}){3,6}"),
                "at": values,
                "timezone": odd_text,
            },
        ),
        "transport": st.just("worker"),
    },
    optional={"payload": st.dictionaries(odd_text, values, max_size=3), "retry": values, "worker_id": odd_text},
)
raw = st.binary(max_size=60) | (bodies | plausible).map(lambda body: json.dumps(body).encode())


@given(
    pick=st.integers(0, 10_000),
    content=raw,
    kind=st.sampled_from(["application/json", "application/json; charset=latin-1", "text/plain", ""]),
    query=st.dictionaries(
        st.sampled_from(["limit", "offset", "status", "status__in", "cue_id", "task", "since", "alert_type", "x"]),
        odd_text,
        max_size=3,
    ),
    odd_id=odd_text,
    theirs=st.booleans(),
)
@settings(max_examples=800, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_on_any_route_is_answered_and_touches_nobody_else(
    victim: Victim, pick: int, content: bytes, kind: str, query: dict[str, str], odd_id: str, theirs: bool
) -> None:
    rule, method = victim.routes[pick % len(victim.routes)]
    if "regenerate" in rule:
        return  # the attacker's own key would be gone; confirmed elsewhere
    safe = quote(odd_id, safe="") or "x"
    path = rule.replace("<cue_id>", victim.cue if theirs else safe).replace("<worker_id>", safe)
    path = path.replace("<execution_id>", victim.execution if theirs else safe)
    before = victim.state()
    headers = {"Authorization": f"Bearer {API_KEY}"}
    answer = victim.app.test_client().open(
        path, method=method, data=content, headers=headers, content_type=kind, query_string=query
    )
    assert answer.status_code < 500, answer.text
    if answer.data and answer.status_code >= 400 and method != "HEAD":
        assert {"code", "message"} <= json.loads(answer.data)["error"].keys()
    assert victim.state() == before
