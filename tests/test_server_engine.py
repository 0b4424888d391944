"""The engine on a hand-set clock: schedules, attempts, retries, what survives a crash, and the delivery's exact bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cueapi import webhook
from cueapi_tasks import ServerStartError
from cueapi_tasks.server import rules
from cueapi_tasks.server.deliver import body_of, deliver, headers_of, make_client
from cueapi_tasks.server.engine import Engine
from cueapi_tasks.server.profile import Profile, Quirk
from cueapi_tasks.server.records import Answered, Attempt, Cue, CueStatus, Execution, ExecutionStatus, Page
from cueapi_tasks.server.schemas import CuePatch, ExecutionQuery, FireIn, HostedCueIn
from cueapi_tasks.server.store import Store

from .support import ACCOUNT, NOON, SECRET, engine_of

OK = Answered(status=200, error=None)
DOWN = Answered(status=503, error=None)
ALL = Page(limit=100, offset=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with engine_of(path) as made:
        yield made


def create(engine: Engine, **changes: Any) -> Cue:
    body = {
        "name": "n",
        "schedule": {"type": "recurring", "cron": "*/5 * * * *"},
        "callback": {"url": "http://receiver.test"},
    }
    return engine.cues.create(ACCOUNT, HostedCueIn.model_validate(body | changes), NOON)[0]


def once(engine: Engine, **changes: Any) -> Cue:
    at = NOON + timedelta(minutes=5)
    return create(engine, schedule={"type": "once", "at": at.isoformat()}, **changes)


def executions(engine: Engine) -> list[Execution]:
    return [*engine.executions.list(ACCOUNT, ExecutionQuery(), ALL)[0]]


def cue_now(engine: Engine, cue: Cue) -> Cue:
    return engine.cues.get(ACCOUNT, cue.id, ALL)[0]


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def test_nothing_is_fired_before_its_time_and_then_exactly_once(engine: Engine) -> None:
    create(engine)
    assert engine.scheduler.next_due() == minutes(5)
    assert engine.scheduler.tick(minutes(4.99)) == []
    (attempt,) = engine.scheduler.tick(minutes(5))
    assert (attempt.scheduled_for, attempt.number) == (minutes(5), 1)
    assert engine.scheduler.tick(minutes(5)) == []
    assert engine.scheduler.next_due() == minutes(10)


def test_what_was_missed_while_down_is_caught_up_with_once_for_its_latest_slot(engine: Engine) -> None:
    cue = create(engine)
    (attempt,) = engine.scheduler.tick(minutes(62))
    assert attempt.scheduled_for == minutes(60)
    assert cue_now(engine, cue).next_run == minutes(65)
    assert cue_now(engine, cue).fired_count == 1


def test_a_paused_cue_does_not_fire(engine: Engine) -> None:
    cue = create(engine)
    engine.cues.patch(ACCOUNT, cue.id, CuePatch(status="paused"), NOON)
    assert engine.scheduler.tick(minutes(60)) == []


def test_a_failed_attempt_is_made_again_after_the_cues_backoff_until_none_is_left(engine: Engine) -> None:
    cue = create(
        engine, retry={"max_attempts": 3, "backoff_minutes": [1, 4]}, schedule={"type": "recurring", "cron": "@yearly"}
    )
    engine.cues.fire(ACCOUNT, cue.id, FireIn(), NOON)
    made: list[tuple[int, datetime]] = []
    now: datetime | None = NOON
    while now is not None and len(made) < 9:
        for attempt in engine.scheduler.tick(now):
            made.append((attempt.number, now))
            engine.scheduler.attempted(attempt, DOWN, now)
        now = executions(engine)[0].due_at
    assert made == [(1, NOON), (2, minutes(1)), (3, minutes(5))]
    (execution,) = executions(engine)
    assert (execution.status, execution.attempts) == (ExecutionStatus.FAILED, 3)
    assert execution.error_message == "Webhook endpoint server error (503)"


def test_a_retry_uses_what_the_cue_says_now(engine: Engine) -> None:
    cue = create(engine)
    engine.cues.fire(ACCOUNT, cue.id, FireIn(), NOON)
    (attempt,) = engine.scheduler.tick(NOON)
    engine.scheduler.attempted(attempt, DOWN, NOON)
    engine.cues.patch(ACCOUNT, cue.id, CuePatch(payload={"v": 2}), NOON)
    assert [each.payload for each in engine.scheduler.tick(minutes(1)) if each.number == 2] == [{"v": 2}]


@pytest.mark.parametrize(("answered", "status"), [(OK, CueStatus.COMPLETED), (DOWN, CueStatus.FAILED)])
def test_a_one_time_cue_fires_once_and_then_has_ended(engine: Engine, answered: Answered, status: CueStatus) -> None:
    cue = once(engine, retry={"max_attempts": 1})
    (attempt,) = engine.scheduler.tick(minutes(5))
    engine.scheduler.attempted(attempt, answered, minutes(5))
    after = cue_now(engine, cue)
    assert (after.status, after.next_run) == (status, None)


def test_a_cue_that_pauses_on_failure_is_paused_after_its_last_attempt(engine: Engine) -> None:
    cue = create(engine, retry={"max_attempts": 1}, on_failure={"pause": True})
    (attempt,) = engine.scheduler.tick(minutes(5))
    engine.scheduler.attempted(attempt, DOWN, minutes(5))
    assert cue_now(engine, cue).status is CueStatus.PAUSED
    assert engine.scheduler.next_due() is None


def test_a_success_is_counted_and_kept(engine: Engine) -> None:
    cue = create(engine)
    (attempt,) = engine.scheduler.tick(minutes(5))
    engine.scheduler.attempted(attempt, OK, minutes(5))
    (execution,) = executions(engine)
    assert (execution.status, execution.http_status, execution.delivered_at) == (
        ExecutionStatus.SUCCESS,
        200,
        minutes(5),
    )
    assert cue_now(engine, cue).run_count == 1


def test_an_attempt_whose_cue_was_deleted_meanwhile_is_forgotten(engine: Engine) -> None:
    cue = create(engine)
    (attempt,) = engine.scheduler.tick(minutes(5))
    engine.cues.delete(ACCOUNT, cue.id)
    engine.scheduler.attempted(attempt, OK, minutes(5))
    assert executions(engine) == []


def test_an_attempt_that_a_crash_interrupted_is_made_again_with_its_number(path: Path, engine: Engine) -> None:
    create(engine)
    (before,) = engine.scheduler.tick(minutes(5))
    engine.scheduler.recover(minutes(6))
    (after,) = [each for each in engine.scheduler.tick(minutes(6)) if each.execution_id == before.execution_id]
    assert after.number == before.number == 1


def test_the_file_and_its_side_files_are_their_owners_alone(engine: Engine, path: Path) -> None:
    create(engine)
    kept = [*path.parent.glob("server.db*")]
    assert len(kept) > 1
    assert [file.name for file in kept if file.stat().st_mode & 0o077] == []


def test_a_second_server_on_the_same_data_is_refused(engine: Engine, path: Path) -> None:
    with pytest.raises(ServerStartError, match="another server may be running"):
        Store(path)


def test_everything_is_there_after_a_restart(path: Path) -> None:
    with engine_of(path) as before:
        cue = create(before, payload={"é": [1, None]}, description="d")
    with engine_of(path) as after:
        assert cue_now(after, cue) == cue


@pytest.mark.parametrize(
    ("catch_up", "slots"),
    [
        (None, [60]),
        ("run_once_if_missed", [60]),
        ("skip_missed", []),
        ("replay_all_missed", [5 * n for n in range(1, 13)]),
    ],
)
def test_catch_up_decides_what_becomes_of_missed_runs(engine: Engine, catch_up: str | None, slots: list[int]) -> None:
    create(engine, catch_up=catch_up)
    assert [attempt.scheduled_for for attempt in engine.scheduler.tick(minutes(62))] == [
        minutes(slot) for slot in slots
    ]
    assert engine.scheduler.next_due() == minutes(65)


def test_at_most_a_hundred_missed_runs_are_replayed(engine: Engine) -> None:
    create(engine, catch_up="replay_all_missed", schedule={"type": "recurring", "cron": "* * * * *"})
    assert sum(len(engine.scheduler.tick(minutes(300))) for _ in range(10)) == 100


def test_a_webhook_of_on_failure_is_sent_once_after_the_last_attempt(engine: Engine) -> None:
    create(engine, retry={"max_attempts": 2, "backoff_minutes": [0]}, on_failure={"webhook": "http://n.test/x"})
    for _ in range(2):
        (attempt,) = engine.scheduler.tick(minutes(5))
        assert engine.scheduler.take_notices() == []
        engine.scheduler.attempted(attempt, DOWN, minutes(5))
    (notice,) = engine.scheduler.take_notices()
    assert [*json.loads(notice.body)] == [
        "event",
        "cue_id",
        "cue_name",
        "attempts",
        "last_http_status",
        "last_error",
        "failed_at",
        "dashboard_url",
    ]
    assert (json.loads(notice.body)["attempts"], json.loads(notice.body)["last_http_status"]) == (2, 503)
    assert engine.scheduler.take_notices() == []


ATTEMPT = Attempt(
    execution_id="06362611-f87f-4eec-adc5-89e478d4e12a",
    cue_id="cue_bd9oae48kme4",
    cue_name="c-wh-cron",
    number=1,
    scheduled_for=NOON,
    url="http://receiver.test/ok",
    method="POST",
    headers={},
    payload={"k": 2, "é": {"b": 1, "a": None}},
    secret=SECRET,
)


def test_the_body_has_the_documented_bytes() -> None:
    assert body_of(ATTEMPT) == (
        b'{"attempt": 1, "cue_id": "cue_bd9oae48kme4", "execution_id": "06362611-f87f-4eec-adc5-89e478d4e12a", '
        b'"name": "c-wh-cron", "payload": {"k": 2, "\\u00e9": {"a": null, "b": 1}}, '
        b'"scheduled_for": "2026-11-24T12:00:00+00:00"}'
    )


def test_the_headers_have_the_documented_order_and_a_signature_over_the_body() -> None:
    body = body_of(ATTEMPT)
    headers = headers_of(ATTEMPT, body, NOON)
    assert [*headers] == [
        "Content-Type",
        "X-CueAPI-Signature",
        "X-CueAPI-Timestamp",
        "X-CueAPI-Cue-Id",
        "X-CueAPI-Execution-Id",
        "X-CueAPI-Scheduled-For",
        "X-CueAPI-Attempt",
        "User-Agent",
    ]
    assert headers["X-CueAPI-Signature"] == webhook.sign(body, secret=SECRET, timestamp=int(NOON.timestamp()))


def test_redirects_are_not_followed_and_what_fails_to_answer_is_an_answer_of_its_own() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/moved":
            return httpx.Response(302, headers={"Location": "/ok"}, stream=httpx.ByteStream(b""))
        if request.url.path == "/slow":
            raise httpx.ReadTimeout("slow")
        if request.url.path == "/down":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, stream=httpx.ByteStream(b"x" * 200_000))

    with make_client(httpx.MockTransport(answer)) as client:

        def get(path: str) -> Answered:
            return deliver(client, replace(ATTEMPT, url=f"http://r.test{path}"), NOON)

        assert get("/moved").status == 302
        assert get("/slow").error == "Webhook endpoint timed out"
        assert get("/down").error == "Could not connect to webhook endpoint"
        assert len(get("/ok").body) <= 64 * 1024
        assert get("\n").status is None


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, "Webhook endpoint not found (404)"),
        (408, "Webhook endpoint timed out"),
        (500, "Webhook endpoint returned server error (500)"),
        (429, "Webhook endpoint rejected request (429)"),
        (502, "Webhook endpoint server error (502)"),
        (302, "Webhook delivery failed (302)"),
    ],
)
def test_a_failing_status_has_its_documented_text(status: int, text: str) -> None:
    assert rules.failure_text(status) == text


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [([1, 5, 15], [1, 5, 15, 15]), ([2], [2, 2, 2, 2]), ([], [1, 1, 1, 1]), ([-5], [0, 0, 0, 0])],
)
def test_the_backoff_table_repeats_its_last_entry(backoff: list[int], waits: list[int]) -> None:
    assert [rules.retry_delay(k, backoff) for k in (1, 2, 3, 4)] == [timedelta(minutes=wait) for wait in waits]


def test_a_moment_out_of_range_is_refused() -> None:
    with pytest.raises(rules.ApiError, match="out of range"):
        rules.in_utc(datetime.fromisoformat("0001-01-01T00:00:00+14:00"))


def test_an_expression_whose_years_have_passed_has_no_next_run(engine: Engine) -> None:
    create(engine, schedule={"type": "recurring", "cron": "0 0 1 1 * 0 2027"})
    (attempt,) = engine.scheduler.tick(datetime(2027, 1, 1, tzinfo=NOON.tzinfo))
    assert attempt.scheduled_for == datetime(2027, 1, 1, tzinfo=NOON.tzinfo)
    assert engine.scheduler.next_due() is None


@pytest.mark.parametrize("payload", [{"n": float("inf")}, {"text": "\ud800"}])
def test_a_payload_that_json_cannot_carry_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(rules.Unchecked, match="JSON cannot carry"):
        rules.check_payload(payload)


def test_a_run_that_the_core_takes_for_dead_on_its_last_attempt_has_failed(path: Path) -> None:
    with engine_of(path, Profile(quirks=frozenset({Quirk.STALE_SWEEP}))) as engine:
        cue = create(engine, transport="worker", retry={"max_attempts": 1}, on_failure={"webhook": "http://n.test"})
        execution = engine.cues.fire(ACCOUNT, cue.id, FireIn(), NOON)
        engine.executions.claim(ACCOUNT, execution.id, "w", NOON)
        assert engine.scheduler.tick(minutes(6)) == []
        failed = next(each for each in executions(engine) if each.id == execution.id)
        assert (failed.status, failed.error_message) == (
            ExecutionStatus.FAILED,
            "Recovered from stale delivering state after 300s",
        )
        assert len(engine.scheduler.take_notices()) == 1
