"""Replacements that can be cut off anywhere, and one-time cues whose moments pass and move."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest

from cueapi_tasks import CueTasks
from cueapi_tasks.deploy.change import Action

from .deploying import NAME, Crash, actions, code, cues, declare, in_sync, wired
from .support import NOON, World

Worlds = Callable[[CueTasks], World]
SOON = (NOON + timedelta(days=1)).isoformat()


@pytest.fixture
def world(worlds: Worlds) -> World:
    """Return a world in which the report is deployed."""
    made = worlds(declare(CueTasks("billing")))
    made.deploy()
    return made


@pytest.mark.parametrize("by_hand", [None, "paused"])
@pytest.mark.parametrize("declared", [None, True, False])
@pytest.mark.parametrize("crash_after", range(1, 6))
def test_a_replacement_cut_off_after_any_write_is_finished_by_the_next_deploy(
    worlds: Worlds, crash_after: int, by_hand: str | None, declared: bool | None
) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    old = cues(world)[NAME]
    if by_hand:
        world.client.cues.update(old.id, status=by_hand)
    declare(code(world), transport="worker", paused=declared)
    wire = wired(world, crash_after=crash_after)
    try:
        assert actions(world.deploy()) == {NAME: "replace"}
    except Crash:
        wire.crash_after = None
        made = world.deploy()
        assert not [each for each in made.changes if each.drift]
    (new,) = cues(world).values()
    assert (new.name, new.transport, new.id == old.id) == (NAME, "worker", False)
    assert new.status == {None: by_hand or "active", True: "paused", False: "active"}[declared]
    assert in_sync(world)


def test_a_replacement_that_is_taken_back_before_it_is_done_keeps_the_old_cue(world: World) -> None:
    old = cues(world)[NAME]
    declare(code(world), transport="worker")
    wire = wired(world, crash_after=1)
    with pytest.raises(Crash):
        world.deploy()
    wire.crash_after = None
    declare(code(world))
    made = world.deploy()
    assert (actions(made), made.changes[0].drift) == ({NAME: "rename"}, ())
    assert {cue.id: cue.status for cue in cues(world).values()} == {old.id: "active"}


def test_a_replacement_whose_create_fails_puts_the_old_cue_back(world: World) -> None:
    before = cues(world)[NAME]
    declare(code(world), transport="worker")
    wired(world, refuse="POST")
    (failure,) = world.apply(world.plan()).failures
    assert failure.change.action is Action.REPLACE
    after = cues(world)[NAME]
    assert (after.id, after.status, after.payload) == (before.id, "active", before.payload)


@pytest.mark.parametrize("by_hand", ["active", "paused"])
def test_a_cue_parked_by_a_deploy_that_died_is_put_back_too_if_the_create_fails(world: World, by_hand: str) -> None:
    before = world.client.cues.update(cues(world)[NAME].id, status=by_hand)
    declare(code(world), transport="worker")
    wire = wired(world, crash_after=1)
    with pytest.raises(Crash):
        world.deploy()
    wire.crash_after, wire.refuse = None, "POST"
    assert len(world.apply(world.plan()).failures) == 1
    after = cues(world)[NAME]
    assert (after.id, after.status, after.payload) == (before.id, by_hand, before.payload)


def test_a_one_time_cue_that_ended_does_not_fire_again_when_it_is_put_back(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), at=SOON))
    world.deploy()
    world.clock.advance(days=1)
    world.run_due()
    declare(code(world), at=(NOON + timedelta(days=3)).isoformat(), transport="worker")
    wire = wired(world, refuse="POST")
    (failure,) = world.apply(world.plan()).failures
    assert failure.error.code == "refused"
    assert (world.run_due(), cues(world)[NAME].status) == (0, "paused")
    wire.refuse = None
    world.deploy()
    assert [cue.status for cue in cues(world).values()] == ["active"]


def test_a_replaced_cue_is_kept_parked_while_something_of_it_is_in_flight(world: World) -> None:
    old = cues(world)[NAME]
    world.client.cues.fire(old.id)
    declare(code(world), transport="worker")
    world.deploy()
    assert {cue.name: cue.status for cue in cues(world).values()} == {NAME: "active", f"replaced:{old.id}": "paused"}
    made = world.deploy()
    assert (actions(made)[f"replaced:{old.id}"], len(cues(world))) == ("delete", 2)
    assert world.run_due() == 1
    world.deploy()
    assert {*cues(world)} == {NAME}


def test_a_one_time_cue_moves_again_with_a_new_moment_in_one_patch(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), at=SOON))
    world.deploy()
    world.clock.advance(days=1)
    world.run_due()
    assert (cues(world)[NAME].status, in_sync(world)) == ("completed", True)
    declare(code(world), at=(NOON + timedelta(days=3)).isoformat())
    wire = wired(world)
    assert actions(world.deploy()) == {NAME: "resume"}
    ((_, _, body),) = wire.writes
    assert {*body} == {"schedule", "status", "payload"}
    assert (cues(world)[NAME].status, in_sync(world)) == ("active", True)


@pytest.mark.parametrize("crash_after", [1, 2, 3, None])
def test_a_one_time_cue_that_ended_can_be_replaced_with_a_new_moment(worlds: Worlds, crash_after: int | None) -> None:
    world = worlds(declare(CueTasks("billing"), at=SOON))
    world.deploy()
    world.clock.advance(days=1)
    world.run_due()
    declare(code(world), at=(NOON + timedelta(days=3)).isoformat(), transport="worker")
    wire = wired(world, crash_after=crash_after)
    with contextlib.suppress(Crash):
        world.deploy()
    wire.crash_after = None
    world.deploy()
    assert [(cue.name, cue.transport, cue.status) for cue in cues(world).values()] == [(NAME, "worker", "active")]


@pytest.mark.parametrize("declared", [None, False])
def test_a_one_time_cue_whose_moment_passed_while_it_was_paused_is_not_resumed(
    worlds: Worlds, declared: bool | None
) -> None:
    world = worlds(declare(CueTasks("billing"), at=SOON))
    world.deploy()
    code(world)
    world.deploy()
    world.clock.advance(days=2)
    declare(code(world), at=SOON, paused=declared)
    assert actions(world.deploy()) == {NAME: "keep"}
    assert cues(world)[NAME].status == "paused"


def test_a_cue_that_would_fire_at_another_moment_than_the_declared_one_that_passed_is_paused(world: World) -> None:
    declare(code(world), at=(NOON - timedelta(days=1)).isoformat())
    assert actions(world.deploy()) == {NAME: "pause"}
    assert in_sync(world)
