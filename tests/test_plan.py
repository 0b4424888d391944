"""Planning and applying, against the embedded server in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cueapi import Cue
from cueapi_tasks import CueTasks, DeployError
from cueapi_tasks.deploy import normal, render
from cueapi_tasks.deploy.change import Action, Plan

from .support import NOON, World

Worlds = Callable[[CueTasks], World]


def report(region: str = "us") -> None:
    """Send the report."""


def refresh() -> None:
    """Refresh."""


def declare(app: CueTasks, **changes: Any) -> CueTasks:
    app.schedule(**({"cron": "0 9 * * *"} | changes))(report)
    return app


def actions(plan: Plan) -> dict[str, str]:
    return {change.name: change.action.value for change in plan.changes}


def cues(world: World) -> dict[str, Cue]:
    return {cue.name: cue for cue in world.client.cues.iter()}


def redeclared(world: World, **changes: Any) -> World:
    """Return the same world after the code has changed to declare the report like this, and nothing else."""
    app = declare(CueTasks(world.app.name), **changes)
    app.override(callback="http://receiver.test/cueapi")
    world.app = app
    return world


def test_a_first_deploy_creates_and_a_second_writes_nothing(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), payload={"region": "eu"}))
    assert actions(world.deploy()) == {"billing/report": "create"}
    before = cues(world)
    assert actions(world.deploy()) == {"billing/report": "keep"}
    assert cues(world) == before
    assert before["billing/report"].payload["_cueapi_tasks"]["task"] == "report"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "0 8 * * *"}, "schedule.cron"),
        ({"timezone": "Europe/Berlin"}, "schedule.timezone"),
        ({"payload": {"region": "eu"}}, "payload.region"),
        ({"description": "other"}, "description"),
        ({"retry": {"max_attempts": 5}}, "retry.max_attempts"),
        ({"retry": {"backoff_minutes": [2]}}, "retry.backoff_minutes"),
        ({"on_failure": {"pause": True}}, "on_failure.pause"),
    ],
)
def test_a_changed_field_is_updated_in_place_and_nothing_else_moves(
    worlds: Worlds, changes: dict[str, Any], field: str
) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    before = cues(world)["billing/report"]
    made = redeclared(world, **changes).deploy()
    assert actions(made) == {"billing/report": "update"}
    assert field in made.changes[0].fields
    after = cues(world)["billing/report"]
    assert after.id == before.id
    assert (after.next_run == before.next_run) == (not field.startswith("schedule."))
    assert actions(world.plan()) == {"billing/report": "keep"}


def test_a_changed_retry_changes_the_stamp_with_it(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    redeclared(world, retry={"max_attempts": 7}).deploy()
    assert cues(world)["billing/report"].payload["_cueapi_tasks"]["max_attempts"] == 7


def test_a_task_that_left_the_code_is_paused_and_resumed_when_it_comes_back(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.app.schedule(every="1h")(refresh)
    world.deploy()
    assert actions(redeclared(world).deploy()) == {"billing/report": "keep", "billing/refresh": "pause"}
    assert cues(world)["billing/refresh"].payload["_cueapi_tasks"]["paused_by"] == "deploy"
    assert actions(world.plan())["billing/refresh"] == "keep"
    world.app.schedule(every="1h")(refresh)
    assert actions(world.deploy())["billing/refresh"] == "resume"
    back = cues(world)["billing/refresh"]
    assert (back.status, "paused_by" in back.payload["_cueapi_tasks"]) == ("active", False)
    assert {*actions(world.plan()).values()} == {"keep"}


def test_a_cue_that_a_person_paused_stays_paused_after_deploy(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    world.client.cues.pause(cues(world)["billing/report"].id)
    redeclared(world, description="other").deploy()
    assert cues(world)["billing/report"].status == "paused"


def test_what_a_person_put_into_the_callbacks_headers_stays(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    cue = cues(world)["billing/report"]
    world.client.cues.update(cue.id, callback_headers={"X-Mine": "1"})
    world.app.override(callback="http://receiver.test/other")
    world.deploy()
    after = cues(world)["billing/report"].callback
    assert (after.url, after.headers) == ("http://receiver.test/other", {"X-Mine": "1"})


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"_cueapi_tasks": {"v": 1, "app": "shop", "env": None, "task": "report", "schedule": None, "max_attempts": 3}},
    ],
)
def test_a_foreign_cue_is_never_touched_and_its_name_is_a_conflict(worlds: Worlds, payload: dict[str, Any]) -> None:
    world = worlds(declare(CueTasks("billing")))
    for name in ("billing/report", "billing/other"):
        world.client.cues.create(name, cron="0 1 * * *", callback="http://x.test", payload=payload)
    before = cues(world)
    made = world.deploy()
    assert (actions(made), made.foreign) == ({"billing/report": "conflict"}, 2)
    assert cues(world) == before


def test_another_environments_cues_are_foreign(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    world.app.override(environment="staging")
    assert actions(world.deploy()) == {"billing@staging/report": "create"}
    assert {*cues(world)} == {"billing/report", "billing@staging/report"}


def test_a_one_time_task_whose_moment_has_passed_is_in_sync_cue_or_no_cue(worlds: Worlds) -> None:
    world = worlds(CueTasks("billing"))
    world.app.schedule(at=NOON - timedelta(days=1))(refresh)
    world.app.schedule(at=NOON + timedelta(minutes=1))(report)
    assert actions(world.deploy()) == {"billing/refresh": "keep", "billing/report": "create"}
    world.clock.advance(minutes=1)
    assert world.run_due() == 1
    assert cues(world)["billing/report"].status == "completed"
    assert {*actions(world.plan()).values()} == {"keep"}


@pytest.mark.parametrize(
    ("callback", "code"), [(None, "no_callback"), ("", "no_callback"), ("not a url", "bad_callback")]
)
def test_without_a_callback_nothing_is_planned(worlds: Worlds, callback: str | None, code: str) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.app.override(callback=callback)
    with pytest.raises(DeployError) as caught:
        world.plan()
    assert caught.value.code == code


def test_a_callback_is_compared_as_the_server_normalises_it(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.app.override(callback="HTTP://Receiver.TEST:80")
    world.deploy()
    assert actions(world.plan()) == {"billing/report": "keep"}


def test_the_json_has_the_documented_shape(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    view = render.to_json(redeclared(world, cron="0 8 * * *").plan())
    change = view["changes"][0]
    assert {key: value for key, value in view.items() if key not in ("changes", "summary")} == {
        "version": 1,
        "app": "billing",
        "environment": None,
        "revision": None,
        "foreign": 0,
        "warnings": [],
        "guards": [],
        "usage": None,
    }
    assert view["summary"] == {action.value: int(action is Action.UPDATE) for action in Action}
    assert change["fields"] == {"schedule.cron": {"from": "0 9 * * *", "to": "0 8 * * *"}}
    assert change["next_runs"]["before"][0] == "2026-11-25T09:00:00Z"
    assert change["next_runs"]["after"][0] == "2026-11-25T08:00:00Z"
    assert (change["action"], change["name"]) == ("update", "billing/report")
    assert [each["code"] for each in change["warnings"]] == ["run_brought_forward"]


def test_a_worker_cue_has_no_callback_to_compare(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    (spec,) = world.app.specs()
    pulled = replace(spec, transport="worker", callback=None)
    assert not [name for name in normal.of_spec(pulled) if name.startswith("callback")]
    world.client.cues.create("w", cron="0 9 * * *", transport="worker")
    assert not [name for name in normal.of_cue(cues(world)["w"]) if name.startswith("callback")]


def test_the_text_of_a_plan_with_everything_in_it(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    world.client.cues.create("billing/taken", cron="0 1 * * *", callback="http://x.test")
    world.app = CueTasks("billing")
    world.app.override(callback="http://receiver.test/cueapi")
    world.app.schedule(cron="0 9 * * *", task="taken")(refresh)
    world.app.schedule(at="2027-01-01T09:00", timezone="Europe/Berlin", task="new_year")(refresh)
    assert render.to_text(world.plan()) == (
        "! conflict billing/taken\n"
        "    the cue billing/taken was not made by this app; rename one of the two, or take it over: --adopt\n"
        "+ create billing/new_year\n"
        "    once at Fri 2027-01-01 09:00:00 CET\n"
        "    next runs: Fri 2027-01-01 09:00:00 CET\n"
        "    a run that keeps failing gives up after at most 7 min 30 s (3 attempts)\n"
        "- pause billing/report\n"
        "    it left the code\n"
        '    status: "active" -> "paused"\n'
        "    next runs: Wed 2026-11-25 09:00:00 UTC -> none\n"
        "1 to create, 1 to pause, 1 in conflict; 1 cues of others are left alone"
    )
    assert render.summary(Plan(owner=world.app.owner, changes=(), foreign=0)) == "nothing declared, nothing there"


def test_the_text_says_what_changes_and_when_it_runs_next(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    assert render.to_text(world.plan()) == "1 to keep"
    assert "next run" not in render.to_text(redeclared(world, description="other").plan())
    assert render.to_text(redeclared(world, cron="0 8 * * *").plan()) == (
        "~ update billing/report\n"
        '    schedule.cron: "0 9 * * *" -> "0 8 * * *"\n'
        "    next runs: Wed 2026-11-25 09:00:00 UTC -> Wed 2026-11-25 08:00:00 UTC\n"
        "               Thu 2026-11-26 09:00:00 UTC -> Thu 2026-11-26 08:00:00 UTC\n"
        "               Fri 2026-11-27 09:00:00 UTC -> Fri 2026-11-27 08:00:00 UTC\n"
        "               Sat 2026-11-28 09:00:00 UTC -> Sat 2026-11-28 08:00:00 UTC\n"
        "               Sun 2026-11-29 09:00:00 UTC -> Sun 2026-11-29 08:00:00 UTC\n"
        "    warning [run_brought_forward]: the next run comes earlier: "
        "Wed 2026-11-25 08:00:00 UTC, not Wed 2026-11-25 09:00:00 UTC\n"
        "1 to update"
    )
