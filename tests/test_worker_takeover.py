"""What a worker leaves behind, by a crash or by a drain, and what the next one on its ledger makes of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cueapi_tasks import CueTasks
from cueapi_tasks.run.worker import Worker
from cueapi_tasks.server.profile import Profile

from .remote import Killed, unreachable
from .stores import Store, memory_store
from .test_worker import LATER, MINUTE, Away, Effects, events
from .working import CORE_PROFILE, Workplace, workplace

LEASE = 31.0


@pytest.fixture
def app() -> CueTasks:
    return CueTasks("billing", transport="worker")


@pytest.fixture
def report(app: CueTasks) -> Effects:
    return Effects(app, retry={"max_attempts": 3, "backoff_minutes": [20]})


@pytest.fixture
def kept() -> Iterator[Store]:
    with memory_store() as store:
        yield store


@pytest.fixture(params=[None, CORE_PROFILE], ids=["default", "core"])
def place(request: pytest.FixtureRequest, app: CueTasks, report: Effects, kept: Store) -> Iterator[Workplace]:
    profile: Profile | None = request.param
    with workplace(app, profile, kept.open()) as made:
        yield made


def killed() -> None:
    raise Killed


def die(place: Workplace, effects: Effects) -> Worker:
    """Let a worker start what waits, and its process be killed in the middle of it."""
    worker = place.worker()
    effects.answers = [killed]
    with pytest.raises(Killed):
        place.work(worker)
    return worker


def claimed_by(place: Workplace, worker: Worker) -> int:
    return place.client.executions.list(worker_id=worker.id).total


def test_what_a_dead_worker_ran_is_run_again_under_its_claim(place: Workplace, report: Effects, kept: Store) -> None:
    fired = place.fire()
    dead = die(place, report)
    kept.age(fired, LEASE)
    worker = place.worker()
    report.answers = [lambda: place.pass_time(3600, worker)]
    place.work(worker)
    assert place.succeeded(fired)
    assert place.get(fired).status == "success"
    assert report.attempts == [1, 1]
    assert claimed_by(place, dead) == 1
    assert claimed_by(place, worker) == 0


def test_nobody_takes_up_what_a_living_worker_runs(place: Workplace, report: Effects) -> None:
    place.fire()
    die(place, report)
    place.work(place.worker(), seconds=MINUTE)
    assert report.attempts == [1]


def test_a_worker_that_stood_still_does_not_begin_what_another_took_up_meanwhile(
    place: Workplace, report: Effects, kept: Store
) -> None:
    report.answers = [ValueError("later")]
    fired = place.fire()
    slow = place.worker()
    place.work(slow)
    place.remote.wait(21 * MINUTE)
    kept.age(fired, 21 * MINUTE)
    other = place.worker()
    report.answers = [lambda: place.work(slow)]
    place.work(other)
    assert report.attempts == [1, 2]
    assert place.succeeded(fired)


def test_what_all_workers_left_for_an_hour_is_still_run_and_its_outcome_taken(
    place: Workplace, report: Effects, kept: Store
) -> None:
    fired = place.fire()
    die(place, report)
    place.remote.wait(3600)
    kept.age(fired, LEASE)
    place.work(place.worker(), seconds=MINUTE)
    assert place.succeeded(fired)
    assert report.attempts == [1, 1]


def test_the_retry_of_a_worker_dead_so_long_that_the_server_took_its_claim_is_run_when_it_is_due(
    place: Workplace, report: Effects, kept: Store
) -> None:
    report.answers = [ValueError("later")]
    fired = place.fire()
    place.work(place.worker())
    place.remote.wait(16 * MINUTE)
    kept.age(fired, 16 * MINUTE)
    drained = place.worker()
    place.work(drained, seconds=2 * MINUTE)
    drained._drain()
    place.work(place.worker(), seconds=5 * MINUTE)
    assert report.attempts == [1, 2]
    assert place.succeeded(fired)


def test_what_is_fired_for_later_outlives_a_worker_that_died_before_its_claim(
    app: CueTasks, report: Effects, kept: Store
) -> None:
    with workplace(app, CORE_PROFILE, kept.open()) as place:
        fired = place.fire(send_at=LATER)
        dead = place.worker()
        (item,) = dead._intake.source.poll()
        assert dead._holder._hold(item, 1, dead.id) is not None
        kept.age(fired, LEASE)
        place.work(place.worker(), seconds=31 * MINUTE)
        assert place.succeeded(fired)


def test_a_task_that_kills_its_process_is_given_up(place: Workplace, report: Effects, kept: Store) -> None:
    fired = place.fire()
    for _ in range(3):
        die(place, report)
        kept.age(fired, LEASE)
    place.work(place.worker())
    assert place.error(fired) == "process died 3 times in this run"
    assert len(report.ran) == 3


def test_after_crash_fail_does_not_run_again(kept: Store) -> None:
    app = CueTasks("billing", transport="worker")
    report = Effects(app, after_crash="fail")
    with workplace(app, ledger=kept.open()) as place:
        fired = place.fire()
        die(place, report)
        kept.age(fired, LEASE)
        place.work(place.worker())
        assert "after_crash='fail'" in str(place.error(fired))
    assert len(report.ran) == 1


def test_what_a_dead_worker_finished_is_reported_and_not_run_again(place: Workplace, report: Effects) -> None:
    fired = place.fire()
    place.remote.line.rules["/outcome"] = unreachable
    place.work(place.worker())
    place.remote.line.rules.clear()
    place.work(place.worker())
    assert place.succeeded(fired)
    assert report.attempts == [1]


def test_the_retry_of_a_dead_worker_waits_on_and_is_kept_alive(place: Workplace, report: Effects, kept: Store) -> None:
    report.answers = [ValueError("later")]
    fired = place.fire()
    place.work(place.worker())
    kept.age(fired, LEASE)
    worker = place.worker()
    place.work(worker, seconds=19 * MINUTE)
    assert (report.attempts, place.get(fired).status) == ([1], "delivering")
    place.work(worker, seconds=2 * MINUTE)
    assert report.attempts == [1, 2]
    assert place.succeeded(fired)


@pytest.mark.parametrize("claimed", [True, False])
def test_a_worker_that_died_around_its_claim_loses_nothing(
    place: Workplace, report: Effects, kept: Store, claimed: bool
) -> None:
    fired = place.fire()
    dead = place.worker()
    (item,) = dead._intake.source.poll()
    assert dead._holder._hold(item, 1, dead.id) is not None
    if claimed:
        place.client.executions.claim(fired, dead.id)
    kept.age(fired, LEASE)
    place.work(place.worker(), seconds=MINUTE)
    assert place.succeeded(fired)
    assert report.attempts == [1]


def test_what_was_deleted_meanwhile_is_forgotten(place: Workplace, report: Effects, kept: Store) -> None:
    fired = place.fire()
    die(place, report)
    kept.age(fired, LEASE)
    place.client.cues.delete(place.cue_id("billing/report"))
    place.work(place.worker(), seconds=MINUTE)
    assert report.attempts == [1]
    assert place.ledger.lapsed("billing", transport="worker", limit=1) == []


def test_what_somebody_else_reported_meanwhile_is_forgotten(place: Workplace, report: Effects, kept: Store) -> None:
    fired = place.fire()
    die(place, report)
    kept.age(fired, LEASE)
    place.client.executions.report_outcome(fired, success=False, error="by hand")
    place.work(place.worker(), seconds=MINUTE)
    assert report.attempts == [1]
    assert place.ledger.lapsed("billing", transport="worker", limit=1) == []


def test_what_a_worker_with_another_ledger_took_over_is_not_run_beside_it(
    report: Effects, app: CueTasks, kept: Store
) -> None:
    with workplace(app, ledger=kept.open()) as place:
        fired = place.fire()
        die(place, report)
        place.remote.wait(16 * MINUTE)
        place.client.workers.heartbeat("elsewhere")
        place.client.executions.claim(fired, "elsewhere")
        kept.age(fired, LEASE)
        place.work(place.worker(), seconds=MINUTE)
        assert report.attempts == [1]
        place.client.executions.report_outcome(fired, success=True)
        place.ledger.abandon([kept.open()._rows[fired].owner or ""])  # type: ignore[attr-defined]
        place.work(place.worker(), seconds=6 * MINUTE)
        assert report.attempts == [1]
        assert place.ledger.lapsed("billing", transport="worker", limit=1) == []


@pytest.mark.parametrize("profile", [None, CORE_PROFILE], ids=["default", "core"])
def test_what_is_in_the_ledger_under_the_apps_former_name_is_taken_up_and_reported(
    kept: Store, profile: Profile | None
) -> None:
    former, app = CueTasks("invoices", transport="worker"), CueTasks("billing", transport="worker", was="invoices")
    retry = {"max_attempts": 3, "backoff_minutes": [20]}
    before, after = Effects(former, retry=retry), Effects(app, retry=retry)
    with workplace(former, profile, kept.open()) as place:
        waits, ended = place.fire("invoices/report"), place.fire("invoices/report")
        before.answers = [ValueError("later")]
        place.remote.line.rules["/outcome"] = unreachable
        worker = place.worker()
        place.work(worker)
        worker._drain()
        place.remote.line.rules.clear()
        place.deploy(app)
        place.work(place.worker(app), seconds=21 * MINUTE)
        assert place.succeeded(waits)
        assert place.succeeded(ended)
    assert [(ctx.execution_id, ctx.attempt) for ctx in after.ran] == [(waits, 2)]


def test_what_a_dead_worker_left_that_this_code_cannot_run_is_left_to_newer_code_for_a_while(kept: Store) -> None:
    older, newer = CueTasks("billing", transport="worker"), CueTasks("billing", transport="worker")
    Effects(older)
    added = Effects(newer, "added")
    with workplace(newer, ledger=kept.open()) as place:
        for after, outcome in ((5 * MINUTE, None), (11 * MINUTE, "this code declares no task 'added'")):
            fired = place.fire("billing/added")
            added.answers = [killed]
            with pytest.raises(Killed):
                place.work(place.worker(newer))
            kept.age(fired, LEASE)
            place.work(place.worker(older), seconds=after)
            assert (place.error(fired) or "")[: len(outcome or "")] == (outcome or "")
            place.work(place.worker(newer))
            assert place.succeeded(fired) == (outcome is None)


def test_what_a_dead_worker_left_of_somebody_elses_cue_ends_though_its_task_left_the_code(kept: Store) -> None:
    before, after = CueTasks("billing", transport="worker"), CueTasks("billing", transport="worker")
    report = Effects(before)
    Effects(after, "other")
    with workplace(before, ledger=kept.open()) as place:
        made = place.client.cues.create(
            "by hand", cron="0 5 * * *", transport="worker", payload={"task": "billing/report"}
        )
        fired = place.client.cues.fire(made.id).id
        die(place, report)
        kept.age(fired, LEASE)
        place.work(place.worker(after), seconds=11 * MINUTE)
        assert place.error(fired) == "this code declares no task 'report'; a deploy may be rolling"
        assert place.ledger.lapsed("billing", transport="worker", limit=1) == []


# draining


def test_a_drained_worker_gives_back_what_waits_and_the_next_one_takes_it_up(
    place: Workplace, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report.answers = [ValueError("later")]
    fired = place.fire()
    worker = place.worker()
    place.work(worker)
    assert worker._drain() == []
    next_one = place.worker()
    place.work(next_one, seconds=21 * MINUTE)
    assert len(events(caplog, "taken_up")) == 1
    assert report.attempts == [1, 2]
    assert place.succeeded(fired)


@pytest.mark.parametrize(("after_crash", "attempts"), [("rerun", [1, 1]), ("fail", [1])])
def test_a_run_that_a_drain_cuts_off_has_not_crashed_but_may_not_begin_twice_where_the_task_says_so(
    kept: Store, after_crash: str, attempts: list[int]
) -> None:
    app = CueTasks("billing", transport="worker")
    report = Effects(app, after_crash=after_crash, retry={"max_attempts": 1})
    with workplace(app, ledger=kept.open()) as place:
        worker = place.worker()

        def cut_off() -> None:
            assert worker._holder.abandon() == [fired]
            raise Killed

        report.answers = [cut_off]
        fired = place.fire()
        with pytest.raises(Killed):
            place.work(worker)
        place.work(place.worker())
        assert place.succeeded(fired) == (after_crash == "rerun")
        assert report.attempts == attempts


def test_a_run_that_fails_while_its_worker_drains_is_left_to_the_next(place: Workplace, report: Effects) -> None:
    worker = place.worker()

    def stopped() -> None:
        worker._holder.stop()
        raise ValueError("later")

    report.answers = [stopped]
    fired = place.fire()
    place.work(worker)
    place.work(place.worker(), seconds=21 * MINUTE)
    assert report.attempts == [1, 2]
    assert place.succeeded(fired)


def test_a_drain_waits_for_what_runs_though_the_ledger_is_away(app: CueTasks, report: Effects) -> None:
    ledger = Away()
    with workplace(app, ledger=ledger) as place:
        worker = place.worker()
        report.answers = [ValueError("later")]
        place.fire()
        place.work(worker)
        fired = place.fire()

        def wait(_: threading.Event, seconds: float) -> bool:
            place.remote.wait(20)
            worker._holder.leave(fired)
            worker._lanes.plain._free += 1
            return True

        worker._clocks = replace(worker._clocks, wait=wait)
        (item,) = worker._intake.source.poll()
        worker._holder.enter(fired)
        worker._holder._hold(item, 1, worker.id)
        worker._lanes.plain._free -= 1
        ledger.away = True
        began = place.clock.now
        assert worker._drain() == []
        assert (place.clock.now - began).total_seconds() == 20


def test_a_worker_that_held_nothing_leaves_no_trace_at_the_server(place: Workplace, report: Effects) -> None:
    place.fire()
    worker = place.worker()
    worker._claims.beat()
    place.work(worker)
    assert [each.worker_id for each in place.client.workers.list()] == [worker.id]
    worker._drain()
    assert place.client.workers.list() == []


def test_once_runs_what_is_due_and_ends(place: Workplace, report: Effects) -> None:
    report.answers = [ValueError("later")]
    first, second = place.fire(), place.fire()
    assert place.worker().run(once=True) == []
    assert place.succeeded(second)
    assert place.get(first).outcome is None
    place.remote.wait(MINUTE)
    assert place.worker().run(once=True) == []
    assert report.attempts == [1, 1]
