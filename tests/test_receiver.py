"""The receiver: what each call answers, and that nothing runs twice. The table is design's "What a call answers"."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from cueapi_tasks import Context, CueTasks, Done, LedgerError, NonRetriableError
from cueapi_tasks.run.ledger.base import Answer, Claimed, Entry
from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from cueapi_tasks.run.outcome import Outcome
from cueapi_tasks.run.receiver import WAIT_SECONDS, Receiver
from cueapi_tasks.run.report import Reporter
from cueapi_tasks.run.secrets import Secrets
from cueapi_tasks.web import Request

from .support import SECRET, Clock, Reports, answer_of, envelope, receiver_of, signed, stamp_payload, stub_client


@pytest.fixture
def reports() -> Iterator[Reports]:
    with stub_client() as stub:
        yield stub


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def receiver(cue: CueTasks, ledger: Path, clock: Clock, reports: Reports) -> Iterator[Receiver]:
    with receiver_of(cue, ledger, clock, reports.client) as made:
        yield made


Calls = list[dict[str, Any]]


def declare(cue: CueTasks, behave: Callable[[Context], Any], **arguments: Any) -> Calls:
    """Declare a task `report` that behaves as told, and return the list of its calls."""
    calls: Calls = []

    def report(ctx: Context, **payload: Any) -> Any:
        calls.append(payload)
        return behave(ctx)

    cue.schedule(cron="0 9 * * *", **arguments)(report)
    return calls


def fail(ctx: Context) -> None:
    raise RuntimeError(f"attempt {ctx.attempt}")


def stamped(task: str = "report", *, app: str = "billing", env: str | None = None, most: int = 3) -> dict[str, Any]:
    stamp = {"v": 1, "app": app, "env": env, "task": task, "schedule": None, "max_attempts": most, "revision": None}
    return {"task": f"{app}/{task}", "_cueapi_tasks": stamp}


def test_a_signed_delivery_runs_the_function_and_reports_success(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    calls = declare(cue, lambda ctx: "sent")
    response = receiver.handle(signed(envelope(payload=stamped() | {"region": "eu"})))
    assert answer_of(response) == (200, "completed")
    assert calls == [{"region": "eu"}]
    assert reports.received == [{"success": True, "result": "sent"}]


def test_a_duplicate_delivery_gets_the_stored_answer_without_a_run(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    calls = declare(cue, lambda ctx: None)
    body = envelope(payload=stamped())
    answers = [answer_of(receiver.handle(signed(body | {"attempt": attempt}))) for attempt in (1, 1, 2, 3)]
    assert answers == [(200, "completed")] * 4
    assert (len(calls), len(reports.received)) == (1, 1)


def test_a_failure_with_attempts_left_is_retried_and_reported_only_at_the_end(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    calls = declare(cue, fail)
    body = envelope(payload=stamped())
    answers = [answer_of(receiver.handle(signed(body | {"attempt": attempt}))) for attempt in (1, 2, 3, 3)]
    assert answers == [(500, "raised")] * 4
    assert len(calls) == 3
    assert reports.received == [{"success": False, "error": "RuntimeError: attempt 3"}]


def test_a_retry_that_succeeds_is_a_success(cue: CueTasks, receiver: Receiver, reports: Reports) -> None:
    declare(cue, lambda ctx: fail(ctx) if ctx.attempt == 1 else "sent")
    body = envelope(payload=stamped())
    assert answer_of(receiver.handle(signed(body))) == (500, "raised")
    assert answer_of(receiver.handle(signed(body | {"attempt": 2}))) == (200, "completed")
    assert [each["success"] for each in reports.received] == [True]


def test_a_non_retriable_error_is_final_at_once_and_answered_again_without_a_run(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    def give_up(ctx: Context) -> None:
        raise NonRetriableError("no such customer")

    calls = declare(cue, give_up)
    body = envelope(payload=stamped())
    answers = [answer_of(receiver.handle(signed(body | {"attempt": attempt}))) for attempt in (1, 2, 3)]
    assert answers == [(422, "non_retriable")] * 3
    assert len(calls) == 1
    assert reports.received == [{"success": False, "error": "NonRetriableError: no such customer"}]


def test_a_payload_that_does_not_fit_is_tried_again_and_a_failure_at_the_end(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    @cue.schedule(cron="0 9 * * *", payload={"n": 1})
    def report(n: int) -> None: ...

    body = envelope(payload=stamped(most=2) | {"n": "many"})
    assert answer_of(receiver.handle(signed(body))) == (422, "payload_mismatch")
    assert reports.received == []
    assert answer_of(receiver.handle(signed(body | {"attempt": 2}))) == (422, "payload_mismatch")
    assert "n: Input should be a valid integer" in reports.received[0]["error"]


def test_a_task_unknown_to_this_code_is_left_to_newer_code_and_a_failure_at_the_end(
    receiver: Receiver, reports: Reports
) -> None:
    body = envelope(payload=stamped("brand_new", most=2))
    assert answer_of(receiver.handle(signed(body))) == (404, "unknown_task")
    assert reports.received == []
    assert answer_of(receiver.handle(signed(body | {"attempt": 2}))) == (404, "unknown_task")
    assert reports.received[0]["success"] is False


@pytest.mark.parametrize(
    ("payload", "name", "status"),
    [
        (stamped(), "billing/report", 200),
        (stamped(), "renamed by hand", 200),  # the stamp decides, not the name
        (stamped(app="shop"), "billing/report", 404),
        (stamped(env="staging"), "billing/report", 404),
        ({"task": "billing/report"}, "made by a program", 200),
        ({"task": "billing@staging/report"}, "made by a program", 404),
        ({"task": "billing/other"}, "made by a program", 404),
        ({"task": 5}, "billing/report:weekend", 200),
        ({}, "billing/report", 200),
        ({}, "shop/report", 404),
        ({}, "report", 404),
        ({"_cueapi_tasks": {"v": 99}}, "billing/report", 200),
    ],
)
def test_a_delivery_is_run_only_by_its_app_and_environment(
    cue: CueTasks,
    receiver: Receiver,
    payload: dict[str, Any],
    name: str,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = declare(cue, lambda ctx: None)
    response = receiver.handle(signed(envelope(name, payload=payload)))
    assert response.status == status
    assert len(calls) == (status == 200)
    if status == 404:
        assert answer_of(response) == (404, "other_environment")
        assert f"reason=other_environment cue={ascii(name) if ' ' in name else name} here=billing" in caplog.text


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (Request(method="GET", headers={}, body=b""), (405, "method_not_allowed")),
        (Request(method="PUT", headers={}, body=b""), (405, "method_not_allowed")),
        (Request(method="POST", headers={}, body=b"", oversized=True), (413, "body_too_large")),
        (Request(method="POST", headers={}, body=b"{}"), (401, "missing_signature")),
        (signed(envelope(), secret="other"), (401, "bad_signature")),
        (signed(envelope(), at=Clock().now.replace(hour=11)), (401, "timestamp_too_old")),
        (signed(envelope(), at=Clock().now.replace(hour=13)), (401, "timestamp_too_new")),
        (signed(b"not json"), (400, "invalid_json")),
        (signed({"event": "cue.failed"}), (400, "not_a_delivery")),
    ],
)
def test_a_request_that_is_no_fresh_signed_delivery_runs_nothing(
    cue: CueTasks, receiver: Receiver, request_: Request, answer: tuple[int, str]
) -> None:
    calls = declare(cue, lambda ctx: None)
    response = receiver.handle(request_)
    assert answer_of(response) == answer
    assert calls == []
    assert response.headers.get("Allow") == ("POST" if response.status == 405 else None)


def test_without_a_secret_nothing_runs(cue: CueTasks, caplog: pytest.LogCaptureFixture) -> None:
    app = CueTasks("billing")
    calls = declare(app, lambda ctx: None)
    assert answer_of(app.receiver.handle(signed(envelope(payload=stamped())))) == (503, "no_secret")
    app.close()
    assert calls == []
    assert "set CUEAPI_WEBHOOK_SECRET" in caplog.text


def test_without_a_ledger_nothing_runs(cue: CueTasks, clock: Clock, tmp_path: Path, reports: Reports) -> None:
    calls = declare(cue, lambda ctx: None)
    (tmp_path / "file").write_text("")
    with receiver_of(cue, tmp_path / "file" / "ledger.db", clock, reports.client) as receiver:
        assert answer_of(receiver.handle(signed(envelope(payload=stamped())))) == (503, "ledger_unavailable")
    assert calls == []


def entry(body: dict[str, Any]) -> Entry:
    return Entry(
        execution_id=body["execution_id"],
        scope="billing",
        task="report",
        cue_id="cue_abcdefghijkl",
        transport="webhook",
        attempt=1,
        max_attempts=3,
    )


def test_a_redelivery_of_a_running_execution_waits_and_then_says_so(
    cue: CueTasks, receiver: Receiver, ledger: Path, clock: Clock
) -> None:
    calls = declare(cue, lambda ctx: None)
    body = envelope(payload=stamped())
    other = SqliteLedger(ledger)
    other.claim(entry(body), lease=30)
    began = clock.now
    assert answer_of(receiver.handle(signed(body | {"attempt": 2}))) == (409, "running")
    assert WAIT_SECONDS <= (clock.now - began).total_seconds() < WAIT_SECONDS + 1
    assert calls == []
    other.close()


Meanwhile = Callable[[SqliteLedger, str, str], object]
"""What another process does with the execution of this id that it holds by this token."""


def answer_beside_another(cue: CueTasks, ledger: Path, reports: Reports, meanwhile: Meanwhile) -> tuple[int, str]:
    """Answer the second attempt of an execution that another process runs while it waits."""
    body = envelope(payload=stamped())
    other = SqliteLedger(ledger)
    claim = other.claim(entry(body), lease=30)
    assert isinstance(claim, Claimed)
    token = claim.token

    class Passing(Clock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            meanwhile(other, body["execution_id"], token)

    with receiver_of(cue, ledger, Passing(), reports.client) as receiver, closing(other):
        return answer_of(receiver.handle(signed(body | {"attempt": 2})))


def test_a_redelivery_gets_the_answer_of_the_run_that_it_waited_for(
    cue: CueTasks, ledger: Path, reports: Reports
) -> None:
    calls = declare(cue, lambda ctx: "sent")
    answer = Answer(status=422, body={"status": "failure", "reason": "non_retriable"})
    ended = answer_beside_another(
        cue, ledger, reports, lambda other, each, token: other.finish(each, token, answer, Outcome(success=False))
    )
    assert (ended, calls) == ((422, "non_retriable"), [])


def test_a_redelivery_runs_what_the_run_that_it_waited_for_gave_back(
    cue: CueTasks, ledger: Path, reports: Reports
) -> None:
    calls = declare(cue, lambda ctx: "sent")
    ended = answer_beside_another(
        cue, ledger, reports, lambda other, each, token: other.release(each, token, max_attempts=3)
    )
    assert (ended, len(calls)) == ((200, "completed"), 1)


def test_a_run_whose_process_died_runs_again_but_not_for_ever(
    cue: CueTasks, receiver: Receiver, ledger: Path, reports: Reports
) -> None:
    calls = declare(cue, lambda ctx: None)
    body = envelope(payload=stamped(most=2))
    dead = SqliteLedger(ledger)
    dead.claim(entry(body), lease=30)
    dead.close()
    with sqlite3.connect(ledger) as db:
        db.execute("UPDATE execution SET lease_until = 0, starts = 2")
    db.close()
    assert answer_of(receiver.handle(signed(body))) == (500, "process_died")
    assert calls == []
    assert reports.received == [{"success": False, "error": "process died 2 times in this run"}]


def test_a_function_that_raises_after_the_server_gave_up_reports_its_failure(
    cue: CueTasks, receiver: Receiver, ledger: Path, reports: Reports
) -> None:
    def outlive(ctx: Context) -> None:
        with sqlite3.connect(ledger) as db:  # what a refused third attempt leaves in the row meanwhile
            db.execute("UPDATE execution SET attempt = 3")
        db.close()
        raise RuntimeError("too late")

    declare(cue, outlive)
    assert answer_of(receiver.handle(signed(envelope(payload=stamped())))) == (500, "raised")
    assert reports.received == [{"success": False, "error": "RuntimeError: too late"}]


class FailingLedger(SqliteLedger):
    """A ledger whose disk is full once the function has run."""

    def finish(self, *arguments: Any) -> bool:
        raise LedgerError("ledger_unavailable", "disk full")

    def release(self, *arguments: Any, **more: Any) -> bool:
        raise LedgerError("ledger_unavailable", "disk full")


@pytest.mark.parametrize(
    ("behave", "answer", "reported"), [(lambda ctx: "sent", (200, "completed"), 1), (fail, (500, "raised"), 0)]
)
def test_once_the_function_has_run_its_answer_stands_whatever_the_ledger_does(
    cue: CueTasks,
    ledger: Path,
    clock: Clock,
    reports: Reports,
    behave: Callable[[Context], Any],
    answer: Any,
    reported: int,
) -> None:
    declare(cue, behave)
    store = FailingLedger(ledger)
    receiver = Receiver(
        registry=cue.registry,
        owner=cue.owner,
        secrets=Secrets([SECRET]),
        ledger=store,
        reporter=Reporter(store, "billing", lambda: reports.client),
        clocks=clock.clocks,
    )
    assert answer_of(receiver.handle(signed(envelope(payload=stamped())))) == answer
    assert len(reports.received) == reported
    receiver.close()


def test_an_outcome_that_could_not_be_reported_is_kept_and_sent_later(
    cue: CueTasks, ledger: Path, clock: Clock
) -> None:
    declare(cue, lambda ctx: Done(result="sent", external_id="42"))
    with stub_client(httpx.Response(503)) as down, receiver_of(cue, ledger, clock, down.client) as receiver:
        assert answer_of(receiver.handle(signed(envelope(payload=stamped())))) == (200, "completed")
    with stub_client() as up, receiver_of(cue, ledger, clock, up.client) as receiver:
        receiver.catch_up()
        receiver.close()
        assert up.received == [{"success": True, "result": "sent", "external_id": "42"}] * bool(up.received)
        assert {*statuses(ledger)} == {"done"}


def statuses(ledger: Path) -> list[str]:
    with sqlite3.connect(ledger) as db:
        found = [row[0] for row in db.execute("SELECT accepted FROM execution WHERE finished_at IS NOT NULL")]
    db.close()
    return [{1: "done", 0: "refused"}.get(accepted, "due") for accepted in found]


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        ([httpx.Response(409, json={"error": {"code": "outcome_already_recorded", "message": "m"}})], "done"),
        ([httpx.Response(404, json={"error": {"code": "execution_not_found", "message": "m"}})], "refused"),
        ([httpx.Response(422, json={}), httpx.Response(200, json={})], "done"),  # the verdict goes without its evidence
        ([httpx.Response(422, json={}), httpx.Response(422, json={})], "refused"),
        ([httpx.Response(429)], "due"),
        ([httpx.Response(401)], "due"),
    ],
)
def test_reporting_ends_when_the_api_has_the_outcome_or_will_never_take_it(
    cue: CueTasks, ledger: Path, clock: Clock, answers: list[httpx.Response], kept: str
) -> None:
    declare(cue, lambda ctx: "sent")
    with (
        stub_client(*answers, *[httpx.Response(503)] * 9) as stub,
        receiver_of(cue, ledger, clock, stub.client) as receiver,
    ):
        assert receiver.handle(signed(envelope(payload=stamped()))).status == 200
    assert statuses(ledger) == [kept]


def test_without_a_key_nothing_is_reported_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = CueTasks("billing", webhook_secret=SECRET, ledger=f"sqlite:///{tmp_path / 'l.db'}")
    declare(app, lambda ctx: None)
    now = Clock().now.now(tz=Clock().now.tzinfo)
    for _ in range(2):
        assert app.receiver.handle(signed(envelope(payload=stamped()), at=now)).status == 200
    app.close()
    assert [record.message for record in caplog.records if "CUEAPI_API_KEY" in record.message] == [
        "no outcome is reported: set CUEAPI_API_KEY"
    ]


def test_the_context_holds_the_runs_facts(cue: CueTasks, receiver: Receiver) -> None:
    seen: list[Context] = []
    declare(cue, seen.append)
    body = envelope("billing/report", payload=stamped(most=2) | {"n": 1}, attempt=2)
    receiver.handle(signed(body))
    assert seen[0] == Context(
        execution_id=body["execution_id"],
        cue_id=body["cue_id"],
        cue_name="billing/report",
        task="report",
        scheduled_for=Clock().now,
        attempt=2,
        is_last_attempt=True,
        transport="webhook",
        payload={"n": 1},
        now=Clock().now,
    )


def test_an_async_task_is_awaited(cue: CueTasks, receiver: Receiver, reports: Reports) -> None:
    @cue.schedule(cron="0 9 * * *")
    async def report() -> str:
        return "sent"

    assert answer_of(receiver.handle(signed(envelope(payload=stamped())))) == (200, "completed")
    assert reports.received == [{"success": True, "result": "sent"}]


class Odd(BaseException):
    """As the timeouts of some libraries are, which nothing but them should catch."""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SystemExit(3), "SystemExit(3)"),
        (SystemExit("secret"), "SystemExit()"),
        (KeyboardInterrupt(), "KeyboardInterrupt()"),
        (Odd("secret"), "Odd()"),
    ],
)
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_function_that_wants_to_end_the_process_fails(
    cue: CueTasks, receiver: Receiver, reports: Reports, error: BaseException, says: str, asynchronous: bool
) -> None:
    def leave() -> None:
        raise error

    async def leave_later() -> None:
        raise error

    cue.schedule(cron="0 9 * * *", task="report")(leave_later if asynchronous else leave)
    request = signed(envelope(attempt=3, payload=stamp_payload()))
    with ThreadPoolExecutor(1) as threads:
        assert answer_of(threads.submit(receiver.handle, request).result()) == (500, "raised")
    assert reports.received == [{"success": False, "error": f"the function raised {says}"}]


def test_a_plain_function_that_a_cancellation_escapes_fails(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    @cue.schedule(cron="0 9 * * *")
    def report() -> None:
        raise asyncio.CancelledError

    assert answer_of(receiver.handle(signed(envelope(attempt=3, payload=stamp_payload())))) == (500, "raised")
    assert reports.received == [{"success": False, "error": "the function raised CancelledError()"}]


def test_an_error_that_cannot_say_what_it_is_is_reported_by_its_type(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @cue.schedule(cron="0 9 * * *")
    def report() -> None:
        raise Mute

    assert answer_of(receiver.handle(signed(envelope(attempt=3, payload=stamp_payload())))) == (500, "raised")
    assert reports.received == [{"success": False, "error": "Mute"}]


def test_a_servers_way_to_end_its_process_is_not_held_up(cue: CueTasks, receiver: Receiver) -> None:
    @cue.schedule(cron="0 9 * * *")
    def report() -> None:
        raise SystemExit  # as gunicorn does from a signal's handler

    with pytest.raises(SystemExit):
        receiver.handle(signed(envelope()))


def test_a_refusal_is_logged_with_its_reason(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        receiver.handle(Request(method="POST", headers={}, body=b""))
    assert "refused status=401 reason=missing_signature" in caplog.text
