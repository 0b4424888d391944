"""Claims, heartbeats, verification, replay, and each quirk of the core beside what the server does by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest

from cueapi_tasks import ConfigurationError
from cueapi_tasks.server.api import create_api
from cueapi_tasks.server.engine import Engine
from cueapi_tasks.server.profile import CORE, FREE, Limits, Profile, Quirk, make_profile
from cueapi_tasks.server.records import Answered
from cueapi_tasks.server.rules import ApiError
from cueapi_tasks.server.virtual import VirtualServer

from .support import ACCOUNT, API_KEY, Clock, engine_of

CRON = {"type": "recurring", "cron": "0 9 * * *"}


class Api:
    """A server in one process, its clock and a client."""

    def __init__(self, engine: Engine, http: httpx.Client, clock: Clock) -> None:
        self.engine, self.http, self.clock = engine, http, clock
        self.answers: Callable[..., Answered] = lambda attempt, now: Answered(status=200, error=None)
        self.server = VirtualServer(engine, clock, lambda attempt, now: self.answers(attempt, now))

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        answer = self.http.request(
            method, path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def cue(self, name: str = "w", **changes: Any) -> str:
        body = {"name": name, "schedule": CRON, "transport": "worker", "payload": {"task": "t"}}
        return str(self("POST", "/v1/cues", body | changes, 201)["id"])

    def fire(self, cue_id: str, **body: Any) -> str:
        self.clock.advance(milliseconds=1)
        return str(self("POST", f"/v1/cues/{cue_id}/fire", body)["id"])

    def claim(self, execution_id: str, worker: str = "w1", status: int = 200) -> Any:
        return self("POST", f"/v1/executions/{execution_id}/claim", {"worker_id": worker}, status)

    def outcome(self, execution_id: str, status: int = 200, **body: Any) -> Any:
        return self("POST", f"/v1/executions/{execution_id}/outcome", {"success": True} | body, status)

    def status(self, execution_id: str) -> str:
        return str(self("GET", f"/v1/executions/{execution_id}")["status"])

    def claimable(self, query: str = "") -> list[str]:
        return [each["execution_id"] for each in self("GET", f"/v1/executions/claimable{query}")["executions"]]

    def later(self, seconds: float) -> None:
        self.server.run_until(self.clock.now.fromtimestamp(self.clock.timestamp() + seconds, self.clock.now.tzinfo))


Apis = Callable[..., Api]


@pytest.fixture
def apis() -> Iterator[Apis]:
    with ExitStack() as stack:

        def make(*quirks: Quirk, limits: Limits | None = None, **options: Any) -> Api:
            profile = Profile(quirks=frozenset(quirks), limits=limits or Limits())
            engine, clock = stack.enter_context(engine_of(profile=profile)), Clock()
            transport = httpx.WSGITransport(create_api(engine, clock, **options), raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {API_KEY}"}
            http = stack.enter_context(httpx.Client(transport=transport, base_url="http://localhost", headers=headers))
            return Api(engine, http, clock)

        yield make


def test_an_execution_is_claimed_kept_alive_and_ended_by_one_worker(apis: Apis) -> None:
    api = apis()
    execution = api.fire(api.cue())
    assert api.claimable() == [execution]
    assert api.claim(execution) == {"claimed": True, "execution_id": execution, "lease_seconds": 900}
    api.claim(execution, "w2", 409)
    assert api.claimable() == []
    assert api("POST", f"/v1/executions/{execution}/heartbeat", X_Worker_Id="w1")["acknowledged"]
    api("POST", f"/v1/executions/{execution}/heartbeat", status=403, X_Worker_Id="w2")
    assert api.outcome(execution, result="done")["outcome_state"] == "reported_success"
    assert api.status(execution) == "success"
    api.outcome(execution, 409)


def test_a_failure_that_a_worker_reports_is_final(apis: Apis) -> None:
    api = apis()
    execution = api.fire(api.cue(on_failure={"pause": True}))
    api.outcome(execution, success=False, error="boom")
    assert api.status(execution) == "failed"
    assert api("GET", "/v1/cues")["cues"][0]["status"] == "active"


def test_a_claim_that_expired_is_offered_again_unless_the_worker_or_the_run_shows_itself(apis: Apis) -> None:
    api = apis()
    execution = api.fire(api.cue())
    api.claim(execution)
    api.later(890)
    api("POST", f"/v1/executions/{execution}/heartbeat")
    api.later(890)
    assert api.status(execution) == "delivering"
    api("POST", "/v1/worker/heartbeat", {"worker_id": "w1"})
    api.later(170)
    assert api.status(execution) == "delivering"
    api.later(60)
    assert api.claimable() == [execution]
    assert api.claim(execution, "w2")["claimed"]


def test_claimable_is_filtered_by_task_before_it_is_cut_to_a_page(apis: Apis) -> None:
    for quirks, offered in (((), 1), ((Quirk.LIMIT_BEFORE_TASK_FILTER,), 0)):
        api = apis(*quirks)
        cue = api.cue()
        for _ in range(50):
            api.fire(cue)
        api.fire(api.cue("late", payload={"task": "other"}))
        assert len(api.claimable("?task=other")) == offered
        assert len(api.claimable()) == 50


def test_a_payload_whose_task_is_no_text_does_not_break_the_listing(apis: Apis) -> None:
    api = apis()
    api.fire(api.cue(payload={"task": 5}))
    assert api("GET", "/v1/executions/claimable")["executions"][0]["task"] is None


def test_a_worker_fire_for_later_waits_until_then(apis: Apis) -> None:
    for quirks, early in (((), False), ((Quirk.FUTURE_FIRES_CLAIMABLE,), True)):
        api = apis(*quirks)
        execution = api.fire(api.cue(), send_at="2026-11-24T13:00:00Z")
        assert (execution in api.claimable()) == early
        api.claim(execution, status=200 if early else 409)
        if not early:
            api.later(3600)
            assert api.claimable() == [execution]


def test_an_unclaimed_execution_is_missed_only_under_the_quirk(apis: Apis) -> None:
    for quirks, status in (((), "pending"), ((Quirk.MISSED_AFTER_900,), "missed")):
        api = apis(*quirks)
        execution = api.fire(api.cue())
        api.later(1000)
        assert api.status(execution) == status


def test_an_expired_claim_is_missed_under_the_quirk_though_the_run_showed_itself(apis: Apis) -> None:
    api = apis(Quirk.MISSED_AFTER_900)
    execution = api.fire(api.cue())
    api.claim(execution)
    api.later(600)
    api("POST", f"/v1/executions/{execution}/heartbeat")
    api.later(310)
    assert api.status(execution) == "missed"


def test_a_run_without_heartbeats_is_retried_as_a_webhook_only_under_the_quirk(apis: Apis) -> None:
    for quirks, statuses in (((), {"delivering"}), ((Quirk.STALE_SWEEP,), {"retrying"})):
        api = apis(*quirks)
        api.answers = lambda attempt, now: Answered(status=None, error="URL must have a hostname")
        execution = api.fire(api.cue())
        api.claim(execution)
        api.later(299)
        assert api.status(execution) == "delivering"
        api.later(2)
        assert api.status(execution) in statuses
        api.later(60 * 30)
        assert api.status(execution) == ("failed" if quirks else "pending")
        api.outcome(execution, result="late")
        assert api.status(execution) == "success"


def test_an_execution_heartbeat_holds_the_stale_sweep_off(apis: Apis) -> None:
    api = apis(Quirk.STALE_SWEEP)
    execution = api.fire(api.cue())
    api.claim(execution)
    for _ in range(3):
        api.later(290)
        api("POST", f"/v1/executions/{execution}/heartbeat")
    assert api.status(execution) == "delivering"


def test_fire_keys_of_the_hosted_service_work_and_are_dropped_under_the_quirk(apis: Apis) -> None:
    for quirks, payload in (((), {"task": "t", "n": 1}), ((Quirk.IGNORED_FIRE_KEYS,), {"task": "t"})):
        api = apis(*quirks)
        cue = api.cue()
        first = api.fire(cue, payload_override={"n": 1}, idempotency_key="k")
        offered = api("GET", "/v1/executions/claimable")["executions"]
        assert offered[0]["payload"] == payload
        again = api.fire(cue, payload_override={"n": 1}, idempotency_key="k")
        assert (again == first) == (not quirks)
        api("POST", f"/v1/cues/{cue}/fire", {"idempotency_key": "k"}, 200 if quirks else 409)
    assert apis()("POST", "/v1/cues/cue_x/fire", {"payload_override": []}, 422)


def test_an_override_can_replace_the_payload_whole(apis: Apis) -> None:
    api = apis()
    execution = api.fire(api.cue(), payload_override={"n": 1}, merge_strategy="replace")
    assert api("GET", f"/v1/executions/{execution}")["payload"] == {"n": 1}


def test_what_the_core_does_not_check_is_a_4xx_and_a_500_under_the_quirk(apis: Apis) -> None:
    bodies: list[tuple[str, str, Any]] = [
        (
            "POST",
            "/v1/cues",
            {"name": "a", "schedule": {"type": "recurring", "cron": "0 0 31 2 *"}, "transport": "worker"},
        ),
        (
            "POST",
            "/v1/cues",
            {"name": "a", "schedule": {"type": "recurring", "cron": "0 " * 60}, "transport": "worker"},
        ),
        ("POST", "/v1/cues", {"name": "a\0", "schedule": CRON, "transport": "worker"}),
        ("PATCH", "/v1/cues/CUE", {"name": "taken"}),
        ("PATCH", "/v1/cues/CUE", {"name": "x" * 256}),
        ("PATCH", "/v1/cues/CUE", {"callback": {"method": "post"}}),
        ("POST", "/v1/cues/CUE/fire", {"send_at": "2027-01-01T00:00:00"}),
        ("GET", "/v1/executions/not-a-uuid", None),
        ("POST", "/v1/executions/not-a-uuid/claim", {"worker_id": "w"}),
        ("PATCH", "/v1/executions/EXECUTION/evidence", {"external_id": 5}),
        ("POST", "/v1/executions/EXECUTION/outcome", {"success": True, "external_id": "x" * 300}),
        ("GET", "/v1/cues?offset=99999999999999999999", None),
    ]
    for quirks in ((), (Quirk.INTERNAL_ERRORS,)):
        api = apis(*quirks)
        cue = api.cue()
        api.cue("taken")
        execution = api.fire(cue)
        for method, path, body in bodies:
            answer = api.http.request(method, path.replace("CUE", cue).replace("EXECUTION", execution), json=body)
            assert (answer.status_code == 500) == bool(quirks), (path, body, answer.text)
            assert answer.status_code >= 400
            assert ("X-Request-Id" in answer.headers) == (not quirks)


def test_after_a_500_the_answer_asks_for_a_dropped_connection_only_under_the_quirk(apis: Apis) -> None:
    for quirks, dropped in ((set[Quirk](), False), ({Quirk.DROPPED_CONNECTION}, True)):
        api = apis(Quirk.INTERNAL_ERRORS, *quirks)
        assert ("X-Drop-Connection" in api.http.get("/v1/executions/x").headers) == dropped


def test_claim_next_gives_one_execution_to_one_worker_and_to_several_under_the_quirk(apis: Apis) -> None:
    for quirks, claims in (((), 1), ((Quirk.RACY_CLAIM_NEXT,), 2)):
        api = apis(*quirks)
        api.fire(api.cue())
        assert racing_claims(api) == claims


def racing_claims(api: Api) -> int:
    """Count the claims when a second caller comes in as soon as the first one's first transaction is over."""
    executions, store = api.engine.executions, api.engine.executions._store
    won: list[str] = []
    real, callers = store.atomic, ["second"]

    def claim(worker: str) -> None:
        with suppress(ApiError):  # nothing is left to be claimed
            won.append(executions.claim_next(ACCOUNT, worker, api.clock.now).id)

    @contextmanager
    def atomic() -> Iterator[None]:
        with real():
            yield
        if callers:
            claim(callers.pop())

    store.__dict__["atomic"] = atomic
    claim("first")
    return len(won)


