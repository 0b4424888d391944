"""What a plan predicts, what the embedded server then runs, and a scan of every minute without croniter, all agree."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from cueapi import Cue
from cueapi_tasks.declare.policy import Policy, decide
from cueapi_tasks.declare.schedules import recurring
from cueapi_tasks.declare.spec import CueSpec, Owner
from cueapi_tasks.deploy.change import Action
from cueapi_tasks.deploy.forecast import coming_runs

from .remote import Remote
from .test_server_oracle import CRONS, DAYS, ZONES, numbers, scan

OWNER = Owner(app="billing")
EDITS = [
    ("0 9 * * *", "30 1 * * *"),
    ("30 1 * * *", "30 2 * * *"),
    ("*/20 * * * *", "15,45 1-3 * * *"),
    ("0 2,3 * * *", "0 * * * *"),
]
STARTS = [(zone, start) for zone, starts in ZONES.items() for start in starts]


def make_spec(cron: str, zone: str, dst: str) -> CueSpec:
    return CueSpec(
        owner=OWNER,
        task="report",
        name="billing/report",
        schedule_name=None,
        schedule=recurring(cron, zone),
        callback="http://receiver.test/cueapi",
        payload={},
        policy=Policy(dst=dst),
    )


def expected(cron: str, zone: str, dst: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Scan every minute, and leave out what comes by the wall clock a second time, unless it comes every hour."""
    seen: set[datetime] = set()
    every_hour = numbers(cron.split()[1], 0, 23) == set(range(24))
    for moment in scan(cron, zone, start, end):
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        if dst == "twice" or every_hour or wall not in seen:
            yield moment
        seen.add(wall)


def deployed(remote: Remote, spec: CueSpec) -> tuple[datetime, ...]:
    """Deploy, and return the runs that the plan had announced."""
    made = remote.plan([spec], OWNER)
    assert remote.apply(made).failures == ()
    (change,) = made.changes
    assert change.action in (Action.CREATE, Action.UPDATE)
    return change.runs_after


def runs(remote: Remote, spec: CueSpec, start: datetime) -> list[datetime]:
    """Let the server run for some days, and return what its receiver's policy would have let through."""
    begun = len(remote.ran)
    remote.server.run_until(start + DAYS)
    fired = [moment for _, moment in remote.ran[begun:]]
    return [moment for moment in fired if decide(spec.policy, spec.schedule, moment, moment) == "run"]


def only(remote: Remote) -> Cue:
    (cue,) = remote.cues().values()
    return cue


@pytest.mark.parametrize("dst", ["once", "twice"])
@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize(("zone", "start"), STARTS)
def test_predicted_runs_are_those_that_come(cron: str, zone: str, start: datetime, dst: str) -> None:
    remote = Remote()
    remote.clock.now = start
    spec = make_spec(cron, zone, dst)
    announced = deployed(remote, spec)
    wanted = [*expected(cron, zone, dst, start, start + DAYS)]
    predicted = [*takewhile(lambda run: run <= start + DAYS, coming_runs(spec.schedule, start, spec.policy))]
    assert runs(remote, spec, start) == predicted == wanted
    assert [*announced[: len(wanted)]] == wanted[: len(announced)]
    remote.close()


@pytest.mark.parametrize(("before", "after"), EDITS)
@pytest.mark.parametrize(("zone", "start"), STARTS)
def test_runs_after_an_edit_are_those_that_its_plan_announced(
    before: str, after: str, zone: str, start: datetime
) -> None:
    remote = Remote()
    remote.clock.now = start
    deployed(remote, make_spec(before, zone, "once"))
    edited = start + DAYS / 3
    remote.server.run_until(edited)
    spec = make_spec(after, zone, "once")
    cue_id = only(remote).id
    begun = len(remote.ran)
    announced = deployed(remote, spec)
    waited = remote.ran[begun:]  # a run that was due while the deploy wrote came first
    assert only(remote).id == cue_id
    moment = remote.clock.now
    wanted = [*expected(after, zone, "once", moment, moment + DAYS)]
    assert runs(remote, spec, moment) == wanted
    assert [run for run in announced if run > moment][: len(wanted)] == wanted[: len(announced)] or waited
    remote.close()
