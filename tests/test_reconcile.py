"""Ownership, removal, renames and people's edits: what a deploy does with each cue, and what it never touches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cueapi_tasks import CueTasks
from cueapi_tasks.declare.binding import STAMP_KEY

from .deploying import NAME, actions, code, cues, declare, in_sync, refresh, stamp, wired
from .support import World

Worlds = Callable[[CueTasks], World]
X = "http://x.test"


@pytest.fixture
def world(worlds: Worlds) -> World:
    """Return a world in which the report is deployed."""
    made = worlds(declare(CueTasks("billing")))
    made.deploy()
    return made


def test_each_cue_carries_the_stamp_and_the_routing_key_with_the_environment(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing", environment="staging"), name="early", payload={"region": "eu"}))
    world.deploy(revision=7)
    (cue,) = cues(world).values()
    assert cue.name == "billing@staging/report:early"
    assert cue.payload["task"] == "billing@staging/report"
    assert {key: value for key, value in stamp(cue).items() if key != "digests"} == {
        "v": 1, "app": "billing", "env": "staging", "task": "report", "schedule": "early", "max_attempts": 3,
        "revision": 7,
    }  # fmt: skip


def test_both_reserved_keys_are_stripped_before_the_function_sees_the_payload(worlds: Worlds) -> None:
    world = worlds(CueTasks("billing"))
    seen: list[dict[str, Any]] = []

    @world.app.schedule(cron="0 9 * * *", payload={"region": "eu"})
    def keep(payload: dict[str, Any]) -> None:
        seen.append(payload)

    world.deploy()
    world.client.cues.fire(cues(world)["billing/keep"].id)
    world.run_due()
    assert seen == [{"region": "eu"}]


@pytest.mark.parametrize(
    "change",
    [{"app": "shop"}, {"env": "staging"}, {"v": 2}, {"app": 5}, None],
    ids=["another app", "another environment", "another version", "nonsense", "no stamp"],
)
def test_a_cue_without_our_stamp_is_foreign_whatever_its_name(world: World, change: dict[str, Any] | None) -> None:
    old = cues(world)[NAME]
    payload = {} if change is None else old.payload | {STAMP_KEY: stamp(old) | change}
    world.client.cues.update(old.id, payload=payload)
    before = cues(world)
    for wishes in ({}, {"prune": True}):
        code(world)
        assert (world.deploy(**wishes).changes, cues(world)) == ((), before)
    declare(code(world))
    assert actions(world.deploy(prune=True)) == {NAME: "conflict"}
    assert cues(world) == before


def test_a_copy_is_foreign_and_stays_even_when_everything_is_pruned(world: World) -> None:
    ours = cues(world)[NAME]
    world.client.cues.create("a copy", cron="0 1 * * *", callback=X, payload=ours.payload)
    copy = cues(world)["a copy"]
    made = world.plan()
    assert (actions(made), made.foreign) == ({NAME: "keep"}, 1)
    code(world)
    world.deploy(prune=True)
    assert cues(world) == {"a copy": copy}


def test_a_cue_renamed_by_hand_is_shown_as_drift_and_put_right_in_place(world: World) -> None:
    before = cues(world)[NAME]
    world.client.cues.update(before.id, name="renamed")
    made = world.deploy()
    assert actions(made) == {NAME: "rename"}
    assert (made.changes[0].drift, made.changes[0].fields) == (("name",), {"name": ("renamed", NAME)})
    after = cues(world)[NAME]
    assert (after.id, after.next_run) == (before.id, before.next_run)
    assert in_sync(world)


def test_of_two_cues_with_our_stamp_under_other_names_neither_is_ours(world: World) -> None:
    old = cues(world)[NAME]
    world.client.cues.update(old.id, name="one")
    world.client.cues.create("two", cron="0 1 * * *", callback=X, payload=old.payload)
    assert actions(world.deploy()) == {NAME: "create"}
    assert {*cues(world)} == {"one", "two", NAME}


def test_a_foreign_cue_is_adopted_in_place_keeping_id_next_run_and_a_persons_pause(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    for name, cron in ((NAME, "0 9 * * *"), ("other", "0 1 * * *")):
        world.client.cues.create(name, cron=cron, callback=X, payload={"mine": 1})
    before = cues(world)
    assert actions(world.deploy()) == {NAME: "conflict"}
    assert cues(world) == before
    assert actions(world.deploy(adopt=True)) == {NAME: "adopt"}
    after = cues(world)
    assert (after[NAME].id, after[NAME].next_run) == (before[NAME].id, before[NAME].next_run)
    assert "mine" not in after[NAME].payload
    assert after["other"] == before["other"]
    assert in_sync(world)


def test_adopts_takes_over_a_cue_of_any_name_and_renames_it(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), adopts="nightly thing"))
    old = world.client.cues.create("nightly thing", cron="0 9 * * *", callback=X)
    world.client.cues.pause(old.id)
    made = world.deploy()
    assert (actions(made), "--adopt" in str(made.changes[0].note)) == ({NAME: "conflict"}, True)
    world.deploy(adopt=True)
    (after,) = cues(world).values()
    assert (after.id, after.name, after.status) == (old.id, NAME, "paused")
    assert in_sync(world)


def test_an_adopts_that_names_no_cue_is_warned_about(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), adopts="nightly thign"))
    made = world.plan(adopt=True)
    assert (actions(made), [each.code for each in made.warnings]) == ({NAME: "create"}, ["nothing_to_adopt"])


def test_a_cue_of_another_transport_cannot_be_adopted(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.client.cues.create(NAME, cron="0 9 * * *", transport="worker")
    made = world.plan(adopt=True)
    assert (actions(made), "transport" in str(made.changes[0].note)) == ({NAME: "conflict"}, True)


def test_was_renames_a_schedule_in_place(world: World) -> None:
    before = cues(world)[NAME]
    declare(code(world), task="summary", was="report")
    assert actions(world.deploy()) == {"billing/summary": "rename"}
    (after,) = cues(world).values()
    assert (after.id, after.name, after.next_run) == (before.id, "billing/summary", before.next_run)
    assert after.payload["task"] == "billing/summary"
    assert in_sync(world)


def test_was_renames_an_app_in_place_and_what_the_old_app_no_longer_declares_is_paused(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.app.schedule(every="1h")(refresh)
    world.deploy()
    before = cues(world)
    declare(code(world, "invoicing", was="billing"))
    assert actions(world.deploy()) == {"invoicing/report": "rename", "billing/refresh": "pause"}
    after = cues(world)
    assert after["invoicing/report"].id == before[NAME].id
    assert stamp(after["invoicing/report"])["app"] == "invoicing"
    assert in_sync(world)


def test_was_finds_a_schedule_of_a_renamed_app_under_either_name(world: World) -> None:
    before = cues(world)[NAME]
    declare(code(world, "invoicing", was="billing"), task="summary", was="report")
    world.deploy()
    assert {cue.id: cue.name for cue in cues(world).values()} == {before.id: "invoicing/summary"}


def test_was_when_both_names_exist_keeps_the_new_one_and_pauses_the_old(world: World) -> None:
    world.app.schedule(cron="0 9 * * *", task="summary")(refresh)
    world.deploy()
    declare(code(world), task="summary", was="report", description="Refresh.", cron="0 9 * * *")
    assert actions(world.deploy()) == {"billing/summary": "keep", NAME: "pause"}
    assert in_sync(world)


def test_was_does_not_take_a_name_that_is_still_declared(world: World) -> None:
    world.app.schedule(every="1h", was="report")(refresh)
    assert actions(world.plan()) == {NAME: "keep", "billing/refresh": "create"}


def test_prune_deletes_what_left_the_code(world: World) -> None:
    code(world)
    assert actions(world.plan()) == {NAME: "pause"}
    assert actions(world.deploy(prune=True)) == {NAME: "delete"}
    assert cues(world) == {}


@pytest.mark.parametrize(
    ("declared", "by_hand", "ends", "by"),
    [
        (None, "paused", "paused", None),
        (False, "paused", "active", None),
        (True, None, "paused", "deploy"),
        (False, None, "active", None),
    ],
)
def test_a_pause_by_a_person_stays_unless_the_code_says_otherwise(
    worlds: Worlds, declared: bool | None, by_hand: str | None, ends: str, by: str | None
) -> None:
    world = worlds(declare(CueTasks("billing"), paused=declared))
    world.deploy()
    if by_hand:
        world.client.cues.update(cues(world)[NAME].id, status=by_hand)
    world.deploy()
    cue = cues(world)[NAME]
    assert (cue.status, stamp(cue).get("paused_by")) == (ends, by)
    assert in_sync(world)


def test_a_pause_that_the_code_no_longer_declares_is_lifted(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), paused=True))
    world.deploy()
    declare(code(world))
    assert actions(world.deploy()) == {NAME: "resume"}
    assert in_sync(world)


def test_a_person_who_resumes_what_a_deploy_paused_is_not_overruled(world: World) -> None:
    code(world)
    world.deploy()
    world.client.cues.resume(cues(world)[NAME].id)
    assert actions(world.deploy()) == {NAME: "keep"}
    declare(code(world))
    world.deploy()
    cue = cues(world)[NAME]
    assert (cue.status, "paused_by" in stamp(cue)) == ("active", False)


def test_what_a_person_paused_before_it_left_the_code_stays_paused_when_it_comes_back(world: World) -> None:
    world.client.cues.pause(cues(world)[NAME].id)
    code(world)
    assert actions(world.deploy()) == {NAME: "keep"}
    declare(code(world), description="other")
    assert actions(world.deploy()) == {NAME: "update"}
    assert cues(world)[NAME].status == "paused"


def test_a_moved_task_takes_the_place_of_its_name_in_the_code(world: World) -> None:
    wire = wired(world)
    code(world).schedule(cron="0 9 * * *", task="report", description="Send the report.")(refresh)
    assert actions(world.deploy()) == {NAME: "keep"}
    assert wire.writes == []