def test_after_downtime_a_cue_runs_once_and_for_each_slot_under_the_quirk(apis: Apis) -> None:
    for quirks, runs in (((), 1), ((Quirk.REPLAYED_SLOTS,), 12)):
        api = apis(*quirks)
        api.cue(schedule={"type": "recurring", "cron": "*/5 * * * *"})
        api.clock.advance(hours=1)
        api.later(59)
        assert api("GET", "/v1/executions")["total"] == runs


def test_what_is_due_runs_at_once_and_at_the_next_cycle_under_the_quirk(apis: Apis) -> None:
    for quirks, due in (((), 0.0), ((Quirk.POLL_CYCLE,), 5.0)):
        api = apis(*quirks)
        api.server.run_due()
        api.fire(api.cue("hook", transport="webhook", callback={"url": "http://r.test"}))
        moment = api.engine.scheduler.next_due()
        assert moment is not None
        assert round((moment - api.clock.now).total_seconds()) == due


def test_the_remaining_quirks_show_in_an_answer(apis: Apis) -> None:
    core = apis(*CORE)
    sane = apis()
    for api in (core, sane):
        cue = api.cue()
        execution = api.fire(cue)
        seen = {
            "fields": "payload" in api("GET", f"/v1/executions/{execution}"),
            "filtered": api("GET", "/v1/executions?triggered_by=replay")["total"] == 0,
            "catch_up": api.http.patch(f"/v1/cues/{cue}", json={"catch_up": "skip_missed"}).status_code,
            "type": api.http.patch(f"/v1/cues/{cue}", json={"schedule": {"type": "weekly"}}).status_code,
            "method": api.http.post(
                "/v1/cues",
                json={"name": "m", "schedule": CRON, "callback": {"url": "http://x.test", "method": "DELETE"}},
            ).status_code,
        }
        expected = {"fields": True, "filtered": True, "catch_up": 200, "type": 400, "method": 422}
        odd = {"fields": False, "filtered": False, "catch_up": 422, "type": 200, "method": 409}
        assert seen == (odd if api is core else expected)


