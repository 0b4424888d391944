"""What a deploy writes: only what differs, shown as drift where somebody else changed it, and once where an answer is lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cueapi_tasks import CueTasks
from cueapi_tasks.deploy import normal, render
from cueapi_tasks.deploy.markdown import to_markdown

from .deploying import NAME, actions, code, cues, declare, in_sync, refresh, wired
from .support import CALLBACK, NOON, World

Worlds = Callable[[CueTasks], World]
SOON = (NOON + timedelta(days=1)).isoformat()


@pytest.fixture
def world(worlds: Worlds) -> World:
    """Return a world in which the report is deployed."""
    made = worlds(declare(CueTasks("billing")))
    made.deploy()
    return made


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"cron": "0 8 * * *"}, {"schedule": {"type": "recurring", "cron": "0 8 * * *", "timezone": "UTC"}}),
        ({"timezone": "Asia/Tokyo"}, {"schedule": {"type": "recurring", "cron": "0 9 * * *", "timezone": "Asia/Tokyo"}}),
        ({"retry": {"max_attempts": 5}}, {"retry": {"max_attempts": 5, "backoff_minutes": [1, 5, 15]}}),
        ({"on_failure": {"pause": True}}, {"on_failure": {"email": True, "webhook": None, "pause": True}}),
        ({"description": "x"}, {"description": "x"}),
        ({"verification": "manual"}, {"verification": {"mode": "manual"}}),
        ({"payload": {"region": "eu"}}, {}),
        ({"callback_headers": {"X-A": "1"}}, {"callback": {"url": CALLBACK, "method": "POST", "headers": {"X-A": "1"}}}),
        ({"paused": True}, {"status": "paused"}),
    ],
)  # fmt: skip
def test_a_change_sends_one_patch_with_that_part_whole_and_the_stamp(
    world: World, options: dict[str, Any], sent: dict[str, Any]
) -> None:
    wire = wired(world)
    declare(code(world), **options)
    made = world.deploy()
    ((method, path, body),) = wire.writes
    assert (method, path) == ("PATCH", f"/v1/cues/{cues(world)[NAME].id}")
    assert {key: value for key, value in body.items() if key != "payload"} == sent
    assert {*body["payload"]} == {*options.get("payload", {}), "task", "_cueapi_tasks"}
    assert made.changes[0].drift == ()
    assert in_sync(world)


def test_nothing_to_do_is_not_one_write(world: World) -> None:
    wire = wired(world)
    assert actions(world.deploy()) == {NAME: "keep"}
    assert wire.writes == []


@pytest.mark.parametrize("payload", [{"region": "e", "n": (1, 2)}, {"region": "e", "by": {1: "x"}}])
def test_a_payload_is_compared_as_json_has_it(worlds: Worlds, payload: dict[str, Any]) -> None:
    world = worlds(CueTasks("billing"))
    world.app.schedule(cron="0 9 * * *", payload=payload)(takes_any)
    world.deploy()
    assert in_sync(world)


def takes_any(payload: dict[str, Any]) -> None:
    """Take any payload."""


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        ({"description": "edited"}, "description"),
        ({"cron": "0 7 * * *"}, "schedule.cron"),
        ({"retry": {"max_attempts": 9}}, "retry.max_attempts"),
        ({"on_failure": {"email": False}}, "on_failure.email"),
        ({"callback": "http://elsewhere.test/"}, "callback.url"),
        ({"callback_method": "GET"}, "callback.method"),
        ({"verification": {"mode": "manual"}}, "verification.mode"),
    ],
)
def test_an_edit_elsewhere_is_shown_as_drift_and_put_right_also_where_nothing_is_declared(
    world: World, edit: dict[str, Any], field: str
) -> None:
    before = cues(world)[NAME]
    world.client.cues.update(before.id, **edit)
    made = world.deploy()
    assert made.changes[0].drift == (field,)
    assert render.to_json(made)["changes"][0]["fields"][field]["drift"] is True
    assert "edited elsewhere" in render.to_text(made)
    assert "(edited elsewhere)" in to_markdown(made)
    assert normal.of_cue(cues(world)[NAME]) == normal.of_cue(before)


def test_what_the_code_changed_is_not_called_drift(world: World) -> None:
    world.client.cues.update(cues(world)[NAME].id, description="edited")
    declare(code(world), cron="0 8 * * *")
    assert world.plan().changes[0].drift == ("description",)


def test_headers_that_people_put_there_are_left_alone_until_the_code_declares_them(world: World) -> None:
    world.client.cues.update(cues(world)[NAME].id, callback_headers={"Authorization": "Bearer hers"})
    assert in_sync(world)
    declare(code(world), callback_headers={"Authorization": "Bearer ours"})
    made = world.deploy()
    for text in (render.to_text(made), str(render.to_json(made)), to_markdown(made)):
        assert "Bearer" not in text
        assert "***" in text
    assert cues(world)[NAME].callback.headers == {"Authorization": "Bearer ours"}
    declare(code(world), callback_headers={})
    world.deploy()
    assert not cues(world)[NAME].callback.headers
    assert in_sync(world)


def test_declaring_headers_for_the_first_time_is_no_drift(world: World) -> None:
    declare(code(world), callback_headers={"X-A": "1"})
    world.app.override(callback="http://receiver.test/other")
    assert world.deploy().changes[0].drift == ()
    declare(code(world))
    assert world.plan().changes[0].drift == ()


def test_a_higher_revision_that_changes_nothing_else_is_noted_in_one_stamp(worlds: Worlds) -> None:
    world = worlds(CueTasks("billing"))
    world.app.schedule(at=SOON)(refresh)
    declare(world.app).schedule(every="1h", task="hourly")(refresh)
    world.deploy(revision=5)
    world.clock.advance(days=1)
    while world.run_due():
        pass
    assert cues(world)["billing/refresh"].status == "completed"
    wire = wired(world)
    assert "revision 6 is noted in" in render.to_text(world.deploy(revision=6))
    ((method, _, body),) = wire.writes
    assert (method, {*body}, body["payload"]["_cueapi_tasks"]["revision"]) == ("PATCH", {"payload"}, 6)
    assert in_sync(world, revision=6)


def test_after_a_deploy_that_only_deletes_the_next_one_writes_nothing(world: World) -> None:
    world.app.schedule(every="1h")(refresh)
    world.deploy(revision=1)
    declare(code(world))
    assert actions(world.deploy(revision=2, prune=True)) == {NAME: "keep", "billing/refresh": "delete"}
    assert in_sync(world, revision=2)


def test_an_older_revision_is_warned_about(world: World) -> None:
    world.deploy(revision=5)
    made = world.plan(revision=4)
    assert (made.older, [each.code for each in made.warnings]) == (True, ["older_revision"])
    assert "older than the deployed 5" in render.to_text(made)


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_write_whose_answer_is_lost_is_sent_again_and_done_once(worlds: Worlds, method: str) -> None:
    world = worlds(declare(CueTasks("billing"), paused=True))
    if method == "DELETE":
        world.deploy()
        code(world)
    wire = wired(world, lose=method)
    world.deploy(prune=True)
    assert wire.methods.count(method) == 2
    assert len(cues(world)) == (method != "DELETE")
    assert in_sync(world)


def test_a_cue_that_somebody_changed_between_plan_and_apply_is_left_alone(world: World) -> None:
    declare(code(world), cron="0 8 * * *")
    made = world.plan()
    world.client.cues.update(cues(world)[NAME].id, description="hers")
    wire = wired(world)
    (failure,) = world.apply(made).failures
    assert (failure.error.code, wire.writes) == ("changed_meanwhile", [])


def test_a_name_that_another_deploy_took_meanwhile_is_told_with_its_revision(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    made = world.plan()
    world.deploy(revision=9)
    (failure,) = world.apply(made).failures
    assert "revision 9" in str(failure.error)


def test_an_update_of_a_schedule_waits_out_a_run_that_is_due(world: World) -> None:
    world.clock.now = NOON.replace(hour=8, minute=59, second=55) + timedelta(days=1)
    declare(code(world), cron="0 8 * * *")
    world.deploy()
    assert world.client.executions.list().total == 1
