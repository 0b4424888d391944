"""The worker within a rate limit, beside others' work, and against answers that are none of CueAPI's."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from cueapi import CueAPIError
from cueapi_tasks import CueTasks, Done
from cueapi_tasks.run.link import wait_of
from cueapi_tasks.server.profile import CORE, Limits, Profile

from .remote import Fault, unreachable
from .test_worker import BOTH, LATER, MINUTE, Effects, events
from .working import CORE_PROFILE, Workplace, limited, workplace


@pytest.fixture
def app() -> CueTasks:
    return CueTasks("billing", transport="worker")


@pytest.fixture
def report(app: CueTasks) -> Effects:
    return Effects(app)


def fill_queue(place: Workplace, count: int = 60) -> None:
    """Let so many executions of somebody else's wait, older than all that follow."""
    other = place.client.cues.create("other", cron="0 5 * * *", transport="worker", payload={"task": "other"})
    for _ in range(count):
        place.clock.advance(milliseconds=1)
        place.client.cues.fire(other.id)


# the rate limit


@pytest.mark.parametrize(("remaining", "seconds"), [(60, 0.0), (15, 0.0), (12, 5.0), (6, 10.0), (-3, 10.0)])
def test_little_left_of_the_limit_slows_what_brings_more_work(remaining: int, seconds: float) -> None:
    assert wait_of(60, remaining, 1) == seconds
    assert wait_of(60, remaining, 2) == min(10.0, 2 * seconds)


@pytest.mark.parametrize("count", [25, 100])
def test_a_worker_stays_within_a_rate_limit_of_sixty(app: CueTasks, report: Effects, count: int) -> None:
    with workplace(app, limited(60)) as place:
        fired = [place.fire() for _ in range(count)]
        place.remote.wait(2 * MINUTE)
        place.remote.line.refused = 0
        place.work(place.worker(), seconds=10 * MINUTE)
        assert place.remote.line.refused == 0
        place.remote.wait(MINUTE)
        assert place.client.executions.list(status="success", limit=1).total == len(fired)
    assert len(report.ran) == len(fired)


def test_many_that_are_kept_for_later_are_kept_within_a_rate_limit_of_sixty(app: CueTasks, report: Effects) -> None:
    with workplace(app, Profile(quirks=CORE, limits=Limits(requests_per_minute=60))) as place:
        later = [place.fire(send_at=LATER + timedelta(seconds=number)) for number in range(90)]
        place.remote.wait(2 * MINUTE)
        worker = place.worker()
        place.work(worker, seconds=55 * MINUTE)
        place.remote.wait(2 * MINUTE)
        assert all(ctx.now >= ctx.scheduled_for for ctx in report.ran)
        assert place.client.executions.list(status="success", limit=1).total == len(later)


def test_what_many_dead_workers_held_costs_few_heartbeats(app: CueTasks) -> None:
    report = Effects(app, retry={"max_attempts": 2, "backoff_minutes": [60]})
    report.answers = [ValueError("later")] * 25
    with workplace(app) as place:
        for _ in range(25):
            place.fire()
            former = place.worker()
            place.work(former)
            former._holder.stop()
        worker = place.worker()
        place.work(worker, seconds=3 * MINUTE)
        before = place.remote.line.requests
        place.work(worker, seconds=4 * MINUTE)
        # a minute: 14 as if idle, 25 executions, and every other minute the 25 ids that they were claimed under
        assert place.remote.line.requests - before <= 4 * (14 + 25 + 13)


@pytest.mark.parametrize("cues", [1, 5, 10])
def test_an_idle_worker_costs_no_more_beside_a_queue_full_of_others_work(cues: int) -> None:
    app = CueTasks("billing", transport="worker")
    for number in range(cues):
        Effects(app, f"report{number}")
    with workplace(app) as place:
        fill_queue(place)
        worker = place.worker()
        place.work(worker, seconds=MINUTE)
        before = place.remote.line.requests
        place.work(worker, seconds=10 * MINUTE)
        assert place.remote.line.requests - before <= 145  # the list of the cues every five minutes included


# beside other work


def test_async_tasks_do_not_wait_behind_a_page_of_plain_ones() -> None:
    app = CueTasks("billing", transport="worker")
    busy = Effects(app, "busy")
    ran: list[bool] = []

    @app.schedule(cron="0 9 * * *")
    async def quick() -> None:
        ran.append(True)

    with workplace(app) as place:
        for _ in range(60):
            place.fire("billing/busy")
        place.fire("billing/quick")
        worker = place.worker()
        worker._lanes.plain._free = 0
        place.work(worker, seconds=20)
        assert (busy.ran, ran) == ([], [True])
        app.stage.loop.close()


@BOTH
def test_what_is_fired_for_later_is_kept_behind_a_queue_full_of_others_work_too(
    app: CueTasks, report: Effects, profile: Profile | None
) -> None:
    with workplace(app, profile) as place:
        fill_queue(place)
        later = place.fire(send_at=LATER)
        worker = place.worker()
        for _ in range(5):
            place.work(worker, seconds=7 * MINUTE)
            fill = place.client.cues.iter()
            other = next(cue.id for cue in fill if cue.name == "other")
            for _ in range(60):
                place.client.cues.fire(other)
        assert [ctx.execution_id for ctx in report.ran] == [later]