def test_an_ended_execution_is_replayed_with_what_its_cue_says_now(apis: Apis) -> None:
    api = apis()
    cue = api.cue()
    execution = api.fire(cue)
    assert api("POST", f"/v1/executions/{execution}/replay", status=409)["error"]["code"] == "execution_in_flight"
    api.outcome(execution)
    api("PATCH", f"/v1/cues/{cue}", {"payload": {"task": "t", "v": 2}})
    again = api("POST", f"/v1/executions/{execution}/replay")
    assert (again["triggered_by"], again["replayed_from"]) == ("replay", execution)
    assert api("GET", f"/v1/executions/{again['id']}")["payload"] == {"task": "t", "v": 2}


def test_an_outcome_is_verified_put_back_and_given_evidence(apis: Apis) -> None:
    api = apis()
    execution = api.fire(api.cue())
    path = f"/v1/executions/{execution}"
    for method, verb, code in (
        ("POST", "verify", "invalid_state"),
        ("POST", "verification-pending", "no_outcome"),
        ("PATCH", "evidence", "no_outcome"),
    ):
        refused = api(method, f"{path}/{verb}", {}, 409)["error"]
        assert (refused["code"], "status" in refused) == (code, code != "no_outcome")
    api.outcome(execution)
    assert api("POST", f"{path}/verify", {"valid": False, "reason": "no"})["outcome_state"] == "verification_failed"
    api("POST", f"{path}/verify", {}, 409)
    assert api("POST", f"{path}/verification-pending")["outcome_state"] == "verification_pending"
    assert api("POST", f"{path}/verify")["outcome_state"] == "verified_success"
    api("PATCH", f"{path}/evidence", {"external_id": "x1", "summary": "s" * 600})
    shown = api("GET", path)
    assert (shown["evidence_external_id"], len(shown["evidence_summary"])) == ("x1", 500)


