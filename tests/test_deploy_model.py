"""Deploys between edits by people, foreign cues, crashes, lost answers and other deploys: what must always hold.

A foreign cue never changes; after a completed deploy the remote state is what is declared, and a second deploy
writes nothing; no run that the plan did not announce is dropped or brought forward.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cueapi import Cue, CueAPIError
from cueapi_tasks.declare.schedules import recurring
from cueapi_tasks.declare.spec import CueSpec, Owner, read_stamp
from cueapi_tasks.deploy import normal
from cueapi_tasks.deploy.change import Action, Plan
from cueapi_tasks.deploy.ownership import sort_out
from cueapi_tasks.deploy.saved import fingerprint
from cueapi_tasks.server.profile import Profile, make_profile

from .remote import Fault, Killed, Remote, failed_after, killed_after, killed_before, lost

OWNER = Owner(app="billing", environment="staging")
CRONS = ["0 9 * * *", "30 1 * * *", "*/15 * * * *", "1 12 * * *"]
ZONES = ["UTC", "America/New_York"]
FAULTS: list[Fault] = [lost, failed_after, killed_before, killed_after]

specs_of = st.fixed_dictionaries(
    {},
    optional={
        task: st.fixed_dictionaries(
            {
                "cron": st.sampled_from(CRONS),
                "zone": st.sampled_from(ZONES),
                "transport": st.sampled_from(["webhook", "webhook", "worker"]),
                "paused": st.sampled_from([None, None, True, False]),
                "payload": st.sampled_from([{}, {"region": "eu"}, {"region": "us", "n": 1}]),
            }
        )
        for task in ("report", "refresh", "clean")
    },
)
NTH = st.integers(0, 5)
EDITS: list[dict[str, Any]] = [
    {"description": "by hand"},
    {"status": "paused"},
    {"status": "active"},
    {"cron": "7 7 * * *", "timezone": "UTC"},
    {"callback_headers": {"X-Mine": "1"}},
    {"retry": {"max_attempts": 7, "backoff_minutes": [2]}},
    {"name": "billing@staging/by-hand"},
]


def make_spec(task: str, chosen: dict[str, Any]) -> CueSpec:
    return CueSpec(
        owner=OWNER,
        task=task,
        name=f"{OWNER.scope}/{task}",
        schedule_name=None,
        schedule=recurring(chosen["cron"], chosen["zone"]),
        callback="http://receiver.test/cueapi" if chosen["transport"] == "webhook" else None,
        payload=chosen["payload"],
        transport=chosen["transport"],
        paused=chosen["paused"],
    )


class Deploys(RuleBasedStateMachine):
    profile: Profile = Profile()

    def __init__(self) -> None:
        super().__init__()
        self.remote = Remote(self.profile)
        self.specs: list[CueSpec] = []
        self.foreign: dict[str, str] = {}
        self.revision = 1

    def teardown(self) -> None:
        self.remote.close()

    @rule(chosen=specs_of)
    def change_the_code(self, chosen: dict[str, dict[str, Any]]) -> None:
        self.specs = [make_spec(task, each) for task, each in chosen.items()]
        self.revision += 1

    @rule(nth=NTH, changes=st.sampled_from(EDITS))
    def edit_by_hand(self, nth: int, changes: dict[str, Any]) -> None:
        cue = self._pick(nth)
        if cue is None or changes.get("name") in self._names():
            return
        if "callback_headers" in changes and cue.transport == "worker":
            return
        after = self.remote.client.cues.update(cue.id, **changes)
        if cue.id in self.foreign:
            self.foreign[cue.id] = fingerprint(after)

    @rule(nth=NTH)
    def delete_by_hand(self, nth: int) -> None:
        cue = self._pick(nth)
        if cue is not None:
            self.remote.client.cues.delete(cue.id)
            self.foreign.pop(cue.id, None)

    @rule(name=st.sampled_from(["billing@staging/report", "billing/report", "other"]))
    def somebody_makes_a_cue(self, name: str) -> None:
        if name not in self._names():
            made = self.remote.client.cues.create(name, cron="0 0 * * *", callback="http://other.test")
            self.foreign[made.id] = fingerprint(self.remote.client.cues.get(made.id))

    @rule(nth=NTH)
    def copy_by_hand(self, nth: int) -> None:
        source = self._pick(nth)
        if source is not None and "a copy" not in self._names():
            self.remote.client.cues.create("a copy", cron="0 0 * * *", callback="http://c.test", payload=source.payload)

    @rule()
    def a_run_becomes_due_and_the_server_has_not_looked_yet(self) -> None:
        due = [cue.next_run for cue in self.remote.cues().values() if cue.next_run and cue.status == "active"]
        if due:
            self.remote.clock.now = max(self.remote.clock.now, min(due))

    def _names(self) -> list[str]:
        return sorted(cue.name for cue in self.remote.cues().values())

    def _pick(self, nth: int) -> Cue | None:
        """Return one of the cues, the same one for the same history."""
        cues = sorted(self.remote.cues().values(), key=lambda cue: cue.name)
        return cues[nth % len(cues)] if cues else None

    @rule(hours=st.sampled_from([0.2, 5, 25]))
    def time_passes(self, hours: float) -> None:
        self.remote.wait(3600 * hours)

    @rule(after=st.integers(0, 12), fault=st.sampled_from(FAULTS))
    def deploy_with_a_fault(self, after: int, fault: Fault) -> None:
        self.remote.line.fail(after, fault)
        try:
            self._deploy()
        except (Killed, CueAPIError):
            pass
        finally:
            self.remote.line.faults.clear()

    @rule(chosen=specs_of, after=st.integers(0, 8))
    def two_deploy_at_once(self, chosen: dict[str, dict[str, Any]], after: int) -> None:
        mine, theirs = self.specs, [make_spec(task, each) for task, each in chosen.items()]
        done: list[bool] = []

        def other_goes_first(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
            if request.method == "GET":  # between a read and the write that follows it nothing can be seen
                done.append(self._apply(theirs, self.revision + 1))
            return send()

        self.remote.line.fail(after + 1, other_goes_first)  # once this one has seen what is there
        complete = self._deploy()
        self.remote.line.faults.clear()
        assert len(self._names()) == len({*self._names()})
        if complete:
            self._check_declared(mine)
        if complete and any(done):
            assert not self.remote.plan(theirs, OWNER).changed, "both ended well, and one was undone unseen"
        self.revision += 1

    @rule()
    def deploy(self) -> None:
        before = self.remote.cues()
        begun = len(self.remote.ran)
        made = self.remote.plan(self.specs, OWNER, self.revision)
        if made.conflicts:
            return
        report = self.remote.apply(made)
        if report.failures:
            assert {each.error.code for each in report.failures} <= {"cue_limit_exceeded"}
            return
        self._check_declared(self.specs)
        self._check_runs(made, before, begun)

    @invariant()
    def foreign_cues_never_change(self) -> None:
        cues = self.remote.cues()
        assert {cue_id: fingerprint(cues[cue_id]) for cue_id in self.foreign} == self.foreign

    def _deploy(self) -> bool:
        """Deploy as the command line does; tell whether it would have ended well."""
        return self._apply(self.specs, self.revision)

    def _apply(self, specs: list[CueSpec], revision: int) -> bool:
        made = self.remote.plan(specs, OWNER, revision)
        if made.conflicts or self.remote.apply(made).failures:
            return False
        left = self.remote.plan(specs, OWNER, revision)
        return not left.changed and not left.conflicts

    def _check_declared(self, specs: list[CueSpec]) -> None:
        cues = {cue.name: cue for cue in self.remote.cues().values()}
        for spec in specs:
            assert normal.difference(normal.of_cue(cues[spec.name]), normal.of_spec(spec)) == {}
            assert spec.paused is None or (cues[spec.name].status == "paused") == spec.paused
        wanted = {spec.name for spec in specs}
        left = [cue for name, cue in sort_out(cues.values(), {OWNER}).owned.items() if name not in wanted]
        assert all(cue.status != "active" or self._was_resumed(cue) for cue in left)
        written = len(self.remote.line.writes)
        assert self._apply(specs, self.revision)
        assert len(self.remote.line.writes) == written

    @staticmethod
    def _was_resumed(cue: Cue) -> bool:
        stamp = read_stamp(cue.payload)
        return stamp is not None and stamp.paused_by == "deploy"

    def _check_runs(self, made: Plan, before: dict[str, Cue], begun: int) -> None:
        """The next run of each cue is the one that it had, or the one that the plan announced."""
        after = self.remote.cues()
        ran = self.remote.ran[begun:]
        for change in made.changes:
            if change.cue is None or change.cue.id not in after or change.action is Action.REPLACE:
                continue
            now = after[change.cue.id].next_run
            due = before[change.cue.id].next_run
            announced = change.runs_before != change.runs_after
            expected: set[datetime | None] = {*(change.runs_after[:2] or [None])} if announced else {due}
            assert now in expected or (change.cue.id, due) in ran


class UnderFreeLimits(Deploys):
    profile = make_profile(limits="free")


class UnderCoreQuirks(Deploys):
    profile = make_profile(quirks=["core"])


EXAMPLES = settings(max_examples=12, stateful_step_count=14, suppress_health_check=[*HealthCheck])
MANY = settings(max_examples=30, stateful_step_count=25, suppress_health_check=[*HealthCheck])
MACHINES = [Deploys, UnderFreeLimits, UnderCoreQuirks]


@pytest.mark.parametrize("machine", MACHINES)
def test_deploys_converge_and_hurt_nobody(machine: type[Deploys]) -> None:
    run_state_machine_as_test(machine, settings=EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_deploys_converge_and_hurt_nobody_in_long_histories(machine: type[Deploys]) -> None:
    run_state_machine_as_test(machine, settings=MANY)


def test_a_deploy_killed_after_each_of_its_requests_is_finished_by_the_next() -> None:
    chosen: dict[str, Any] = {"cron": "0 9 * * *", "zone": "UTC", "transport": "webhook", "paused": None, "payload": {}}
    first = [make_spec(task, chosen) for task in ("report", "refresh", "clean")]
    second = [
        make_spec("report", chosen | {"transport": "worker"}),
        make_spec("refresh", chosen | {"cron": "1 1 * * *"}),
    ]
    for fault in FAULTS:
        for after in range(30):
            remote = Remote()
            remote.apply(remote.plan(first, OWNER, 1))
            begun = remote.line.requests
            remote.line.fail(after, fault)
            with contextlib.suppress(Killed):
                remote.apply(remote.plan(second, OWNER, 2))
            done = remote.line.requests - begun <= after
            remote.line.faults.clear()
            made = remote.plan(second, OWNER, 2)
            assert remote.apply(made).failures == ()
            left = remote.plan(second, OWNER, 2)
            assert [change.name for change in left.changed if not change.leftover] == []
            assert {cue.name: cue.status for cue in remote.cues().values()} == {
                "billing@staging/report": "active",
                "billing@staging/refresh": "active",
                "billing@staging/clean": "paused",
            }
            remote.close()
            if done:
                break