@BOTH
def test_a_misfit_that_is_fired_for_later_is_reported_in_the_end(app: CueTasks, profile: Profile | None) -> None:
    failures: list[str] = []
    app.after_failure(lambda ctx, error: failures.append(ctx.execution_id))

    @app.schedule(cron="0 9 * * *")
    def report(region: int = 1) -> None: ...

    with workplace(app, profile) as place:
        cue_id = place.cue_id("billing/report")
        payload = place.client.cues.get(cue_id).payload
        place.client.cues.update(cue_id, payload={**payload, "region": "eu"})
        fired = place.fire(send_at=LATER)
        place.work(place.worker(), seconds=41 * MINUTE)
        assert "does not fit 'report'" in str(place.error(fired))
    assert failures == [fired]


# an API that does not answer as it should


def answering(status: int, content: str, kind: str = "application/json") -> Fault:
    """Let something else than CueAPI answer."""

    def answer(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        return httpx.Response(status, text=content, headers={"Content-Type": kind})

    return answer


NOT_CUEAPI = [
    answering(404, '{"detail": "Not Found"}'),
    answering(403, '{"detail": "forbidden"}'),
    answering(200, "<html>", "text/html"),
    answering(200, '{"ok": true}'),
    answering(200, '{"executions": [{"odd": true}]}'),
    answering(200, '{"executions": 1}'),
    answering(413, "too large"),
    answering(429, "{}"),
    answering(503, "busy"),
]


@pytest.mark.parametrize("fault", NOT_CUEAPI)
def test_what_is_no_answer_of_cueapis_is_said_once_and_ends_a_run_that_cron_began(
    app: CueTasks, report: Effects, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    with workplace(app) as place:
        place.fire()
        worker, once = place.worker(), place.worker()
        place.remote.line.rules["GET /v1/executions/claimable"] = fault
        place.work(worker, seconds=5 * MINUTE)
        assert len(events(caplog, "queue_unavailable")) == 1
        with pytest.raises(CueAPIError):
            once.run(once=True)
    assert report.ran == []


def test_an_outcome_that_is_too_large_is_recorded_without_its_evidence(app: CueTasks, report: Effects) -> None:
    report.answers = [Done(artifacts=["x" * 1_200_000], result="sent")]
    with workplace(app, CORE_PROFILE) as place:
        fired = place.fire()
        place.work(place.worker(), seconds=MINUTE)
        assert place.succeeded(fired)


def test_one_execution_whose_heartbeat_fails_keeps_no_other_from_being_kept(app: CueTasks, report: Effects) -> None:
    with workplace(app, CORE_PROFILE) as place:
        first, second = place.fire(send_at=LATER), place.fire(send_at=LATER + timedelta(seconds=1))
        worker = place.worker()
        place.remote.line.rules[f"{first}/heartbeat"] = answering(500, "{}")
        place.work(worker, seconds=29 * MINUTE)
        assert place.get(second).status == "delivering"


def test_heartbeats_go_on_after_an_error_that_nobody_foresaw(
    app: CueTasks, report: Effects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with workplace(app) as place:
        claims = place.worker()._claims
        looks = iter([False, False, True])
        monkeypatch.setattr(claims, "_clocks", claims._clocks.__class__(wait=lambda event, seconds: next(looks)))
        monkeypatch.setattr(claims, "beat", lambda: 1 / 0)
        claims._loop()
    assert caplog.text.count("ZeroDivisionError") == 2


def test_a_host_whose_name_is_not_ascii_has_a_worker_that_the_server_takes(
    app: CueTasks, report: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "jürgens-mac")
    with workplace(app, CORE_PROFILE) as place:
        later = place.fire(send_at=LATER)
        worker = place.worker()
        place.work(worker, seconds=10 * MINUTE)
        assert "j-rgens-mac" in worker.id
        assert place.get(later).status == "delivering"


# `--once`


def test_what_a_run_that_cron_began_leaves_claimed_is_kept_alive_by_the_next(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with workplace(app, CORE_PROFILE) as place:
        later = place.fire(send_at=LATER)
        for _ in range(9):
            assert place.worker().run(once=True) == []
            place.remote.wait(4 * MINUTE)
        assert place.succeeded(later)
    assert len(events(caplog, "taken_up")) == 1  # when its time had come


def test_a_run_that_cron_began_waits_for_its_functions_though_the_api_is_away(app: CueTasks, report: Effects) -> None:
    with workplace(app) as place:
        worker = place.worker()
        place.remote.line.rules[""] = unreachable
        worker._lanes.plain._free -= 1
        worker._turn()
        assert not worker._is_over
        worker._lanes.plain._free += 1
        assert worker._is_over


# clocks


def test_a_machine_whose_clock_is_late_runs_what_is_due_at_the_server(
    app: CueTasks, report: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    with workplace(app) as place:
        fired = place.fire()
        late = place.worker(behind=600.0)
        place.work(late, seconds=30)
        assert place.succeeded(fired)
    assert [each["seconds"] for each in events(caplog, "clock_differs")] == [600]
