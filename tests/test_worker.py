"""The worker against the embedded server, by default and with the core's traps: what it takes, runs, keeps and reports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, field_validator

from cueapi import AuthenticationError
from cueapi_tasks import Context, CueTasks, Done, NonRetriableError
from cueapi_tasks.errors import LedgerError
from cueapi_tasks.run.ledger.base import Claim, Entry, Lapsed
from cueapi_tasks.run.ledger.memory import MemoryLedger
from cueapi_tasks.server.profile import Profile

from .remote import failed_after, lost, unreachable
from .support import NOON
from .working import CORE_PROFILE, limited, workplace

BOTH = pytest.mark.parametrize("profile", [None, CORE_PROFILE], ids=["default", "core"])
MINUTE = 60.0
LATER = NOON + timedelta(minutes=30)


class Effects:
    """A task that notes each run, and does in it what it is told to."""

    def __init__(self, app: CueTasks, name: str = "report", **options: Any) -> None:
        self.ran: list[Context] = []
        self.answers: list[Any] = []
        app.schedule(cron="0 9 * * *", task=name, **options)(self.run)

    def run(self, ctx: Context) -> Any:
        """Note the run, and give the next answer."""
        self.ran.append(ctx)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer

    @property
    def attempts(self) -> list[int]:
        """Of each run, in order."""
        return [ctx.attempt for ctx in self.ran]


@pytest.fixture
def app() -> CueTasks:
    return CueTasks("billing", transport="worker")


@pytest.fixture
def report(app: CueTasks) -> Effects:
    return Effects(app)


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [record.__dict__["facts"] for record in caplog.records if getattr(record, "event", None) == name]


@BOTH
def test_what_waits_is_run_and_reported(app: CueTasks, report: Effects, profile: Profile | None) -> None:
    report.answers = [Done(external_id="inv_1")]
    with workplace(app, profile) as place:
        fired = place.fire()
        place.work(place.worker())
        assert place.succeeded(fired)
    (ctx,) = report.ran
    assert (ctx.execution_id, ctx.attempt, ctx.transport, ctx.is_last_attempt) == (fired, 1, "worker", False)
    assert (ctx.cue_name, ctx.payload, ctx.task, ctx.now) == ("billing/report", {}, "report", place.clock.now)


def test_a_schedule_is_run_without_anybody_firing_it(app: CueTasks, report: Effects) -> None:
    with workplace(app) as place:
        place.remote.wait(21 * 3600)
        place.work(place.worker(), seconds=10)
    assert [ctx.scheduled_for for ctx in report.ran] == [NOON + timedelta(hours=21)]


def test_async_tasks_run_in_slots_of_their_own() -> None:
    app = CueTasks("billing", transport="worker")

    @app.schedule(cron="0 9 * * *")
    async def report() -> str:
        return "awaited"

    with workplace(app) as place:
        fired = place.fire()
        worker = place.worker()
        assert worker._lanes.of(worker._job(worker._intake.source.poll()[0])) is worker._lanes.asynchronous
        place.work(worker)
        outcome = place.get(fired).outcome
        assert outcome is not None
        assert outcome.result == "awaited"
        app.stage.loop.close()


# whose it is


@BOTH
def test_two_environments_on_one_account_never_run_each_others_executions(profile: Profile | None) -> None:
    apps = [CueTasks("billing", environment=name, transport="worker") for name in ("staging", "production")]
    effects = [Effects(app) for app in apps]
    with workplace(apps[0], profile) as place:
        place.deploy(apps[1])
        fired = [[place.fire(f"{app.owner.scope}/report") for _ in range(60)] for app in apps]
        place.work(place.worker(apps[1]), seconds=MINUTE)
        assert [ctx.execution_id for ctx in effects[1].ran] == fired[1]
        assert effects[0].ran == []
        place.work(place.worker(apps[0]), place.worker(apps[1]), seconds=MINUTE)
        assert [ctx.execution_id for ctx in effects[0].ran] == fired[0]
        assert len(effects[1].ran) == 60


def test_a_cue_of_somebody_elses_program_reaches_the_task_that_its_payload_names(
    app: CueTasks, report: Effects
) -> None:
    with workplace(app) as place:
        made = place.client.cues.create(
            "by hand", cron="0 5 * * *", transport="worker", payload={"task": "billing/report"}
        )
        fired = place.client.cues.fire(made.id).id
        place.work(place.worker())
        assert place.succeeded(fired)


@BOTH
def test_a_backlog_of_others_starves_nobody(app: CueTasks, report: Effects, profile: Profile | None) -> None:
    with workplace(app, profile) as place:
        other = place.client.cues.create("other", cron="0 5 * * *", transport="worker", payload={"task": "other"})
        for _ in range(60):
            place.clock.advance(milliseconds=1)
            place.client.cues.fire(other.id)
        fired = [place.fire() for _ in range(120)]
        place.work(place.worker())
        assert {ctx.execution_id for ctx in report.ran} == {*fired}


def test_a_payload_that_breaks_the_queue_for_the_account_does_not_stop_the_worker(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    with workplace(app) as place:
        fired = place.fire()
        place.remote.line.rules["GET /v1/executions/claimable"] = failed_after
        place.work(place.worker(), seconds=MINUTE)
        assert place.succeeded(fired)
    assert len(events(caplog, "queue_unavailable")) == 1
    assert events(caplog, "api_unavailable") == []


def test_an_execution_that_another_worker_got_first_is_left_to_it(app: CueTasks, report: Effects) -> None:
    with workplace(app) as place:
        fired = place.fire()
        worker = place.worker()
        seen = worker._intake.source.poll()
        place.client.executions.claim(fired, "other")
        worker._intake._backlog, worker._intake._fresh_until = seen, place.clock.timestamp() + 5
        place.work(worker, seconds=MINUTE)
        assert report.ran == []
        assert place.ledger.lapsed("billing", transport="worker", limit=1) == []
        assert len(worker._claims) == 0


def test_what_another_worker_holds_and_has_not_claimed_yet_is_not_asked_for_again_and_again(
    app: CueTasks, report: Effects
) -> None:
    with workplace(app) as place:
        place.fire()
        other, worker = place.worker(), place.worker()
        (item,) = other._intake.source.poll()
        assert other._holder._hold(item, 1, other.id) is not None
        before = place.remote.line.requests
        place.work(worker, seconds=MINUTE)
        assert place.remote.line.requests - before <= 20
        assert worker.run(once=True) == []
    assert report.ran == []


# what this code cannot run


def test_an_unknown_task_is_left_to_newer_code_and_then_reported(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    newer = CueTasks("billing", transport="worker")
    effects = Effects(newer, "added")
    with workplace(newer) as place:
        fired = place.fire("billing/added")
        old, new = place.worker(app), place.worker(newer)
        place.work(old, seconds=9 * MINUTE)
        assert place.get(fired).status == "pending"
        place.work(old, new)
        assert [ctx.execution_id for ctx in effects.ran] == [fired]
        late = place.fire("billing/added")
        place.work(old, seconds=10 * MINUTE + 5)
        assert "declares no task 'added'" in str(place.error(late))
    assert len(events(caplog, "left")) == 1


def test_a_payload_that_does_not_fit_is_reported_in_the_end(app: CueTasks) -> None:
    @app.schedule(cron="0 9 * * *")
    def report(region: int = 1) -> None: ...

    with workplace(app) as place:
        cue_id = place.cue_id("billing/report")
        payload = place.client.cues.get(cue_id).payload
        place.client.cues.update(cue_id, payload={**payload, "region": "eu"})
        fired = place.fire()
        place.work(place.worker(), seconds=9 * MINUTE)
        assert place.get(fired).status == "pending"
        place.work(place.worker(), seconds=2 * MINUTE)
        assert "does not fit 'report'" in str(place.error(fired))


class Priced(BaseModel):
    """A model whose own code fails for a currency that it does not know."""

    currency: str = "EUR"

    @field_validator("currency")
    @classmethod
    def known(cls, value: str) -> str:
        return {"EUR": "EUR"}[value]


def test_a_payload_at_which_a_validator_breaks_is_a_misfit_and_stops_no_other_task(
    app: CueTasks, report: Effects
) -> None:
    @app.schedule(cron="0 9 * * *", payload={"price": {"currency": "EUR"}})
    def charge(price: Priced) -> None: ...

    with workplace(app) as place:
        cue_id = place.cue_id("billing/charge")
        payload = place.client.cues.get(cue_id).payload
        place.client.cues.update(cue_id, payload={**payload, "price": {"currency": "XXX"}})
        odd, fired = place.fire("billing/charge"), place.fire()
        worker = place.worker()
        place.work(worker)
        assert place.succeeded(fired)
        place.work(worker, seconds=11 * MINUTE)
        assert "price: its validator raised KeyError: 'XXX'" in str(place.error(odd))


@pytest.mark.parametrize("text", ["x" * 900_000, "naïve \u2028", "1" * 5000])
def test_a_huge_or_odd_payload_is_run_like_any_other(app: CueTasks, text: str) -> None:
    got: list[str] = []

    @app.schedule(cron="0 9 * * *")
    def report(text: str = "") -> None:
        got.append(text)

    with workplace(app) as place:
        cue_id = place.cue_id("billing/report")
        place.client.cues.update(cue_id, payload={**place.client.cues.get(cue_id).payload, "text": text})
        fired = place.fire()
        place.work(place.worker())
        assert place.succeeded(fired)
    assert got == [text]


# retries


@BOTH
def test_a_failure_is_tried_again_by_the_tasks_retry_and_reported_once(
    app: CueTasks, profile: Profile | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report = Effects(app, retry={"max_attempts": 3, "backoff_minutes": [20, 40]})
    failures: list[Context] = []
    app.after_failure(lambda ctx, error: failures.append(ctx))
    report.answers = [ValueError("one"), ValueError("two"), ValueError("three")]
    with workplace(app, profile) as place:
        fired = place.fire()
        worker = place.worker()
        place.work(worker, seconds=19 * MINUTE)
        assert (report.attempts, place.get(fired).status, place.get(fired).outcome) == ([1], "delivering", None)
        place.work(worker, seconds=2 * MINUTE)
        assert report.attempts == [1, 2]
        place.work(worker, seconds=41 * MINUTE)
        assert place.error(fired) == "ValueError: three"
    assert [ctx.is_last_attempt for ctx in report.ran] == [False, False, True]
    assert [ctx.attempt for ctx in failures] == [3]
    assert [each["retry_in"] for each in events(caplog, "retry_waits")] == [1200, 2400]


def test_a_retry_that_waits_uses_no_slot(app: CueTasks, report: Effects) -> None:
    report.answers = [ValueError("later")]
    with workplace(app) as place:
        first = place.fire()
        worker = place.worker(slots=1)
        place.work(worker)
        assert worker._lanes.idle
        second = place.fire()
        place.work(worker, seconds=6)
        assert [ctx.execution_id for ctx in report.ran] == [first, second]


def test_a_failure_for_good_ends_at_once(app: CueTasks, report: Effects) -> None:
    report.answers = [NonRetriableError("no such customer")]
    with workplace(app) as place:
        fired = place.fire()
        place.work(place.worker(), seconds=MINUTE)
        assert place.error(fired) == "NonRetriableError: no such customer"
    assert report.attempts == [1]


def test_a_task_that_exits_the_process_is_not_kept_for_ever_and_not_passed_over_in_silence(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    def leave() -> None:
        raise SystemExit

    report.answers = [leave]
    with workplace(app) as place:
        fired = place.fire()
        worker = place.worker()
        with pytest.raises(SystemExit):
            place.work(worker)
        assert len(worker._claims) == 0
    assert f"{fired} raised SystemExit" in caplog.text


# time


@BOTH
def test_a_run_of_an_hour_keeps_its_claim(app: CueTasks, report: Effects, profile: Profile | None) -> None:
    with workplace(app, profile) as place:
        worker = place.worker()
        report.answers = [lambda: place.pass_time(3600, worker)]
        fired = place.fire()
        place.work(worker, seconds=MINUTE)
        assert place.succeeded(fired)
        assert place.get(fired).status == "success"
    assert report.attempts == [1]


def test_heartbeats_stretch_within_the_rate_limit(app: CueTasks, report: Effects) -> None:
    with workplace(app, limited(60)) as place:
        worker = place.worker()
        place.work(worker)
        for number in range(100):
            worker._claims.keep(f"e{number}", worker.id)
        assert worker._claims._interval() == 204  # with two of the worker's own, of 30 a minute
        assert worker._claims.room
        for number in range(100, 120):
            worker._claims.keep(f"e{number}", worker.id)
        assert worker._claims._interval() == 240
        assert not worker._claims.room


def test_heartbeats_are_sent_for_the_worker_with_its_tasks_and_for_each_run(app: CueTasks, report: Effects) -> None:
    with workplace(app) as place:
        worker, other = place.worker(), place.worker()
        report.answers = [lambda: place.pass_time(600, worker)]
        fired = place.fire()
        before = len(place.remote.line.writes)
        place.work(worker, seconds=MINUTE)
        sent = place.remote.line.writes[before:]
        assert 18 <= sent.count("POST /v1/worker/heartbeat") <= 24  # in eleven minutes
        assert 9 <= sent.count(f"POST /v1/executions/{fired}/heartbeat") <= 10  # in ten
        listed = next(each for each in place.client.workers.list() if each.worker_id == worker.id)
        assert listed.handlers == ["billing/report"]
        assert worker.id != other.id


def test_a_run_whose_claim_the_server_gave_up_is_reported_all_the_same(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    with workplace(app, CORE_PROFILE) as place:
        worker = place.worker()

        def outlive_the_claim() -> None:
            place.remote.line.rules["/heartbeat"] = unreachable
            place.pass_time(6 * MINUTE, worker)
            place.remote.line.rules.clear()
            place.pass_time(2 * MINUTE, worker)

        report.answers = [outlive_the_claim]
        fired = place.fire()
        place.work(worker, seconds=MINUTE)
        assert place.succeeded(fired)
    assert report.attempts == [1]
    assert len(events(caplog, "claim_lost")) == 1


@BOTH
def test_what_is_fired_for_later_is_kept_until_then_and_uses_no_slot(
    app: CueTasks, report: Effects, profile: Profile | None
) -> None:
    with workplace(app, profile) as place:
        later = place.fire(send_at=LATER)
        now = place.fire()
        worker = place.worker(slots=1)
        place.work(worker, seconds=25 * MINUTE)
        assert [ctx.execution_id for ctx in report.ran] == [now]
        place.work(worker, seconds=6 * MINUTE)
        assert [ctx.execution_id for ctx in report.ran] == [now, later]
        assert place.succeeded(later)
    assert report.ran[1].now >= report.ran[1].scheduled_for


def test_policies_are_decided_as_in_the_receiver(app: CueTasks) -> None:
    report = Effects(app, late="skip", max_late="5m")
    with workplace(app) as place:
        fired = place.fire()
        place.remote.wait(6 * MINUTE)
        place.work(place.worker())
        outcome = place.get(fired).outcome
        assert outcome is not None
        assert outcome.metadata == {"skipped": "late"}
    assert report.ran == []


# the ledger fails


class Away(MemoryLedger):
    """A ledger that may be out of reach."""

    away = False

    def hold(self, entry: Entry, *, lease: float) -> Claim:
        self.reach()
        return super().hold(entry, lease=lease)

    def abandon(self, tokens: Sequence[str]) -> None:
        self.reach()
        super().abandon(tokens)

    def postpone(self, execution_id: str, token: str, *, attempt: int, delay: float) -> bool:
        self.reach()
        return super().postpone(execution_id, token, attempt=attempt, delay=delay)

    def lapsed(self, scope: str, *, transport: str, limit: int) -> Sequence[Lapsed]:
        self.reach()
        return super().lapsed(scope, transport=transport, limit=limit)

    def reach(self) -> None:
        if self.away:
            raise LedgerError("ledger_unavailable", "it is away")


def test_while_the_ledger_is_away_the_queue_is_asked_no_more_often_than_if_it_were_empty(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Away()
    with workplace(app, ledger=ledger) as place:
        fired = place.fire()
        worker = place.worker()
        ledger.away = True
        before = place.remote.line.requests
        end = place.clock.now + timedelta(minutes=10)
        while place.clock.now < end:
            place.pass_time(worker._turn(), worker)
            assert place.remote.line.requests - before <= 150
        ledger.away = False
        place.work(worker, seconds=MINUTE)
        assert place.succeeded(fired)
    assert len(events(caplog, "ledger_unavailable")) == 1


def test_a_retry_that_the_ledger_cannot_note_is_run_by_this_worker_all_the_same(
    app: CueTasks, caplog: pytest.LogCaptureFixture
) -> None:
    report = Effects(app, retry={"max_attempts": 2, "backoff_minutes": [1]})
    ledger = Away()

    def fail() -> None:
        ledger.away = True
        raise ValueError("later")

    report.answers = [fail]
    with workplace(app, ledger=ledger) as place:
        fired = place.fire()
        worker = place.worker()
        place.work(worker)
        ledger.away = False
        place.work(worker, seconds=2 * MINUTE)
        assert place.succeeded(fired)
    assert report.attempts == [1, 2]
    assert "known to this process alone" in caplog.text


def test_an_error_that_nobody_foresaw_does_not_end_the_worker(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: Any, **_options: Any) -> Any:
        raise RuntimeError("nobody foresaw this")

    with workplace(app) as place:
        fired = place.fire()
        worker = place.worker()
        with monkeypatch.context() as patch:
            patch.setattr(place.ledger, "hold", broken)
            place.work(worker)
            patch.setattr(place.ledger, "lapsed", broken)
            place.pass_time(10, worker)
            assert worker._turn() == 5.0
        place.work(worker, seconds=MINUTE)
        assert place.succeeded(fired)
    assert caplog.text.count("RuntimeError: nobody foresaw this") == 2
    assert report.attempts == [1]


# the API fails


@pytest.mark.parametrize("fault", [lost, failed_after, unreachable])
@BOTH
def test_a_claim_whose_answer_is_lost_is_settled(
    app: CueTasks, report: Effects, profile: Profile | None, fault: Callable[..., httpx.Response]
) -> None:
    with workplace(app, profile) as place:
        fired = place.fire()
        worker = place.worker()
        place.remote.line.rules["/claim"] = fault
        place.work(worker, seconds=9)
        place.remote.line.rules.clear()
        place.work(worker, seconds=2 * MINUTE)
        assert place.succeeded(fired)
    assert report.attempts == [1]


def test_a_retry_that_becomes_due_while_the_api_is_away_is_run_once_it_is_back(app: CueTasks) -> None:
    report = Effects(app, retry={"max_attempts": 2, "backoff_minutes": [1]})
    report.answers = [ValueError("later")]
    with workplace(app) as place:
        fired = place.fire()
        worker = place.worker()
        place.work(worker)
        place.remote.line.rules[""] = unreachable
        place.work(worker, seconds=2 * MINUTE)
        assert report.attempts == [1]
        place.remote.line.rules.clear()
        place.work(worker, seconds=MINUTE)
        assert place.succeeded(fired)
    assert report.attempts == [1, 2]


def test_an_unreachable_api_is_said_once_and_asked_ever_more_rarely(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with workplace(app) as place:
        worker = place.worker()
        place.work(worker)
        fired = place.fire()
        place.remote.line.rules[""] = unreachable
        before = place.remote.line.requests
        place.work(worker, seconds=10 * MINUTE)
        polls = place.remote.line.requests - before
        place.remote.line.rules.clear()
        place.work(worker, seconds=70)
        assert place.succeeded(fired)
    assert len(events(caplog, "api_unavailable")) == len(events(caplog, "api_available_again")) == 1
    assert polls < 60


def test_an_api_that_is_unreachable_from_the_start_is_asked_ever_more_rarely_too(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    with workplace(app) as place:
        worker = place.worker()
        place.remote.line.rules[""] = unreachable
        before = place.remote.line.requests
        place.work(worker, seconds=10 * MINUTE)
        assert place.remote.line.requests - before < 60
    assert len(events(caplog, "api_unavailable")) == 1


@BOTH
def test_an_outcome_that_cannot_be_sent_is_sent_later_and_the_task_is_not_run_again(
    app: CueTasks, report: Effects, profile: Profile | None
) -> None:
    with workplace(app, profile) as place:
        fired = place.fire()
        worker = place.worker()
        place.remote.line.rules["/outcome"] = unreachable
        place.work(worker, seconds=20 * MINUTE)
        assert place.get(fired).outcome is None
        place.remote.line.rules.clear()
        place.work(worker, seconds=MINUTE)
        assert place.succeeded(fired)
    assert report.attempts == [1]


def test_a_rejected_key_ends_the_worker_with_the_reason(app: CueTasks, report: Effects) -> None:
    with workplace(app) as place:
        worker = place.worker()
        worker._link.client.http._client.headers["Authorization"] = "Bearer cue_sk_" + "0" * 32
        with pytest.raises(AuthenticationError):
            worker.run()


def test_an_idle_worker_costs_at_most_fourteen_requests_a_minute(app: CueTasks, report: Effects) -> None:
    with workplace(app) as place:
        worker = place.worker()
        place.work(worker, seconds=MINUTE)
        before = place.remote.line.requests
        place.work(worker, seconds=10 * MINUTE)
        assert place.remote.line.requests - before <= 140
