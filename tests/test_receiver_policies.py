"""The receiver and a task's policies: what is left out, what ends after a crash, and which attempt is the last."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cueapi_tasks import Context, CueTasks
from cueapi_tasks.run.ledger.base import Claimed, Entry
from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from cueapi_tasks.run.receiver import Receiver

from .support import NOON, Clock, Reports, answer_of, envelope, receiver_of, signed, stamp_payload, stub_client


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


def declare(cue: CueTasks, **arguments: Any) -> list[Context]:
    runs: list[Context] = []

    def report(ctx: Context) -> None:
        runs.append(ctx)

    cue.schedule(**{"cron": "0 9 * * *", **arguments})(report)
    return runs


def delivery(minutes_late: float = 0, **changes: Any) -> dict[str, Any]:
    scheduled = (NOON - timedelta(minutes=minutes_late)).isoformat()
    return envelope(payload=stamp_payload(), scheduled_for=scheduled, **changes)


def entry(body: dict[str, Any], **changes: Any) -> Entry:
    fields = {"scope": "billing", "task": "report", "cue_id": "c", "transport": "webhook"} | changes
    return Entry(execution_id=body["execution_id"], attempt=1, max_attempts=3, **fields)


def test_a_run_that_comes_too_late_is_left_out_as_a_success_that_says_so(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    runs = declare(cue, late="skip", max_late="10m")
    assert answer_of(receiver.handle(signed(delivery(11)))) == (200, "skipped")
    assert answer_of(receiver.handle(signed(delivery(9)))) == (200, "completed")
    assert len(runs) == 1
    assert reports.received[0] == {"success": True, "metadata": {"skipped": "late"}}


def test_lateness_is_judged_at_the_signature_not_at_the_arrival(
    cue: CueTasks, receiver: Receiver, clock: Clock
) -> None:
    declare(cue, late="skip", max_late="10m")
    body = delivery(9)
    clock.advance(minutes=4)
    assert answer_of(receiver.handle(signed(body, at=NOON))) == (200, "completed")


def test_what_was_decided_at_the_first_attempt_stands(cue: CueTasks, receiver: Receiver, clock: Clock) -> None:
    runs: list[Context] = []

    @cue.schedule(cron="0 9 * * *", late="skip", max_late="10m")
    def report(ctx: Context) -> None:
        runs.append(ctx)
        if ctx.attempt == 1:
            raise RuntimeError("not yet")

    body = delivery(9)
    assert answer_of(receiver.handle(signed(body))) == (500, "raised")
    clock.advance(minutes=5)
    assert answer_of(receiver.handle(signed(body | {"attempt": 2}, at=clock.now))) == (200, "completed")


def test_only_the_newest_slot_that_is_due_runs_and_a_fire_by_hand_always(cue: CueTasks, receiver: Receiver) -> None:
    runs = declare(cue, cron="*/15 * * * *", late="latest")
    answers = [answer_of(receiver.handle(signed(delivery(minutes)))) for minutes in (30, 15, 0, 31)]
    assert answers == [(200, "skipped"), (200, "skipped"), (200, "completed"), (200, "completed")]
    assert len(runs) == 2


def test_the_second_copy_of_the_repeated_hour_is_left_out(cue: CueTasks, receiver: Receiver, clock: Clock) -> None:
    runs = declare(cue, cron="30 1 * * *", timezone="America/New_York")
    clock.now = datetime(2026, 11, 1, 5, 30, tzinfo=timezone.utc)
    for answer in ("completed", "skipped"):
        body = envelope(payload=stamp_payload(), scheduled_for=clock.now.isoformat())
        assert answer_of(receiver.handle(signed(body, at=clock.now))) == (200, answer)
        clock.advance(hours=1)
    assert len(runs) == 1


@pytest.mark.parametrize(("overlap", "reason"), [("skip", "skipped"), ("allow", "completed")])
def test_a_run_beside_another_of_its_task_is_left_out_where_the_task_says_so(
    cue: CueTasks, receiver: Receiver, ledger: Path, overlap: str, reason: str
) -> None:
    declare(cue, overlap=overlap)
    other = SqliteLedger(ledger)
    assert isinstance(other.claim(entry(envelope()), lease=30), Claimed)
    assert answer_of(receiver.handle(signed(delivery()))) == (200, reason)
    other.close()


@pytest.mark.parametrize(
    ("stamp", "name", "reason"),
    [
        (stamp_payload(schedule="strict"), "billing/report:lax", "skipped"),  # the stamp decides
        (stamp_payload(schedule="lax"), "billing/report:strict", "completed"),
        ({}, "billing/report:strict", "skipped"),
        ({}, "billing/report:lax", "completed"),
        ({}, "billing/report:unknown", "completed"),
    ],
)
def test_each_schedule_of_a_task_has_its_own_policies(
    cue: CueTasks, receiver: Receiver, stamp: dict[str, Any], name: str, reason: str
) -> None:
    @cue.schedule(cron="0 9 * * *", name="lax")
    @cue.schedule(cron="0 9 * * *", name="strict", late="skip", max_late="10m")
    def report() -> None: ...

    body = envelope(name, payload=stamp, scheduled_for=(NOON - timedelta(hours=1)).isoformat())
    assert answer_of(receiver.handle(signed(body))) == (200, reason)


@pytest.mark.parametrize(("after_crash", "answer"), [("fail", (500, "crashed")), ("rerun", (200, "completed"))])
def test_a_run_whose_process_died_ends_or_runs_again_as_the_task_says(
    cue: CueTasks, receiver: Receiver, ledger: Path, reports: Reports, after_crash: str, answer: tuple[int, str]
) -> None:
    runs = declare(cue, after_crash=after_crash)
    body = delivery()
    dead = SqliteLedger(ledger)
    dead.claim(entry(body), lease=30)
    dead.close()
    with sqlite3.connect(ledger) as db:
        db.execute("UPDATE execution SET lease_until = 0")
    db.close()
    answers = [answer_of(receiver.handle(signed(body | {"attempt": attempt}))) for attempt in (2, 3)]
    assert answers == [answer, answer]
    assert (len(runs), len(reports.received)) == (int(after_crash == "rerun"), 1)


def test_the_last_attempt_is_judged_by_the_highest_that_was_seen(
    cue: CueTasks, receiver: Receiver, ledger: Path
) -> None:
    runs = declare(cue)
    body = delivery()
    other = SqliteLedger(ledger)
    claim = other.claim(entry(body), lease=30)
    assert isinstance(claim, Claimed)
    receiver.handle(signed(body | {"attempt": 3}))  # turned away while the first one ran
    other.release(body["execution_id"], claim.token, max_attempts=4)
    other.close()
    receiver.handle(signed(body | {"attempt": 2}))
    assert [(ctx.attempt, ctx.is_last_attempt) for ctx in runs] == [(2, True)]


def test_an_async_task_over_its_timeout_is_cancelled_and_an_ordinary_failure(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    cancelled: list[bool] = []

    @cue.schedule(cron="0 9 * * *", timeout=0.01, retry={"max_attempts": 2})
    async def report() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    body = envelope(payload=stamp_payload(most=2))
    assert answer_of(receiver.handle(signed(body))) == (500, "raised")
    assert answer_of(receiver.handle(signed(body | {"attempt": 2}))) == (500, "raised")
    assert cancelled == [True, True]
    assert reports.received == [
        {"success": False, "error": "TimeoutError: the function ran longer than timeout=0.01 s"}
    ]