def test_lists_are_filtered_and_refuse_filters_that_contradict(apis: Apis) -> None:
    api = apis()
    cue = api.cue()
    one, two, three = (api.fire(cue) for _ in range(3))
    api.claim(one, "w9")
    api.outcome(two)

    def ids(query: str) -> list[str]:
        return [each["id"] for each in api("GET", f"/v1/executions?{query}")["executions"]]

    assert ids("") == [three, two, one]
    assert ids("status=success") == [two]
    assert ids("status__in=pending,,delivering") == [three, one]
    assert ids("worker_id=w9") == [one]
    assert ids("outcome_state=reported_success") == [two]
    assert ids("triggered_by=scheduled") == []
    assert ids("status=&cue_id=cue_other") == []
    assert api("GET", "/v1/executions?limit=2")["has_more"] is True
    assert api("GET", "/v1/executions")["oldest_claimed_at"].endswith("+00:00")
    assert api("GET", "/v1/executions?status=a&status__in=b", status=400)["error"]["code"] == "conflicting_filters"
    assert api("GET", "/v1/executions?status__in=,", status=400)["error"]["code"] == "invalid_status_in"


def test_workers_are_listed_by_how_they_were_last_heard_of(apis: Apis) -> None:
    api = apis()
    assert api("POST", "/v1/worker/heartbeat", {"worker_id": "a", "handlers": ["t"]})["acknowledged"]
    api.clock.advance(seconds=200)
    api("POST", "/v1/worker/heartbeat", {"worker_id": "b"})
    found = api("GET", "/v1/workers")["workers"]
    assert [(each["worker_id"], each["heartbeat_status"], each["handlers"]) for each in found] == [
        ("b", "active", None),
        ("a", "stale", ["t"]),
    ]
    api.clock.advance(seconds=900)
    assert api("GET", "/v1/workers")["workers"][1]["heartbeat_status"] == "dead"
    api("DELETE", "/v1/workers/a", status=204)
    api("DELETE", "/v1/workers/a", status=404)
    assert api("POST", "/v1/cues", {"name": "x", "schedule": CRON, "transport": "worker"}, 201)["warning"]


