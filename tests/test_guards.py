"""Steps that have hurt people elsewhere: each is refused until its one flag allows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cueapi_tasks import CueTasks
from cueapi_tasks.deploy import render
from cueapi_tasks.deploy.change import Action, Plan
from cueapi_tasks.deploy.guards import Guard, guards, unreachable
from cueapi_tasks.deploy.markdown import to_markdown

from .deploying import NAME, code, cues, declare, refresh
from .support import World

Worlds = Callable[[CueTasks], World]
HOSTED = "https://api.cueapi.ai"


def found(plan: Plan, **settings: Any) -> list[tuple[str, str | None]]:
    return [(each.code, each.flag) for each in guards(plan, **settings)]


def declare_many(app: CueTasks, count: int) -> CueTasks:
    for number in range(count):
        app.schedule(every="1h", task=f"t{number}")(refresh)
    return app


@pytest.fixture
def world(worlds: Worlds) -> World:
    """Return a world in which the report is deployed."""
    made = worlds(declare(CueTasks("billing")))
    made.deploy()
    return made


def test_an_ordinary_plan_meets_no_guard(world: World) -> None:
    assert found(world.plan()) == []
    declare(code(world), cron="0 8 * * *")
    assert found(world.plan()) == []


def test_a_conflict_is_refused_and_no_flag_allows_it(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.client.cues.create(NAME, cron="0 1 * * *", callback="http://x.test")
    assert found(world.plan()) == [("conflict", None)]
    assert found(world.plan(adopt=True)) == []


def test_an_app_without_tasks_needs_allow_empty(world: World) -> None:
    code(world)
    assert found(world.plan()) == [("nothing_declared", "--allow-empty")]


@pytest.mark.parametrize(
    ("owned", "left", "guarded"),
    [
        (3, 1, False), (3, 2, False), (4, 3, False), (4, 2, False), (4, 1, True), (5, 3, False), (5, 2, True),
        (6, 3, False), (6, 2, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prune", [False, True])
def test_removing_more_than_half_of_at_least_four_cues_is_guarded(
    worlds: Worlds, owned: int, left: int, guarded: bool, prune: bool
) -> None:
    world = worlds(declare_many(CueTasks("billing"), owned))
    world.deploy()
    declare_many(code(world), left)
    assert found(world.plan(prune=prune)) == [("mass_removal", "--allow-mass-removal")] * guarded


def test_a_pause_that_the_code_declares_and_a_rename_are_no_removal(worlds: Worlds) -> None:
    world = worlds(declare_many(CueTasks("billing"), 4))
    world.deploy()
    for number in range(4):
        world.app.schedule(every="1h", task=f"t{number}", paused=True)(refresh)
    assert (found(world.plan()), world.plan().count(Action.PAUSE)) == ([], 4)
    app = code(world)
    for number in range(4):
        app.schedule(every="1h", task=f"u{number}", was=f"t{number}")(refresh)
    assert (found(world.plan()), world.plan().count(Action.RENAME)) == ([], 4)


def test_what_left_the_code_long_ago_is_not_removed_again(worlds: Worlds) -> None:
    world = worlds(declare_many(CueTasks("billing"), 4))
    world.deploy()
    declare_many(code(world), 1)
    world.deploy()
    assert found(world.plan()) == []


def test_another_transport_needs_replace_and_names_what_it_costs(world: World) -> None:
    declare(code(world), transport="worker")
    made = world.plan()
    assert found(made) == [("replace", "--replace")]
    assert NAME in next(guards(made)).message


def test_what_is_left_of_a_replacement_is_deleted_unguarded(world: World) -> None:
    world.client.cues.fire(cues(world)[NAME].id)
    declare(code(world), transport="worker")
    world.deploy()
    made = world.plan()
    assert (made.count(Action.DELETE), found(made)) == (1, [])


@pytest.mark.parametrize(
    ("callback", "moves"),
    [
        ("http://receiver.test/elsewhere", False),
        ("https://receiver.test/cueapi", False),
        ("http://RECEIVER.test:80/cueapi", False),
        ("http://staging.test/cueapi", True),
        ("http://receiver.test:8000/cueapi", True),
    ],
)
def test_a_callback_on_another_host_needs_move_callback(world: World, callback: str, moves: bool) -> None:
    world.app.override(callback=callback)
    made = world.plan()
    assert found(made) == [("callback_moved", "--move-callback")] * moves


def test_an_adopted_cue_may_move_since_adopting_was_asked_for(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.client.cues.create(NAME, cron="0 1 * * *", callback="http://x.test")
    assert found(world.plan(adopt=True)) == []


def test_a_staging_deploy_that_forgot_its_environment_meets_the_guard(world: World) -> None:
    world.app.override(callback="https://staging.test/cueapi")
    (guard,) = guards(world.plan())
    assert "staging.test, not receiver.test" in guard.message
    world.app.override(environment="staging")
    assert found(world.plan()) == []


@pytest.mark.parametrize(("revision", "refused"), [(4, True), (5, False), (6, False), (None, False)])
def test_an_older_revision_is_refused_where_the_project_says_so(
    world: World, revision: int | None, refused: bool
) -> None:
    world.deploy(revision=5)
    made = world.plan(revision=revision)
    assert found(made) == []
    assert found(made, refuse_older=True) == [("older_revision", None)] * refused


def test_a_guard_is_shown_with_its_remedy_in_every_form(world: World) -> None:
    guard = Guard(code="replace", flag="--replace", message="it takes a new cue")
    assert "refused [replace]: it takes a new cue; allow it with --replace" in render.to_text(
        world.plan(), guards=[guard]
    )
    assert "it takes a new cue; allow it with --replace (`replace`)" in to_markdown(world.plan(), guards=[guard])
    assert render.to_json(world.plan(), guards=[guard])["guards"][0]["flag"] == "--replace"
    assert render.remedy(replace(guard, flag=None)) == ""


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST", "app.localhost", "printer.local", "db.internal", "127.0.0.1", "127.9.9.9", "0.0.0.0",
        "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[::1]", "[fd00::1]",
        "[::ffff:127.0.0.1]", "localhost.", "web", "web:8000",
    ],
)  # fmt: skip
def test_a_callback_that_the_hosted_service_cannot_reach_is_found(host: str) -> None:
    app = declare(CueTasks("billing", callback=f"http://{host}/cueapi"))
    assert unreachable(iter(app.specs()), HOSTED) == f"http://{host}/cueapi"


@pytest.mark.parametrize("host", ["example.com", "8.8.8.8:8080", "[2606:4700::1111]", "local.example.com", "local.dev"])
def test_a_public_callback_is_let_through(host: str) -> None:
    app = declare(CueTasks("billing", callback=f"https://{host}/cueapi"))
    assert unreachable(iter(app.specs()), HOSTED) is None


@pytest.mark.parametrize("server", ["http://127.0.0.1:8000", "https://cueapi.example.com"])
def test_a_server_of_ones_own_may_call_anything(server: str) -> None:
    app = declare(CueTasks("billing", callback="http://localhost/cueapi"))
    assert unreachable(iter(app.specs()), server) is None


def test_a_worker_has_no_callback_to_be_reached() -> None:
    app = declare(CueTasks("billing", callback="http://localhost/cueapi", transport="worker"))
    assert unreachable(iter(app.specs()), HOSTED) is None
    assert unreachable(iter(declare(CueTasks("billing")).specs()), HOSTED) is None
