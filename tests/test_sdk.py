"""The SDK against the embedded server over a real socket, under its limits and its quirks, and what is repeated when."""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cueapi
from cueapi import CueAPI, verify_webhook, webhook
from cueapi_tasks.server.main import Credentials, Server
from cueapi_tasks.server.profile import CORE, FREE, Profile

from .support import API_KEY, SECRET

TOP_SECRET = "cue_sk_top_secret"
UNKNOWN = "00000000-0000-0000-0000-000000000000"
PROFILES = {"default": Profile(), "free": Profile(limits=FREE), "core": Profile(quirks=CORE)}


@pytest.fixture(params=[*PROFILES])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CueAPI]:
    credentials = Credentials(api_key=API_KEY, webhook_secret=SECRET)
    server = Server(data=tmp_path, credentials=credentials, profile=PROFILES[request.param])
    server.start()
    with CueAPI(API_KEY, base_url=server.url, max_retries=0) as made:
        yield made
    server.stop()


def worker_cue(client: CueAPI, name: str = "w", **more: Any) -> str:
    return client.cues.create(name, cron="0 9 * * *", transport="worker", payload={"task": "t"}, **more).id


def test_cues_are_created_changed_listed_and_deleted(client: CueAPI) -> None:
    cue = client.cues.create(
        "n",
        cron="0 9 * * *",
        timezone="America/New_York",
        callback="http://127.0.0.1:9/x",
        callback_method="PUT",
        callback_headers={"X-A": "1"},
        description="d",
        retry={"max_attempts": 2},
        on_failure={"pause": True},
        verification={"mode": "manual"},
    )
    assert (cue.callback.method, cue.retry.max_attempts, cue.verification) == ("PUT", 2, {"mode": "manual"})
    later = client.cues.update(
        cue.id, cron="0 8 * * *", retry={"backoff_minutes": [3]}, callback="http://127.0.0.1:9/y"
    )
    assert (later.schedule.cron, later.schedule.timezone) == ("0 8 * * *", "America/New_York")
    assert (later.retry.max_attempts, later.retry.backoff_minutes) == (2, [3])
    assert (later.callback.method, later.callback.headers) == ("PUT", {"X-A": "1"})
    moved = client.cues.update(cue.id, timezone="Europe/Berlin", on_failure={"email": False})
    assert (moved.schedule.cron, moved.schedule.timezone) == ("0 8 * * *", "Europe/Berlin")
    assert moved.on_failure is not None
    assert (moved.on_failure.email, moved.on_failure.pause) == (False, True)
    assert client.cues.pause(cue.id).status == "paused"
    assert client.cues.resume(cue.id).status == "active"
    once = client.cues.create("once", at=datetime(2099, 1, 1, tzinfo=timezone.utc), transport="worker")
    assert client.cues.update(once.id, timezone="Europe/Berlin").schedule.at == once.schedule.at
    assert [each.name for each in client.cues.iter()] == ["once", "n"]
    assert client.cues.get(once.id, execution_limit=1).execution_total == 0
    client.cues.delete(cue.id)
    with pytest.raises(cueapi.CueNotFoundError):
        client.cues.get(cue.id)