def test_alerts_tell_of_failed_verification_and_of_failures_in_a_row(apis: Apis) -> None:
    api = apis()
    api("PATCH", "/v1/auth/me", {"alert_webhook_url": "http://alerts.test/"})
    assert api("GET", "/v1/auth/alert-webhook-secret")["alert_webhook_secret"]
    cue = api.cue(verification={"mode": "require_external_id"})
    api.outcome(api.fire(cue))
    for _ in range(3):
        api.outcome(api.fire(cue), success=False)
    found = api("GET", "/v1/alerts")
    assert [each["alert_type"] for each in found["alerts"]] == ["consecutive_failures", "verification_failed"]
    assert api("GET", "/v1/alerts?alert_type=verification_failed")["total"] == 1
    assert api("GET", "/v1/alerts?since=2030-01-01")["total"] == 0
    assert api("GET", "/v1/alerts?alert_type=odd", status=400)["error"]["code"] == "invalid_filter"
    notices = api.engine.scheduler.take_notices()
    assert [notice.headers["X-CueAPI-Alert-Type"] for notice in notices] == [
        "verification_failed",
        "consecutive_failures",
    ]


def test_keys_and_secrets_are_replaced_only_when_that_is_confirmed(apis: Apis) -> None:
    api = apis()
    for path in ("webhook-secret", "key", "alert-webhook-secret"):
        assert api("POST", f"/v1/auth/{path}/regenerate", status=400)["error"]["code"] == "confirmation_required"
        api("POST", f"/v1/auth/{path}/regenerate", status=400, X_Confirm_Destructive="True")
    old = api("GET", "/v1/auth/webhook-secret")["webhook_secret"]
    new = api("POST", "/v1/auth/webhook-secret/regenerate", X_Confirm_Destructive="true")
    assert (new["webhook_secret"] != old, new["previous_secret_revoked"]) == (True, True)
    assert api("GET", "/v1/auth/key")["api_key"] is None
    key = api("POST", "/v1/auth/key/regenerate", X_Confirm_Destructive="true")["api_key"]
    assert api("GET", "/v1/auth/me", status=401)["error"]["code"] == "key_rotated"
    api.clock.advance(hours=25)
    assert api("GET", "/v1/auth/me", status=401)["error"]["code"] == "invalid_api_key"
    assert api("GET", "/v1/auth/me", Authorization=f"Bearer {key}")["api_key_prefix"] == key[:12]


