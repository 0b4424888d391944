"""The receiver where settings, ledger, API, hooks and the calendar do their worst: never a 500 of its own, nothing lost."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from cueapi import CueAPI
from cueapi_tasks import Context, CueTasks, Done, LedgerError
from cueapi_tasks.config import Settings
from cueapi_tasks.run.account import outcome_client
from cueapi_tasks.run.ledger.base import Answer, Claimed, Ledger, Report
from cueapi_tasks.run.ledger.memory import MemoryLedger
from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from cueapi_tasks.run.ledger.tokens import execution_of
from cueapi_tasks.run.outcome import Outcome
from cueapi_tasks.run.receiver import CATCH_UP_SECONDS, Receiver
from cueapi_tasks.run.report import Reporter

from .claiming import entry
from .remote import Killed
from .support import Clock, Reports, answer_of, envelope, receiver_of, signed, stamp_payload, stub_client

LAST = 3


@pytest.fixture
def reports() -> Iterator[Reports]:
    with stub_client() as stub:
        yield stub


@pytest.fixture
def receiver(cue: CueTasks, tmp_path: Path, clock: Clock, reports: Reports) -> Iterator[Receiver]:
    with receiver_of(cue, tmp_path / "ledger.db", clock, reports.client) as made:
        yield made


# bodies that CueAPI never sent


@pytest.mark.parametrize(
    "odd",
    [{"max_attempts": 10**30}, {"max_attempts": -1}, {"task": "\ud800"}, {"task": "a\0b"}, {"app": "x" * 10 + "/"}],
)
def test_an_odd_stamp_is_none_and_fails_in_no_store(cue: CueTasks, receiver: Receiver, odd: dict[str, Any]) -> None:
    cue.schedule(cron="0 9 * * *", task="report")(lambda: None)
    payload = stamp_payload()
    payload["_cueapi_tasks"] |= odd
    assert answer_of(receiver.handle(signed(envelope(payload=payload)))) == (200, "completed")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "9999-12-31T09:00:00Z"])
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("late", ["run", "latest"])
def test_a_moment_at_an_end_of_the_calendar_is_no_slot(
    cue: CueTasks, receiver: Receiver, moment: str, zone: str, late: str
) -> None:
    cue.schedule(cron="0 9 * * *", timezone=zone, late=late, task="report")(lambda: None)
    assert answer_of(receiver.handle(signed(envelope(scheduled_for=moment)))) == (200, "completed")


# settings


@pytest.mark.parametrize(
    ("key", "url"),
    [("cue_sk_\u2026", "http://x"), ("cue_sk_\u00e9", "http://x"), ("cue_sk_1", "http://host:port")],
)
def test_settings_that_make_no_client_are_said_once_and_report_nothing(
    caplog: pytest.LogCaptureFixture, key: str, url: str
) -> None:
    settings = Settings(
        environment=None, callback=None, api_key=key, base_url=url, webhook_secrets=(), ledger="memory:"
    )
    assert outcome_client(settings) is None
    assert "check CUEAPI_API_KEY and CUEAPI_BASE_URL" in caplog.text


@pytest.mark.parametrize("url", ["http://a..b/", "http://xn--/"])
def test_a_host_that_cannot_be_is_an_outage_for_the_report_and_not_for_the_answer(
    cue: CueTasks, tmp_path: Path, clock: Clock, url: str
) -> None:
    cue.schedule(cron="0 9 * * *", task="report")(lambda: None)
    with CueAPI("cue_sk_1", base_url=url) as client, receiver_of(cue, tmp_path / "l.db", clock, client) as receiver:
        assert answer_of(receiver.handle(signed(envelope()))) == (200, "completed")


def test_a_client_that_is_closed_is_an_outage_too(cue: CueTasks, receiver: Receiver, reports: Reports) -> None:
    cue.schedule(cron="0 9 * * *", task="report")(lambda: None)
    reports.client.close()
    assert answer_of(receiver.handle(signed(envelope()))) == (200, "completed")


# what is left to report


class CatchUps(Reporter):
    """Counts how often it was asked to catch up."""

    count = 0

    def catch_up(self) -> None:
        self.count += 1


def test_what_another_process_left_is_looked_for_now_and_then_and_at_once_where_a_delivery_shows_it(
    cue: CueTasks, receiver: Receiver, clock: Clock
) -> None:
    cue.schedule(cron="0 9 * * *", task="report")(lambda: None)
    counting = CatchUps(receiver._ledger, "billing", lambda: None)
    receiver._reporter = counting
    receiver.handle(signed(envelope(execution_id="one")))
    assert counting.count == 1
    receiver.handle(signed(envelope(execution_id="one", attempt=2)))  # which ended before
    assert counting.count == 2
    clock.advance(seconds=CATCH_UP_SECONDS)
    receiver.handle(signed(b"stranger's", secret="other"))
    assert counting.count == 2
    receiver.handle(signed(envelope(execution_id="another"), at=clock()))
    assert counting.count == 3


def test_a_round_that_is_asked_for_while_the_last_one_ends_is_made() -> None:
    reporter = Reporter(MemoryLedger(), "billing", lambda: None)
    rounds: list[int] = []
    known = threading.Event()

    def purge() -> None:
        known.wait(10)
        rounds.append(1)
        if len(rounds) == 1:
            reporter.catch_up()

    reporter._purge = purge  # type: ignore[method-assign]
    reporter.catch_up()
    thread = reporter._thread
    known.set()
    assert thread is not None
    thread.join(10)
    assert len(rounds) == 2


def test_an_execution_whose_process_died_in_its_last_attempt_ends_with_an_outcome(
    cue: CueTasks, tmp_path: Path, clock: Clock, reports: Reports
) -> None:
    def die() -> None:
        raise Killed

    cue.schedule(cron="0 9 * * *", task="report")(die)
    path, body = tmp_path / "ledger.db", envelope(attempt=LAST)
    with receiver_of(cue, path, clock, None) as receiver, pytest.raises(Killed):
        receiver.handle(signed(body))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE execution SET lease_until = lease_until - 100")
    ledger = SqliteLedger(path)
    reporter = Reporter(ledger, "billing", lambda: reports.client)
    reporter._born = float("inf")
    reporter._round()
    assert reports.received == [{"success": False, "error": "the process died in the last attempt"}]
    reporter.close()
    with receiver_of(cue, ledger, clock, None) as receiver:
        assert answer_of(receiver.handle(signed(body))) == (500, "process_died")


class Counted(Reporter):
    """Notes what is sent in line."""

    def __init__(self) -> None:
        super().__init__(MemoryLedger(), "billing", lambda: None)
        self._purge_at = float("inf")
        self.timeouts: list[float | None] = []
        self.later = 0

    def _send_and_note(self, report: Report, within: float | None = None) -> Any:
        self.timeouts.append(within)
        return super()._send_and_note(report, within)

    def catch_up(self) -> None:
        self.later += 1


@pytest.mark.parametrize(("within", "in_line"), [(None, True), (2.0, True), (0.5, False), (-3.0, False)])
def test_an_outcome_is_reported_in_line_where_there_is_time_left(within: float | None, in_line: bool) -> None:
    reporter = Counted()
    reporter.report(Report(execution_id="e", task="t", outcome=Outcome(success=True)), within=within)
    assert (reporter.timeouts, reporter.later) == (([within], 0) if in_line else ([], 1))


def test_a_run_that_took_what_a_webhook_has_is_answered_first_and_reported_then(
    cue: CueTasks, tmp_path: Path, clock: Clock
) -> None:
    cue.schedule(cron="0 9 * * *", task="report")(lambda: clock.advance(seconds=24.5))
    reporter = Counted()
    with receiver_of(cue, tmp_path / "ledger.db", clock, None, reporter=reporter) as receiver:
        assert answer_of(receiver.handle(signed(envelope()))) == (200, "completed")
    assert reporter.timeouts == []
    assert reporter.later == 2  # at the first delivery, and for this


@pytest.mark.parametrize(("status", "asked"), [(429, 1), (401, 1), (503, 3)])
def test_a_round_ends_where_the_next_outcome_would_meet_the_same(status: int, asked: int) -> None:
    ledger = MemoryLedger()
    for number in range(3):
        claim = ledger.claim(entry(f"00000000-0000-4000-8000-00000000000{number}"), lease=30)
        assert isinstance(claim, Claimed)
        execution_id = execution_of(claim.token)
        ledger.finish(execution_id, claim.token, Answer(status=200, body={}), Outcome(success=True))
    with stub_client(*[httpx.Response(status, json={})] * 3) as stub:
        reporter = Reporter(ledger, "billing", lambda: stub.client)
        reporter._born = float("inf")
        assert not reporter._round()
        assert len(stub.received) == asked


# a ledger that fails for a moment


class Hiccup(MemoryLedger):
    """Carries a write out, and loses the answer of the first."""

    def __init__(self, *methods: str) -> None:
        super().__init__()
        self.left = {*methods}

    def release(self, execution_id: str, token: str, *, max_attempts: int) -> bool:
        if "release" in self.left:
            self.left.remove("release")
            raise LedgerError("ledger_unavailable", "for a moment")
        return super().release(execution_id, token, max_attempts=max_attempts)

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        done = super().finish(execution_id, token, answer, outcome)
        if "finish" in self.left:
            self.left.remove("finish")
            raise LedgerError("ledger_unavailable", "for a moment")
        return done


def test_a_failure_that_could_not_be_given_back_at_once_is_no_crash(
    cue: CueTasks, clock: Clock, reports: Reports
) -> None:
    @cue.schedule(cron="0 9 * * *", after_crash="fail")
    def report(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError

    with receiver_of(cue, Hiccup("release"), clock, reports.client) as receiver:
        assert answer_of(receiver.handle(signed(envelope()))) == (500, "raised")
        assert answer_of(receiver.handle(signed(envelope(attempt=2)))) == (200, "completed")


def test_an_end_whose_answer_was_lost_is_reported_once(cue: CueTasks, clock: Clock, reports: Reports) -> None:
    failures: list[BaseException] = []
    cue.after_failure(lambda ctx, error: failures.append(error))

    @cue.schedule(cron="0 9 * * *")
    def report() -> None:
        raise ValueError("no")

    with receiver_of(cue, Hiccup("finish"), clock, reports.client) as receiver:
        assert answer_of(receiver.handle(signed(envelope(attempt=LAST)))) == (500, "raised")
    assert reports.received == [{"success": False, "error": "ValueError: no"}]
    assert len(failures) == 1


# hooks and functions


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_hook_that_wants_to_end_the_process_changes_nothing(
    cue: CueTasks, receiver: Receiver, reports: Reports, error: BaseException
) -> None:
    @cue.before_run
    @cue.after_run
    @cue.after_failure
    def broken(*arguments: Any) -> None:
        raise error

    @cue.schedule(cron="0 9 * * *")
    def report(ctx: Context) -> None:
        if ctx.attempt == LAST:
            raise ValueError("no")

    with ThreadPoolExecutor(1) as threads:
        answers = [
            answer_of(threads.submit(receiver.handle, signed(envelope(attempt=each))).result()) for each in (1, LAST)
        ]
    assert answers == [(200, "completed"), (500, "raised")]
    assert reports.received == [{"success": True}, {"success": False, "error": "ValueError: no"}]


def test_what_can_be_awaited_is_though_it_is_no_coroutine(cue: CueTasks, receiver: Receiver, reports: Reports) -> None:
    class Later:
        def __await__(self) -> Generator[Any, None, str]:
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    @cue.schedule(cron="0 9 * * *")
    def report() -> Any:
        return Later()

    assert answer_of(receiver.handle(signed(envelope()))) == (200, "completed")
    assert reports.received == [{"success": True, "result": "awaited"}]


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_functions_own_timeout_error_stays_its_own(
    cue: CueTasks, receiver: Receiver, reports: Reports, timeout: float | None
) -> None:
    @cue.schedule(cron="0 9 * * *", timeout=timeout)
    async def report() -> None:
        raise TimeoutError("the bank does not answer")

    assert answer_of(receiver.handle(signed(envelope(attempt=LAST)))) == (500, "raised")
    assert reports.received == [{"success": False, "error": "TimeoutError: the bank does not answer"}]


def test_one_odd_field_does_not_cost_the_rest_of_the_evidence(
    cue: CueTasks, receiver: Receiver, reports: Reports
) -> None:
    @cue.schedule(cron="0 9 * * *")
    def report() -> Done:
        return Done(external_id="42", result_url="www.example.com/1", metadata=cast("Any", [1]))

    receiver.handle(signed(envelope()))
    assert reports.received == [{"success": True, "external_id": "42"}]


# rolling deploys


def test_old_code_decides_nothing_for_a_task_that_it_does_not_know(clock: Clock) -> None:
    ledger: Ledger = MemoryLedger()
    old, new = CueTasks("billing"), CueTasks("billing")
    ran: list[int] = []
    new.schedule(cron="0 9 * * *", task="report", late="skip", max_late="30s")(lambda: ran.append(1))
    clock.advance(minutes=10)
    answers: list[tuple[int, str]] = []
    for attempt, app in enumerate((old, new), start=1):
        with receiver_of(app, ledger, clock, None) as receiver:
            request = signed(envelope(attempt=attempt, payload=stamp_payload()), at=clock())
            answers.append(answer_of(receiver.handle(request)))
    assert (answers, ran) == ([(404, "unknown_task"), (200, "skipped")], [])
