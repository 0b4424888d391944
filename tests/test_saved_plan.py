"""A saved plan: exactly that is applied later, or nothing."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cueapi_tasks import CueTasks, DeployError
from cueapi_tasks.deploy import saved
from cueapi_tasks.deploy.change import Plan
from cueapi_tasks.deploy.saved import Target

from .deploying import NAME, actions, code, cues, declare, in_sync, refresh
from .support import NOON, World

Worlds = Callable[[CueTasks], World]
TARGET = Target(server="http://localhost", account="local@localhost")


@pytest.fixture
def world(worlds: Worlds) -> World:
    """Return a world whose code has changed since the report was deployed."""
    made = worlds(declare(CueTasks("billing")))
    made.deploy(revision=1)
    declare(code(made), cron="0 8 * * *")
    return made


def keep(world: World, path: Path, **wishes: Any) -> Plan:
    """Save the plan of now, and return it."""
    made = world.plan(**wishes)
    saved.save(path, made, TARGET, world.client.cues.iter())
    return made


def check(world: World, path: Path, *, target: Target = TARGET) -> Plan:
    """Return the saved plan, checked against the world as it is now."""
    kept = saved.read(path)
    saved.check(kept, world.plan(), target, world.client.cues.iter())
    return kept.plan


def everything(world: World) -> None:
    """Make a plan of now hold every action."""
    app = code(world)
    for name in ("updated", "replaced", "kept", "left", "came_back", "old"):
        app.schedule(cron="0 9 * * *", task=name)(refresh)
    world.deploy()
    world.client.cues.create("hers", cron="0 1 * * *", callback="http://x.test")
    world.client.cues.create("billing/taken", cron="0 1 * * *", transport="worker")
    app = code(world)
    for name in ("updated", "replaced", "kept", "old"):
        app.schedule(cron="0 9 * * *", task=name)(refresh)
    world.deploy()
    app = code(world, callback_headers={"Authorization": "secret"})
    app.schedule(cron="30 2 1,31 * 1", task="updated", timezone="Europe/Berlin", payload={})(refresh)
    app.schedule(cron="0 9 * * *", task="replaced", transport="worker", callback_headers=None)(refresh)
    app.schedule(cron="0 9 * * *", task="came_back", late="skip", max_late=5.5)(refresh)
    app.schedule(cron="0 9 * * *", task="new", was="old")(refresh)
    app.schedule(cron="0 9 * * *", task="adopting", adopts="hers")(refresh)
    app.schedule(cron="0 9 * * *", task="taken")(refresh)
    app.schedule(at=NOON + timedelta(microseconds=5, days=1), task="once", retry={"backoff_minutes": [0, 1]})(refresh)
    app.schedule(at=NOON - timedelta(days=1), task="over")(refresh)
    declare(app, paused=True, payload={"region": "ü€😀"}, on_failure={"webhook": "https://x.test/"})


@pytest.mark.parametrize("prune", [False, True])
def test_a_plan_with_everything_in_it_comes_back_exactly_equal(world: World, tmp_path: Path, prune: bool) -> None:
    everything(world)
    made = keep(world, tmp_path / "plan", prune=prune, adopt=True, revision=3)
    assert {*actions(made).values()} >= {"create", "update", "rename", "replace", "resume", "adopt", "conflict", "keep"}
    assert saved.read(tmp_path / "plan").plan == made


def test_a_saved_plan_is_its_owners_alone_also_where_the_file_was_not(world: World, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    path.write_text("of before")
    path.chmod(0o644)
    keep(world, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_saved_plan_is_applied_and_then_nothing_is_left_to_do(world: World, tmp_path: Path) -> None:
    keep(world, tmp_path / "plan", revision=2)
    assert world.apply(check(world, tmp_path / "plan")).failures == ()
    assert in_sync(world, revision=2)


def test_runs_in_between_do_not_make_a_plan_stale(world: World, tmp_path: Path) -> None:
    everything(world)
    made = keep(world, tmp_path / "plan")
    before = cues(world)["billing/updated"]
    world.clock.advance(days=2)
    world.run_due()
    after = cues(world)["billing/updated"]
    assert after.next_run != before.next_run
    assert check(world, tmp_path / "plan") == made


def test_cues_of_others_may_come_and_go(world: World, tmp_path: Path) -> None:
    keep(world, tmp_path / "plan")
    world.client.cues.create("of others", cron="0 1 * * *", callback="http://x.test")
    check(world, tmp_path / "plan")


def paused(world: World) -> None:
    world.client.cues.pause(cues(world)[NAME].id)


def edited(world: World) -> None:
    world.client.cues.update(cues(world)[NAME].id, callback_headers={"X": "1"})


def renamed(world: World) -> None:
    world.client.cues.update(cues(world)[NAME].id, name="other")


def deleted(world: World) -> None:
    world.client.cues.delete(cues(world)[NAME].id)


def deployed(world: World) -> None:
    world.deploy(revision=1)


def taken(world: World) -> None:
    world.client.cues.create("billing/new", cron="0 1 * * *", callback="http://x.test")


def owned(world: World) -> None:
    cue = cues(world)[NAME]
    stamp = {**cue.payload["_cueapi_tasks"], "task": "elsewhere"}
    world.client.cues.create(
        "billing/elsewhere", cron="0 1 * * *", callback="http://x.test", payload={"_cueapi_tasks": stamp}
    )


@pytest.mark.parametrize("change", [paused, edited, renamed, deleted, deployed, taken, owned])
def test_a_plan_is_refused_once_the_cues_it_was_made_from_have_changed(
    world: World, tmp_path: Path, change: Callable[[World], None]
) -> None:
    world.app.schedule(every="1h", task="new")(refresh)
    keep(world, tmp_path / "plan")
    change(world)
    with pytest.raises(DeployError) as caught:
        check(world, tmp_path / "plan")
    assert caught.value.code == "plan_is_stale"


@pytest.mark.parametrize(
    ("what", "target", "app", "environment"),
    [
        ("server", replace(TARGET, server="http://elsewhere"), "billing", None),
        ("account", replace(TARGET, account="other@localhost"), "billing", None),
        ("app", TARGET, "shop", None),
        ("environment", TARGET, "billing", "staging"),
    ],
)
def test_a_plan_for_another_target_is_refused_naming_both(
    world: World, tmp_path: Path, what: str, target: Target, app: str, environment: str | None
) -> None:
    keep(world, tmp_path / "plan")
    declare(code(world, app, environment=environment))
    with pytest.raises(DeployError, match=f"made for the {what} .*, not ") as caught:
        check(world, tmp_path / "plan", target=target)
    assert caught.value.code == "other_target"


def without(key: str) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
    return lambda document: {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document | {"version": 2},
        lambda document: document | {"kind": "terraform plan"},
        lambda document: document | {"plan": {**document["plan"], "changes": [{"action": "explode"}]}},
        lambda document: [document],
        without("state"),
        without("plan"),
    ],
)
def test_a_file_that_holds_no_plan_of_this_version_is_refused(
    world: World, tmp_path: Path, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    path = tmp_path / "plan"
    keep(world, path)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    with pytest.raises(DeployError, match=r"make it anew|make one") as caught:
        saved.read(path)
    assert caught.value.code == "bad_plan_file"


def test_a_truncated_file_a_folder_and_none_at_all_are_refused(world: World, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    keep(world, path)
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:size])
        with pytest.raises(DeployError, match="is no saved plan"):
            saved.read(path)
    for bad in (tmp_path, tmp_path / "none"):
        with pytest.raises(DeployError, match="is no saved plan"):
            saved.read(bad)


@pytest.mark.parametrize("where", ["missing/plan", "."])
def test_a_plan_that_cannot_be_written_says_so_and_leaves_nothing_behind(
    world: World, tmp_path: Path, where: str
) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    with pytest.raises(DeployError) as caught:
        keep(world, folder / "inner" if where == "." else folder / where)
    assert caught.value.code == "plan_not_written"
    assert [each.name for each in folder.rglob("*")] == ["inner"]


def test_a_plan_that_is_being_replaced_is_the_old_one_until_it_is_the_new_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan"
    first = keep(world, path)

    def full(self: Path, target: Path) -> Path:
        assert saved.read(path).plan == first
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", full)
        with pytest.raises(DeployError, match="No space left"):
            keep(world, path, prune=True)
    assert saved.read(path).plan == first
    assert [each.name for each in tmp_path.iterdir() if "plan" in each.name] == ["plan"]
