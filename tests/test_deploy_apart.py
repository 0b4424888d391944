"""Deploys that meet each other, a limit, a failure or the end of their process; and what a person sees of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from cueapi_tasks import CueTasks, DeployError
from cueapi_tasks.cli.deploy import Sight, finish
from cueapi_tasks.cli.main import main
from cueapi_tasks.cli.progress import Progress
from cueapi_tasks.cli.revision import revision_of_checkout
from cueapi_tasks.deploy.apply import apply
from cueapi_tasks.deploy.change import Action, Change, Plan
from cueapi_tasks.deploy.markdown import to_markdown
from cueapi_tasks.deploy.pace import Pace

from .deploying import HEAD, NAME, Crash, actions, code, cues, declare, embedded, in_sync, refresh, statuses, wired
from .support import CALLBACK, NOON, World

Worlds = Callable[[CueTasks], World]


def many(count: int, first: int = 0) -> str:
    """Return an app's source with so many tasks."""
    tasks = (
        f"@cue.schedule(cron='0 9 1 1 *', task='t{number}')\ndef t{number}(): ...\n"
        for number in range(first, first + count)
    )
    return HEAD + "".join(tasks)


def carry_out(world: World, made: Plan) -> None:
    """Apply and verify as the command does."""
    account = world.client.me()
    finish(world.client, Sight(plan=made, cues=[], account=account, server="http://localhost", usage=None))


def test_of_two_deploys_at_once_one_fails_naming_the_others_revision_and_one_more_converges(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), cron="0 8 * * *"))
    world.deploy()
    declare(code(world), cron="0 7 * * *")
    wire = wired(world)
    made = world.plan(revision=1)
    ours = world.app
    declare(code(world), cron="0 6 * * *")
    wire.after = lambda: world.deploy(revision=2)
    with pytest.raises(DeployError, match=r"billing/report; a deploy of revision 2 ran at the same time; deploy again"):
        carry_out(world, made)
    assert [cue.schedule.cron for cue in cues(world).values()] == ["0 6 * * *"]
    world.app = ours
    world.deploy(revision=3)
    assert in_sync(world, revision=3)