def test_executions_are_claimed_reported_verified_and_replayed(client: CueAPI) -> None:
    client.workers.heartbeat("w1", handlers=["t"])
    cue_id = worker_cue(client)
    fired = client.cues.fire(cue_id)
    (offered,) = client.executions.claimable(task="t")
    assert (offered.execution_id, offered.attempt, fired["id"]) == (fired.id, 0, fired.id)
    assert client.executions.claim(fired.id, "w1").lease_seconds == 900
    with pytest.raises(cueapi.ClaimFailedError):
        client.executions.claim(fired.id, "w2")
    assert client.executions.heartbeat(fired.id, worker_id="w1").acknowledged
    with pytest.raises(cueapi.NotExecutionOwnerError):
        client.executions.heartbeat(fired.id, worker_id="w2")
    with client.executions.handle(fired.id, {"a": 1}) as context:
        context.result, context.evidence = context.payload, {"external_id": "x1"}
    with pytest.raises(cueapi.OutcomeAlreadyRecordedError):
        client.executions.report_outcome(fired.id, success=True, result_ref="r", artifacts=(1,))
    assert client.executions.append_evidence(fired.id, summary="s").outcome_state == "reported_success"
    assert client.executions.mark_verified(fired.id, valid=False, reason="no").outcome_state == "verification_failed"
    assert client.executions.mark_verification_pending(fired.id)["outcome_state"] == "verification_pending"
    again = client.executions.replay(fired.id)
    assert client.executions.claim_next("w1").execution_id == again.id
    with pytest.raises(ValueError, match="boom"), client.executions.handle(again.id):
        raise ValueError("boom")
    assert [each.id for each in client.executions.list(status__in=["success", "failed"], cue_id=cue_id).executions] == [
        again.id,
        fired.id,
    ]
    assert [each.id for each in client.executions.iter(status="failed")] == [again.id]
    assert client.executions.get(fired.id)["outcome"]["result"] == "{'a': 1}"


def test_the_account_its_workers_alerts_and_secret(client: CueAPI) -> None:
    client.workers.heartbeat("w1")
    assert [worker.worker_id for worker in client.workers.list()] == ["w1"]
    client.workers.delete("w1")
    with pytest.raises(cueapi.WorkerNotFoundError):
        client.workers.delete("w1")
    execution = client.cues.fire(worker_cue(client, verification={"mode": "require_external_id"})).id
    client.executions.report_outcome(execution, success=True)
    assert client.alerts.list(alert_type="verification_failed").total == 1
    assert client.alerts.list(since=datetime(2090, 1, 1, tzinfo=timezone.utc)).alerts == []
    assert client.usage().cues["used"] == 1
    assert client.me().email == "local@localhost"
    old = client.webhook_secret.get()
    assert client.webhook_secret.regenerate(confirm=True) != old
    with pytest.raises(cueapi.InvalidArgumentError):
        client.webhook_secret.regenerate(confirm=False)