def test_registering_is_off_unless_it_is_allowed(apis: Apis) -> None:
    assert apis()("POST", "/v1/auth/register", {"email": "a@b.c"}, 404)["error"]["code"] == "not_found"
    api = apis(allow_register=True)
    key = api("POST", "/v1/auth/register", {"email": "A@B.c"}, 201)["api_key"]
    assert api("GET", "/v1/auth/me", Authorization=f"Bearer {key}")["email"] == "A@b.c"
    assert api("POST", "/v1/auth/register", {"email": "A@b.C"}, 409)["error"]["code"] == "duplicate_email"
    api("POST", "/v1/auth/register", {"email": "nobody"}, 422)
    assert api("PATCH", "/v1/auth/me", {}, 422)["error"]["code"] == "no_fields"
    assert api("PATCH", "/v1/auth/me", {"email": "A@b.c"}, 409)["error"]["code"] == "duplicate_email"
    assert (
        api("PATCH", "/v1/auth/me", {"alert_webhook_url": "ftp://x"}, 400)["error"]["code"]
        == "invalid_alert_webhook_url"
    )


def test_the_free_plan_limits_cues_executions_and_requests(apis: Apis) -> None:
    api = apis(limits=Limits(requests_per_minute=FREE.requests_per_minute, cues=2, executions_per_month=1))
    hook = {
        "transport": "webhook",
        "callback": {"url": "http://r.test"},
        "schedule": {"type": "recurring", "cron": "* * * * *"},
    }
    api.cue("one", **hook)
    api.cue("two")
    body = {"name": "three", "schedule": CRON, "transport": "worker"}
    assert api("POST", "/v1/cues", body, 403)["error"]["code"] == "cue_limit_exceeded"
    assert api("POST", "/v1/cues", body | {"name": "two"}, 409)["error"]["code"] == "duplicate_cue_name"
    api.later(120)
    statuses = {each["status"]: each["error_message"] for each in api("GET", "/v1/executions")["executions"]}
    assert statuses == {"success": None, "failed": "Monthly execution limit reached"}
    usage = api("GET", "/v1/usage")
    assert (usage["executions"]["used"], usage["cues"]["used"], usage["executions"]["remaining"]) == (1, 2, 0)
    while (answer := api.http.get("/v1/cues")).status_code == 200:
        assert int(answer.headers["X-RateLimit-Limit"]) == 60
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    api.clock.advance(seconds=float(answer.headers["Retry-After"]))
    assert api.http.get("/v1/cues").status_code == 200
    assert "X-RateLimit-Limit" not in api.http.get("/health").headers


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.test"}, "host_not_allowed"),
        ({"Host": "169.254.169.254"}, "host_not_allowed"),
        ({"Host": "["}, "host_not_allowed"),
        ({"Origin": "https://evil.test"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"Host": "127.0.0.1:8700", "Origin": "http://localhost:3000"}, None),
        ({"Host": "[::1]:8700"}, None),
        ({"Host": "added.test"}, None),
    ],
)
def test_a_web_page_cannot_reach_the_server_through_a_browser(
    apis: Apis, headers: dict[str, str], code: str | None
) -> None:
    api = apis(hosts=("127.0.0.1", "localhost", "::1", "added.test"))
    answer = api.http.get("/v1/cues", headers=headers)
    assert (answer.status_code, answer.json().get("error", {}).get("code")) == ((403, code) if code else (200, None))


def test_the_echo_shows_what_was_received(apis: Apis) -> None:
    api = apis()
    body = {"worker_id": "w", "handlers": ["é"]}
    echoed = api("POST", "/v1/worker/heartbeat", body, X_CueAPI_Verify_Echo="True")
    assert echoed["body_received"] == body
    assert len(echoed["body_received_sha256"]) == 64
    assert "body_received" not in api("POST", "/v1/worker/heartbeat", body)


@pytest.mark.parametrize(
    ("quirks", "limits", "says"), [(["nonsense"], None, "there is no quirk 'nonsense'"), ([], "gold", "there is free")]
)
def test_an_unknown_quirk_or_limit_is_refused_naming_those_that_are(
    quirks: list[str], limits: str | None, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make_profile(quirks=quirks, limits=limits)


def test_quirks_are_named_one_by_one_or_all_together() -> None:
    assert make_profile(quirks=["core"]).quirks == CORE
    assert make_profile(quirks=["stale-sweep,poll-cycle", "racy-claim-next"]).quirks == {
        Quirk.STALE_SWEEP,
        Quirk.POLL_CYCLE,
        Quirk.RACY_CLAIM_NEXT,
    }
    assert make_profile(limits="free").limits == FREE