def test_of_two_first_deploys_at_once_one_finds_the_name_taken(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    made = world.plan(revision=1)
    world.deploy(revision=2)
    with pytest.raises(DeployError, match=r"0 changes were made.*\n.*revision 2; deploy again"):
        carry_out(world, made)
    assert len(cues(world)) == 1


def test_several_writes_at_a_time_that_are_cut_off_are_finished_by_the_next_deploy(worlds: Worlds) -> None:
    world = worlds(CueTasks("billing"))
    for number in range(12):
        world.app.schedule(every="1h", task=f"t{number}")(refresh)
    wire = wired(world, crash_after=5)
    pace = Pace(world.client, workers=4, sleep=world.sleep, clock=world.clock)
    with pytest.raises(Crash):
        apply(world.plan(), pace, lambda change: None)
    wire.crash_after = None
    world.deploy()
    assert {*cues(world)} == {f"billing/t{number}" for number in range(12)}
    assert in_sync(world)


def test_a_first_deploy_creates_all_that_is_declared(worlds: Worlds) -> None:
    options = {"verification": "manual", "callback_headers": {"X-A": "1"}, "description": "", "paused": False}
    world = worlds(declare(CueTasks("billing"), retry={"max_attempts": 1}, **options))
    wire = wired(world)
    world.deploy()
    assert (wire.methods, in_sync(world)) == (["POST"], True)


def test_what_somebody_else_deleted_meanwhile_is_as_it_should_be(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing")))
    world.deploy()
    code(world)
    made = world.plan(prune=True)
    world.client.cues.delete(cues(world)[NAME].id)
    assert world.apply(made).failures == ()


def test_a_one_time_cue_that_a_fire_by_hand_consumed_stays_ended(worlds: Worlds) -> None:
    moment = (NOON + timedelta(days=5)).isoformat()
    world = worlds(declare(CueTasks("billing"), at=moment))
    world.deploy()
    world.client.cues.fire(cues(world)[NAME].id)
    world.run_due()
    assert (cues(world)[NAME].status, in_sync(world)) == ("completed", True)
    assert world.plan(revision=9).raised is None
    declare(code(world), at=moment, description="other")
    assert actions(world.deploy()) == {NAME: "update"}
    assert (cues(world)[NAME].status, in_sync(world)) == ("completed", True)


def test_a_failure_is_told_with_its_cue_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.py").write_text(many(5))
    monkeypatch.chdir(tmp_path)
    with embedded(tmp_path / "data", monkeypatch, cues=3) as client:
        assert main(["deploy", "shop.py", "--yes"]) == 1
        made = statuses(client)
    captured = capsys.readouterr()
    assert "warning [cue_limit]: the account would have 5 cues and its plan allows 3" in captured.out
    assert "error [incomplete]: 3 changes were made, these were not:" in captured.err
    told = {line.split(":")[0].strip() for line in captured.err.splitlines() if line.startswith("  billing/")}
    assert (len(made), told | {*made}) == (3, {f"billing/t{number}" for number in range(5)})


def test_at_the_cue_limit_deletes_go_before_creates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with embedded(tmp_path / "data", monkeypatch, cues=3) as client:
        for source in (many(3), many(3, first=7)):
            (tmp_path / "shop.py").write_text(source)
            assert main(["deploy", "shop.py", "--yes", "--prune", "--allow-mass-removal"]) == 0
        assert {*statuses(client)} == {"billing/t7", "billing/t8", "billing/t9"}


def test_a_replacement_that_the_cue_limit_forbids_leaves_the_old_cue_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with embedded(tmp_path / "data", monkeypatch, cues=1) as client:
        (tmp_path / "shop.py").write_text(many(1))
        assert main(["deploy", "shop.py", "--yes"]) == 0
        (before,) = client.cues.iter()
        (tmp_path / "shop.py").write_text(many(1).replace("cron", "transport='worker', cron"))
        assert main(["deploy", "shop.py", "--yes", "--replace"]) == 1
        (after,) = client.cues.iter()
    assert "error [incomplete]: 0 changes were made" in capsys.readouterr().err
    ignored = {"updated_at"}
    assert after.model_dump(exclude=ignored) == before.model_dump(exclude=ignored)


def test_names_of_cues_cannot_turn_into_markup(worlds: Worlds) -> None:
    world = worlds(declare(CueTasks("billing"), adopts="a|b `c` <img> @team"))
    world.client.cues.create("a|b `c` <img> @team", cron="0 1 * * *", callback=CALLBACK)
    note = to_markdown(world.plan())
    assert "a\\|b \\`c\\` &lt;img> &#64;team was not made by this app" in note
    adopted = to_markdown(world.plan(adopt=True))
    assert '| `name` | `` "a\\|b `c` <img> @team" `` | `"billing/report"` |' in adopted


def test_a_deploy_on_a_terminal_has_a_bar_and_says_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change = Change(action=Action.UPDATE, name="billing/[report]")
    with Progress(1) as plain:
        plain.waiting(1.0, "nothing worth a line")
        plain.waiting(3.4, "the server's rate limit")
        plain.done(change)
    lines = ["waiting 3 s for the server's rate limit", "updated billing/[report]"]
    assert capsys.readouterr().err.splitlines() == lines
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress(1) as bar:
        bar.waiting(1.0, "a run that is due now")
        bar.done(change)
    captured = capsys.readouterr()
    assert ("updated billing/[report]" in captured.err, captured.out) == (True, "")


def test_the_revision_of_a_checkout_is_the_time_of_its_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    monkeypatch.chdir(tmp_path)
    assert revision_of_checkout() is None
    assert "see --revision" in capsys.readouterr().err
    monkeypatch.setenv("GIT_COMMITTER_DATE", "1700000000 +0000")
    who = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", *who, *command], check=True)
    assert revision_of_checkout() == 1_700_000_000