def test_refusals_have_the_class_of_their_code(client: CueAPI) -> None:
    worker_cue(client)
    for kind, code, call in (
        (cueapi.DuplicateCueNameError, "duplicate_cue_name", lambda: worker_cue(client)),
        (cueapi.ExecutionNotFoundError, "execution_not_found", lambda: client.executions.get(UNKNOWN)),
        (cueapi.ClaimFailedError, "claim_failed", lambda: client.executions.claim(UNKNOWN, "w")),
        (
            cueapi.InvalidScheduleError,
            "invalid_schedule",
            lambda: client.cues.create("x", cron="61 * * * *", transport="worker"),
        ),
        (cueapi.InvalidRequestError, "validation_error", lambda: client.cues.create("x", cron="0 9 * * *")),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert type(caught.value) is kind
        assert (caught.value.code, bool(caught.value.request_id)) == (code, True)


def test_the_next_call_does_not_fail_for_a_connection_that_a_500_closed(tmp_path: Path) -> None:
    server = Server(
        data=tmp_path, credentials=Credentials(api_key=API_KEY, webhook_secret=SECRET), profile=Profile(quirks=CORE)
    )
    server.start()
    with CueAPI(API_KEY, base_url=server.url, max_retries=0) as client:
        cues = [worker_cue(client, name) for name in ("a", "b")]
        for _ in range(30):
            with pytest.raises(cueapi.CueAPIServerError):
                client.cues.update(cues[0], name="b")
            assert client.cues.fire(cues[1]).status == "pending"  # a fire is never sent again
    server.stop()


def test_the_free_plans_rate_limit_is_waited_out(tmp_path: Path) -> None:
    answers = [
        httpx.Response(429, headers={"Retry-After": "0"}, json={}),
        httpx.Response(200, json={"cues": [], "total": 0, "limit": 1, "offset": 0}),
    ]
    http = httpx.Client(transport=httpx.MockTransport(lambda request: answers.pop(0)))
    with CueAPI(API_KEY, base_url="http://api.test", http_client=http) as client:
        assert client.cues.list().total == 0


CUE = {
    "id": "cue_1",
    "name": "n",
    "status": "active",
    "schedule": {"type": "recurring", "cron": "0 9 * * *"},
    "callback": {},
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
PAGE = {"cues": [CUE], "executions": [], "alerts": [], "workers": [], "total": 1, "limit": 20, "offset": 0}


class Wire:
    """A server that loses the answer to each first try, and then answers as told."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.sent: list[str] = []
        self._answers = [*answers]
        http = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.client = CueAPI(API_KEY, base_url="http://api.test", http_client=http, max_retries=1)
        self.client.http._sleep = lambda seconds: None

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(f"{request.method} {request.url.path}")
        if len(self.sent) == 1:
            raise httpx.ReadError("lost")
        return self._answers.pop(0) if self._answers else httpx.Response(200, json=PAGE | CUE)


def refusal(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": "m", "status": status}})


Calls = Callable[[CueAPI], Any]

SAFE: list[Calls] = [
    lambda c: c.cues.list(),
    lambda c: c.cues.get("cue_1"),
    lambda c: c.cues.update("cue_1", name="m"),
    lambda c: c.cues.pause("cue_1"),
    lambda c: c.cues.resume("cue_1"),
    lambda c: c.executions.list(),
    lambda c: c.executions.claimable(),
    lambda c: c.alerts.list(),
    lambda c: c.workers.list(),
]
NEVER: list[Calls] = [
    lambda c: c.cues.fire("cue_1"),
    lambda c: c.executions.claim_next("w"),
    lambda c: c.executions.replay(UNKNOWN),
    lambda c: c.executions.mark_verified(UNKNOWN),
    lambda c: c.webhook_secret.regenerate(confirm=True),
]
HEARTBEAT = httpx.Response(200, json={"acknowledged": True})
CHECKED: list[tuple[Calls, list[httpx.Response], list[httpx.Response]]] = [
    # the call; the answers that mean that the lost try was carried out; those that mean that it never was
    (
        lambda c: c.cues.create("n", cron="0 9 * * *", transport="worker"),
        [refusal(409, "duplicate_cue_name"), httpx.Response(200, json=PAGE)],
        [refusal(409, "duplicate_cue_name"), httpx.Response(200, json=PAGE | {"cues": []})],
    ),
    (lambda c: c.cues.delete("cue_1"), [refusal(404, "cue_not_found")], [refusal(403, "no")]),
    (lambda c: c.workers.delete("w"), [refusal(404, "worker_not_found")], [refusal(403, "no")]),
    (
        lambda c: c.executions.report_outcome(UNKNOWN, success=True),
        [refusal(409, "outcome_already_recorded")],
        [refusal(404, "execution_not_found")],
    ),
    (
        lambda c: c.executions.claim(UNKNOWN, "w"),
        [refusal(409, "claim_failed"), HEARTBEAT],
        [refusal(409, "claim_failed"), refusal(403, "not_execution_owner")],
    ),
]


@pytest.mark.parametrize("call", SAFE)
def test_a_safe_call_is_sent_again_after_a_lost_answer(call: Calls) -> None:
    wire = Wire()
    call(wire.client)
    assert len(wire.sent) == 2
    assert wire.sent[0] == wire.sent[1]


@pytest.mark.parametrize("call", NEVER)
def test_a_call_that_would_have_a_second_effect_is_never_sent_again(call: Calls) -> None:
    wire = Wire()
    with pytest.raises(cueapi.APIConnectionError):
        call(wire.client)
    assert len(wire.sent) == 1


@pytest.mark.parametrize(("call", "done", "not_done"), CHECKED)
def test_a_checked_call_is_sent_again_and_the_refusal_tells_whether_it_was_done(
    call: Calls, done: list[httpx.Response], not_done: list[httpx.Response]
) -> None:
    wire = Wire(*done)
    call(wire.client)
    assert wire.sent[0] == wire.sent[1]
    with pytest.raises(cueapi.CueAPIError):
        call(Wire(*not_done).client)


def test_a_first_refusal_is_a_refusal() -> None:
    for call, done, _ in CHECKED:
        http = httpx.Client(transport=httpx.MockTransport(lambda request, answer=done[0]: answer))
        with CueAPI(API_KEY, base_url="http://api.test", http_client=http) as client, pytest.raises(cueapi.CueAPIError):
            call(client)


BAD: list[tuple[str, Calls]] = [
    ("name", lambda c: c.cues.create("x" * 256, cron="0 9 * * *")),
    ("name", lambda c: c.cues.create("a\0", cron="0 9 * * *")),
    ("name", lambda c: c.cues.update("cue_1", name="x" * 256)),
    ("name", lambda c: c.cues.create("\ud800", cron="0 9 * * *")),
    ("cron", lambda c: c.cues.create("n", cron="0 " * 60)),
    ("cron", lambda c: c.cues.create("n", cron="0 0 31 2 *")),
    ("cron", lambda c: c.cues.create("n")),
    ("at", lambda c: c.cues.create("n", cron="0 9 * * *", at="2027-01-01")),
    ("timezone", lambda c: c.cues.create("n", cron="0 9 * * *", timezone="")),
    ("callback_method", lambda c: c.cues.create("n", cron="0 9 * * *", callback_method="post")),
    ("callback_method", lambda c: c.cues.update("cue_1", callback_method="DELETE")),
    ("payload", lambda c: c.cues.create("n", cron="0 9 * * *", payload={"a": float("nan")})),
    ("payload", lambda c: c.cues.create("n", cron="0 9 * * *", payload={"a": object()})),
    ("retry", lambda c: c.cues.create("n", cron="0 9 * * *", retry={"backoff_minutes": []})),
    ("send_at", lambda c: c.cues.fire("cue_1", send_at=datetime(2027, 1, 1))),
    ("cue_id", lambda c: c.cues.get("../auth/me")),
    ("cue_id", lambda c: c.cues.delete("")),
    ("execution_id", lambda c: c.executions.get("exec_1")),
    ("execution_id", lambda c: c.executions.claim("x", "w")),
    ("worker_id", lambda c: c.executions.claim(UNKNOWN, "")),
    ("external_id", lambda c: c.executions.report_outcome(UNKNOWN, success=True, external_id="x" * 256)),
    ("result_type", lambda c: c.executions.append_evidence(UNKNOWN, result_type="x" * 51)),
    ("outcome", lambda c: c.executions.report_outcome(UNKNOWN, success=True, metadata={"a": float("inf")})),
    ("limit", lambda c: c.cues.list(limit=101)),
    ("offset", lambda c: c.executions.list(offset=2**63)),
    ("handlers", lambda c: c.workers.heartbeat("w", handlers="t")),
    ("worker_id", lambda c: c.workers.delete("a/b")),
]


@pytest.mark.parametrize(("field", "call"), BAD)
def test_what_the_server_would_misunderstand_is_refused_before_a_byte_is_sent(field: str, call: Calls) -> None:
    http = httpx.Client(transport=httpx.MockTransport(lambda request: pytest.fail("sent")))
    with (
        CueAPI(API_KEY, base_url="http://api.test", http_client=http) as client,
        pytest.raises(cueapi.InvalidArgumentError) as caught,
    ):
        call(client)
    assert caught.value.field == field
    assert isinstance(caught.value, cueapi.InvalidScheduleError)
    assert isinstance(caught.value, ValueError)


def test_an_answer_that_does_not_fit_is_an_error_of_ours() -> None:
    http = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json={"cues": "many"})))
    with (
        CueAPI(API_KEY, base_url="http://api.test", http_client=http) as client,
        pytest.raises(cueapi.CueAPIError) as caught,
    ):
        client.cues.list()
    assert caught.value.code == "unexpected_answer"


def test_the_key_is_in_no_error_log_or_traceback(caplog: pytest.LogCaptureFixture) -> None:
    http = httpx.Client(
        transport=httpx.MockTransport(
            lambda request: httpx.Response(401, json={"error": {"code": "invalid_api_key", "message": "m"}})
        )
    )
    with caplog.at_level(logging.DEBUG), CueAPI(TOP_SECRET, base_url="http://api.test", http_client=http) as client:
        with pytest.raises(cueapi.AuthenticationError) as caught:
            client.cues.list()
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    ours = [line for line in shown.splitlines() if TOP_SECRET in line and "request" not in line]
    assert ours == []
    assert TOP_SECRET not in caplog.text + repr(caught.value) + repr(client) + repr(client.http)


garbage = (
    st.none()
    | st.binary(max_size=50)
    | st.text(max_size=50)
    | st.integers()
    | st.floats()
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.floats(), max_size=2)
)


@given(payload=garbage, signature=garbage, secret=garbage, timestamp=garbage)
def test_the_boolean_form_answers_true_or_false_to_anything(
    payload: Any, signature: Any, secret: Any, timestamp: Any
) -> None:
    assert verify_webhook(payload, signature, secret, timestamp) is False


def test_a_payload_that_holds_itself_is_false() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    assert verify_webhook(loop, "v1=" + "0" * 64, SECRET, str(int(time.time()))) is False


def test_an_integer_timestamp_and_a_text_in_another_spelling_verify_as_in_0_1_3() -> None:
    now, value = int(time.time()), {"b": 1, "a": "é"}
    signature = webhook.sign(json.dumps(value, sort_keys=True).encode(), secret=SECRET, timestamp=now)
    assert verify_webhook('{"b":1,"a":"é"}', signature, SECRET, now)
    assert not verify_webhook('{"b":1,"a":"é"}'.encode(), signature, SECRET, str(now))
    assert not verify_webhook(value, signature, "", str(now))


def test_a_client_of_other_options_shares_the_connections() -> None:
    with ExitStack() as stack:
        client = stack.enter_context(CueAPI(API_KEY, base_url="http://api.test"))
        other = client.with_options(timeout=1.5, max_retries=0)
        assert other.http is not client.http
        assert other.http._client is client.http._client


SDK_README = (Path(__file__).parent / "data" / "sdk_readme.md").read_text("utf-8")
README_KEY, README_SECRET = "cue_sk_your_key", "whsec_your_secret"


def test_every_example_that_users_of_the_sdk_know_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(data=tmp_path, credentials=Credentials(api_key=README_KEY, webhook_secret=README_SECRET))
    server.start()
    monkeypatch.setenv("CUEAPI_BASE_URL", server.url)
    body, now = b'{"a": 1}', int(time.time())
    headers = {
        "X-CueAPI-Signature": webhook.sign(body, secret=README_SECRET, timestamp=now),
        "X-CueAPI-Timestamp": str(now),
    }
    names: dict[str, Any] = {"request": types.SimpleNamespace(body=body, headers=headers)}
    blocks = re.findall(r"^```python\n(.*?)^```$", SDK_README, re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, "sdk_readme.md", "exec"), names)
    printed = capsys.readouterr().out
    assert len(blocks) == 5
    assert names["is_valid"] is True
    assert "Next run: 20" in printed
    assert "Cue not found" in printed
    assert [cue.name for cue in names["client"].cues.iter()] == ["worker-task", "webhook-task", "daily-report"]
    names["client"].close()
    server.stop()


def test_one_client_is_shared_by_many_threads(tmp_path: Path) -> None:
    server = Server(data=tmp_path, credentials=Credentials(api_key=API_KEY, webhook_secret=SECRET))
    server.start()
    with CueAPI(API_KEY, base_url=server.url) as client, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: worker_cue(client, f"c{number}"), range(40)))
        assert {cue.id for cue in client.cues.iter()} == {*made}
    server.stop()
