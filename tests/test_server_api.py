"""The embedded server's HTTP face: shapes, states and refusals, read through the SDK and raw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cueapi_tasks.server.accounts import digest, make_account
from cueapi_tasks.server.api import create_api
from cueapi_tasks.server.database import MEMORY
from cueapi_tasks.server.engine import Engine
from cueapi_tasks.server.store import Store
from cueapi_tasks.server.wire import MAX_BODY

from .support import ACCOUNT, API_KEY, SECRET, Clock

OTHER_KEY = "cue_sk_" + "b" * 32
BODY = {
    "name": "n",
    "schedule": {"type": "recurring", "cron": "0 9 * * *", "timezone": "America/New_York"},
    "callback": {"url": "http://receiver.test"},
}
ONCE = BODY | {"schedule": {"type": "once", "at": "2026-11-24T13:00:00+00:00"}}


@pytest.fixture
def engine() -> Iterator[Engine]:
    store = Store(MEMORY)
    with store.atomic():
        store.put_account(ACCOUNT, digest(API_KEY))
        store.put_account(make_account("b@x", OTHER_KEY, SECRET), digest(OTHER_KEY))
    yield Engine(store)
    store.close()


@pytest.fixture
def http(engine: Engine, clock: Clock) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    transport = httpx.WSGITransport(create_api(engine, clock))
    with httpx.Client(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


def create(http: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = http.post("/v1/cues", json=BODY | changes)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def nested(depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(depth):
        made = {"a": made}
    return made


def test_a_created_cue_has_the_documented_shape(http: httpx.Client) -> None:
    cue = create(http)
    assert cue.pop("id").startswith("cue_")
    assert cue == {
        "name": "n",
        "description": None,
        "status": "active",
        "transport": "webhook",
        "schedule": {"type": "recurring", "timezone": "America/New_York", "cron": "0 9 * * *"},
        "callback": {"url": "http://receiver.test/", "method": "POST", "headers": {}},
        "payload": {},
        "retry": {"max_attempts": 3, "backoff_minutes": [1, 5, 15]},
        "next_run": "2026-11-24T14:00:00Z",
        "last_run": None,
        "run_count": 0,
        "fired_count": 0,
        "on_failure": {"email": True, "pause": False, "webhook": None},
        "verification": None,
        "warning": None,
        "created_at": "2026-11-24T12:00:00Z",
        "updated_at": "2026-11-24T12:00:00Z",
    }


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"name": None}, 422, "validation_error"),
        ({"name": "x" * 256}, 422, "validation_error"),
        ({"schedule": {}}, 422, "validation_error"),
        ({"schedule": {"type": "weekly"}}, 400, "invalid_schedule"),
        ({"schedule": {"type": "recurring"}}, 400, "invalid_schedule"),
        ({"schedule": {"type": "recurring", "cron": "61 * * * *"}}, 400, "invalid_schedule"),
        ({"schedule": {"type": "recurring", "cron": "0 0 31 2 *"}}, 400, "invalid_schedule"),
        ({"schedule": {"type": "recurring", "cron": "0 " * 60}}, 400, "invalid_schedule"),
        ({"schedule": {"type": "recurring", "cron": "0 9 * * *", "timezone": "+02:00"}}, 422, "invalid_timezone"),
        ({"schedule": {"type": "once"}}, 400, "invalid_schedule"),
        ({"schedule": {"type": "once", "at": "2020-01-01T00:00:00Z"}}, 400, "invalid_schedule"),
        ({"callback": None}, 422, "validation_error"),
        ({"callback": {"url": "http://169.254.169.254/latest"}}, 400, "invalid_callback_url"),
        ({"callback": {"url": "http://2852039166/"}}, 400, "invalid_callback_url"),
        ({"callback": {"url": "http://[fe80::1]/"}}, 400, "invalid_callback_url"),
        ({"callback": {"url": "http://metadata.google.internal/"}}, 400, "invalid_callback_url"),
        ({"on_failure": {"webhook": "http://169.254.169.254/"}}, 400, "invalid_callback_url"),
        ({"name": "a\0b"}, 422, "validation_error"),
        ({"callback": {"url": "ftp://x"}}, 422, "validation_error"),
        ({"callback": {"url": "http://x", "method": "DELETE"}}, 422, "validation_error"),
        ({"transport": "pigeon"}, 422, "validation_error"),
        ({"payload": []}, 422, "validation_error"),
        ({"payload": {"a": "b\0c"}}, 400, "invalid_payload"),
        ({"payload": {"a": "\ud800"}}, 400, "invalid_payload"),
        ({"payload": nested(400)}, 400, "invalid_payload"),
        ({"payload": {"a": "é" * 600_000}}, 413, "request_too_large"),
        ({"payload": {str(n): 0 for n in range(98_000)}}, 400, "invalid_payload_size"),
        ({"retry": {"max_attempts": 11}}, 422, "validation_error"),
        ({"verification": {"mode": "maybe"}}, 422, "validation_error"),
    ],
)
def test_a_cue_that_could_not_run_is_refused_with_its_code(
    http: httpx.Client, changes: dict[str, Any], status: int, code: str
) -> None:
    raw = json.dumps(BODY | changes, separators=(",", ":"))
    answer = http.post("/v1/cues", content=raw, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["status"] == status
    assert http.get("/v1/cues").json()["total"] == 0


def test_zone_names_are_taken_in_any_case_and_kept_as_typed(http: httpx.Client) -> None:
    cue = create(http, schedule={"type": "recurring", "cron": "0 9 * * *", "timezone": "america/new_york"})
    assert (cue["schedule"]["timezone"], cue["next_run"]) == ("america/new_york", "2026-11-24T14:00:00Z")


def test_a_name_is_unique_among_all_cues_on_create_and_on_rename(http: httpx.Client) -> None:
    create(http)
    other = create(http, name="m")
    for answer in (http.post("/v1/cues", json=BODY), http.patch(f"/v1/cues/{other['id']}", json={"name": "n"})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "duplicate_cue_name")


@pytest.mark.parametrize(
    ("patch", "field", "value"),
    [
        ({"description": "d"}, "description", "d"),
        ({"description": None}, "description", None),
        ({"payload": {"a": 1}}, "payload", {"a": 1}),
        ({"retry": {"max_attempts": 2}}, "retry", {"max_attempts": 2, "backoff_minutes": [1, 5, 15]}),
        ({"on_failure": {"pause": True}}, "on_failure", {"email": True, "pause": True, "webhook": None}),
        ({"callback": {}}, "callback", {"url": "http://receiver.test/", "method": "POST", "headers": {}}),
        ({"schedule": {"type": "recurring", "cron": "0 9 * * *"}}, "next_run", "2026-11-25T09:00:00Z"),
        ({"verification": {"mode": "manual"}}, "verification", {"mode": "manual"}),
        ({"status": "paused"}, "next_run", None),
    ],
)
def test_a_patch_replaces_sub_objects_whole_and_null_changes_nothing(
    http: httpx.Client, patch: Any, field: str, value: Any
) -> None:
    cue = create(http, retry={"max_attempts": 5, "backoff_minutes": [9]}, on_failure={"email": False})
    answer = http.patch(f"/v1/cues/{cue['id']}", json=patch)
    assert (answer.status_code, answer.json()[field]) == (200, value)


@pytest.mark.parametrize("patch", [{"transport": "worker"}, {"colour": "red"}, {"status": "completed"}])
def test_a_patch_of_what_cannot_be_changed_is_refused(http: httpx.Client, patch: dict[str, str]) -> None:
    assert http.patch(f"/v1/cues/{create(http)['id']}", json=patch).status_code == 422


def test_resuming_computes_the_next_run_anew(http: httpx.Client, clock: Clock) -> None:
    cue = create(http)
    http.patch(f"/v1/cues/{cue['id']}", json={"status": "paused"})
    clock.advance(days=3)
    assert http.patch(f"/v1/cues/{cue['id']}", json={"status": "active"}).json()["next_run"] == "2026-11-27T14:00:00Z"


def test_lists_are_newest_first_in_pages(http: httpx.Client, clock: Clock) -> None:
    for number in range(5):
        create(http, name=f"n{number}")
        clock.advance(seconds=1)
    page = http.get("/v1/cues", params={"limit": 2, "offset": 1}).json()
    assert [cue["name"] for cue in page["cues"]] == ["n3", "n2"]
    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 1)
    assert http.get("/v1/cues", params={"status": "paused"}).json()["cues"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "offset=-1", "offset=99999999999999999999"])
def test_a_page_that_cannot_be_is_refused(http: httpx.Client, query: str) -> None:
    answer = http.get(f"/v1/cues?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["field"].startswith("query.")


def test_a_deleted_cue_is_gone_with_its_executions(http: httpx.Client) -> None:
    cue = create(http)
    fired = http.post(f"/v1/cues/{cue['id']}/fire").json()
    assert http.delete(f"/v1/cues/{cue['id']}").status_code == 204
    assert http.delete(f"/v1/cues/{cue['id']}").status_code == 404
    assert http.get(f"/v1/executions/{fired['id']}").status_code == 404


def test_a_fire_queues_an_execution_now_or_later_in_any_status(http: httpx.Client) -> None:
    cue = create(http)
    http.patch(f"/v1/cues/{cue['id']}", json={"status": "paused"})
    now = http.post(f"/v1/cues/{cue['id']}/fire", json={}).json()
    later = http.post(f"/v1/cues/{cue['id']}/fire", json={"send_at": "2026-11-24T18:00:00+05:00"}).json()
    assert (now["scheduled_for"], now["triggered_by"]) == ("2026-11-24T12:00:00+00:00", "manual_fire")
    assert later["scheduled_for"] == "2026-11-24T13:00:00+00:00"
    assert http.post(f"/v1/cues/{cue['id']}/fire", json={"send_at": "2027-01-01T00:00:00"}).status_code == 422
    assert http.get(f"/v1/cues/{cue['id']}").json()["execution_total"] == 2


def test_an_outcome_is_written_once(http: httpx.Client) -> None:
    fired = http.post(f"/v1/cues/{create(http)['id']}/fire").json()
    path = f"/v1/executions/{fired['id']}"
    answer = http.post(f"{path}/outcome", json={"success": True, "result": "sent", "unknown": 1})
    assert answer.json() == {
        "execution_id": fired["id"],
        "outcome_recorded": True,
        "outcome_state": "reported_success",
        "reason": None,
    }
    again = http.post(f"{path}/outcome", json={"success": False})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "outcome_already_recorded")
    outcome = http.get(path).json()["outcome"]
    assert (outcome["success"], outcome["result"]) == (True, "sent")


@pytest.mark.parametrize(
    ("mode", "body", "state"),
    [
        ("none", {"success": True}, "reported_success"),
        ("none", {"success": False}, "reported_failure"),
        ("manual", {"success": True}, "verification_pending"),
        ("require_external_id", {"success": True}, "verification_failed"),
        ("require_external_id", {"success": True, "external_id": "x"}, "verified_success"),
        ("require_artifacts", {"success": True, "artifacts": []}, "verification_failed"),
        ("require_result_url", {"success": False}, "reported_failure"),
    ],
)
def test_the_verification_mode_decides_what_an_outcome_reaches(
    http: httpx.Client, mode: str, body: Any, state: str
) -> None:
    cue = create(http, verification={"mode": mode})
    fired = http.post(f"/v1/cues/{cue['id']}/fire").json()
    assert http.post(f"/v1/executions/{fired['id']}/outcome", json=body).json()["outcome_state"] == state


@pytest.mark.parametrize("header", [None, "", "Bearer", "bearer " + API_KEY, "Bearer cue_sk_wrong", "Basic x"])
def test_without_the_right_key_nothing_is_answered(http: httpx.Client, header: str | None) -> None:
    headers = {"Authorization": header or ""}
    for path in ("/v1/cues", "/v1/executions", "/v1/auth/me", "/v1/auth/webhook-secret"):
        answer = http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_one_account_does_not_see_anothers(http: httpx.Client) -> None:
    cue = create(http)
    fired = http.post(f"/v1/cues/{cue['id']}/fire").json()
    headers = {"Authorization": f"Bearer {OTHER_KEY}"}
    assert http.get("/v1/cues", headers=headers).json()["total"] == 0
    for path in (f"/v1/cues/{cue['id']}", f"/v1/executions/{fired['id']}"):
        assert http.get(path, headers=headers).status_code == 404
    assert http.delete(f"/v1/cues/{cue['id']}", headers=headers).status_code == 404
    assert (
        http.post(f"/v1/executions/{fired['id']}/outcome", json={"success": True}, headers=headers).status_code == 404
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nope", 404, "http_error"),
        ("PUT", "/v1/cues", 405, "http_error"),
        ("GET", "/v1/cues/cue_x", 404, "cue_not_found"),
        ("GET", "/v1/executions/not-a-uuid", 404, "execution_not_found"),
        ("POST", "/v1/cues/cue_x/fire", 404, "cue_not_found"),
    ],
)
def test_what_is_not_there_has_its_envelope(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"", "application/json", 400),
        (json.dumps(BODY).encode(), "text/plain", 422),
        (b" " * (MAX_BODY + 1), "application/json", 413),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(http: httpx.Client, content: bytes, kind: str, status: int) -> None:
    assert http.post("/v1/cues", content=content, headers={"Content-Type": kind}).status_code == status


def test_health_needs_no_key_and_me_names_the_account(http: httpx.Client) -> None:
    assert http.get("/health", headers={"Authorization": ""}).json()["status"] == "healthy"
    assert http.get("/status", headers={"Authorization": ""}).json() == {"status": "healthy"}
    assert http.get("/v1/auth/me").json()["email"] == ACCOUNT.email
    assert http.get("/v1/auth/webhook-secret").json() == {"webhook_secret": SECRET}


def test_a_one_time_cue_shows_its_moment_with_an_offset(http: httpx.Client) -> None:
    cue = create(http, **ONCE)
    assert (cue["schedule"]["at"], cue["next_run"]) == ("2026-11-24T13:00:00+00:00", "2026-11-24T13:00:00Z")
