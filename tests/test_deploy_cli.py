"""`plan`, `deploy`, `list`, `next` and `destroy` as they are typed, against the embedded server on a socket."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cueapi import CueAPI
from cueapi_tasks.cli.main import main

from .deploying import HEAD, NAME, REPORT, embedded, statuses

LATER = REPORT.replace("0 9", "30 10")

Output = pytest.CaptureFixture[str]
Write = Callable[[str], None]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shop.py").write_text(REPORT)
    return tmp_path


@pytest.fixture
def write(project: Path) -> Write:
    """Change the app's code."""

    def change(source: str) -> None:
        (project / "shop.py").write_text(source)

    return change


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CueAPI]:
    """Run an embedded server that the environment's settings name."""
    with embedded(tmp_path / "data", monkeypatch) as made:
        yield made


def deploy(*flags: str) -> int:
    return main(["deploy", "shop.py", "--yes", *flags])


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "shop.py", "--jsno"],
        ["plan", "shop.py", "--json", "--markdown"],
        ["plan", "shop.py", "--revision", "new"],
        ["plan", "shop.py", "--out", "."],
        ["deploy", "shop.py", "--plan", "none"],
        ["deploy", "shop.py", "--exit-code"],
        ["next", "shop.py", "--count", "0"],
        ["destroy", "--environment", "staging"],
    ],
)
def test_a_usage_error_is_1_and_never_2(arguments: list[str], capsys: Output) -> None:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err == "") == ("", False)


def test_the_exit_code_tells_changes_from_none_and_from_a_conflict(client: CueAPI) -> None:
    assert [main(["plan", "shop.py", *flags]) for flags in ((), ("--exit-code",))] == [0, 2]
    client.cues.create(NAME, cron="0 1 * * *", callback="https://x.test")
    assert main(["plan", "shop.py", "--exit-code"]) == 2
    assert deploy("--adopt", "--move-callback") == 0
    assert main(["plan", "shop.py", "--exit-code"]) == 0


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "code", "cues"), [("y\n", 0, 1), ("n\n", 1, 0), ("", 1, 0)])
def test_on_a_terminal_a_deploy_asks_naming_the_target_first(
    client: CueAPI, monkeypatch: pytest.MonkeyPatch, capsys: Output, typed: str, code: int, cues: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert main(["deploy", "shop.py"]) == code
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"app billing, environment none, on {client.base_url}, account local@localhost"
    assert client.cues.list().total == cues


@pytest.mark.parametrize("command", [["deploy", "shop.py"], ["deploy", "shop.py", "--json"], ["destroy", "shop.py"]])
def test_without_a_terminal_and_without_yes_nothing_is_written(
    client: CueAPI, write: Write, command: list[str], capsys: Output
) -> None:
    assert deploy() == 0
    before = list(client.cues.iter())
    write(LATER)
    assert main(command) == 1
    assert "error [not_confirmed]" in capsys.readouterr().err
    assert list(client.cues.iter()) == before


MANY = "".join(f"@cue.schedule(cron='0 9 1 1 *', task='t{number}')\ndef t{number}(): ...\n" for number in range(4))


@pytest.mark.parametrize(
    ("before", "after", "callback", "code", "flag"),
    [
        (REPORT, HEAD, None, "nothing_declared", "--allow-empty"),
        (REPORT + MANY, REPORT, None, "mass_removal", "--allow-mass-removal"),
        (REPORT, REPORT.replace("cron", "transport='worker', cron"), None, "replace", "--replace"),
        (REPORT, REPORT, "https://staging.example.com/cueapi", "callback_moved", "--move-callback"),
    ],
)
def test_a_guarded_step_is_refused_until_its_own_flag_allows_it(
    client: CueAPI, write: Write, monkeypatch: pytest.MonkeyPatch, capsys: Output,
    before: str, after: str, callback: str | None, code: str, flag: str,
) -> None:  # fmt: skip
    write(before)
    assert deploy() == 0
    deployed = list(client.cues.iter())
    write(after)
    if callback:
        monkeypatch.setenv("CUEAPI_CALLBACK_URL", callback)
    flags = {"--allow-empty", "--allow-mass-removal", "--replace", "--move-callback"}
    assert deploy(*sorted(flags - {flag})) == 1
    captured = capsys.readouterr()
    assert f"error [{code}]" in captured.err
    assert f"allow it with {flag}. Nothing was written" in captured.err
    assert list(client.cues.iter()) == deployed
    assert deploy(flag) == 0
    assert main(["plan", "shop.py", "--exit-code"]) == 0


def test_a_saved_plan_is_carried_out_once(client: CueAPI, write: Write, capsys: Output) -> None:
    assert main(["plan", "shop.py", "--out", "kept.plan"]) == 0
    assert "deploy --plan kept.plan" in capsys.readouterr().err
    assert deploy("--plan", "kept.plan") == 0
    assert statuses(client) == {NAME: "active"}
    assert deploy("--plan", "kept.plan") == 1
    assert "error [plan_is_stale]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [("CUEAPI_ENVIRONMENT", "staging", "other_target"), ("CUEAPI_BASE_URL", "localhost", "other_target")],
)
def test_a_saved_plan_for_another_target_is_refused(
    client: CueAPI, monkeypatch: pytest.MonkeyPatch, capsys: Output, variable: str, value: str, code: str
) -> None:
    assert main(["plan", "shop.py", "--out", "kept.plan"]) == 0
    monkeypatch.setenv(variable, client.base_url.replace("127.0.0.1", value) if "URL" in variable else value)
    assert deploy("--plan", "kept.plan") == 1
    assert f"error [{code}]" in capsys.readouterr().err
    assert statuses(client) == {}


def test_a_file_that_is_no_plan_is_refused(client: CueAPI, project: Path, capsys: Output) -> None:
    (project / "kept.plan").write_text('{"kind": "cueapi-tasks plan"')
    assert deploy("--plan", "kept.plan") == 1
    assert "error [bad_plan_file]" in capsys.readouterr().err


def test_json_is_exactly_one_document_also_when_the_deploy_is_refused(client: CueAPI, capsys: Output) -> None:
    client.cues.create(NAME, cron="0 1 * * *", callback="https://x.test")
    for command, code in ((["plan", "shop.py"], 0), (["deploy", "shop.py", "--yes"], 1)):
        assert main([*command, "--json"]) == code
        document = json.loads(capsys.readouterr().out)
        assert (document["summary"]["conflict"], document["guards"][0]["code"]) == (1, "conflict")
        assert "secret" not in str(document)


def test_markdown_masks_headers_and_on_request_payloads(client: CueAPI, write: Write, capsys: Output) -> None:
    assert main(["plan", "shop.py", "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("### `billing`: 1 to create")
    assert ("hidden" in shown, "secret" in shown, "`X-Key`" in shown or "X-Key" in shown) == (True, False, True)
    assert main(["plan", "shop.py", "--markdown", "--redact"]) == 0
    redacted = capsys.readouterr().out
    assert ("hidden" in redacted, "secret" in redacted) == (False, False)


def test_prune_says_how_much_history_goes_with_a_cue(client: CueAPI, write: Write, capsys: Output) -> None:
    write(REPORT.replace("cron", "transport='worker', cron"))
    assert deploy() == 0
    (cue,) = client.cues.iter()
    for _ in range(2):
        client.cues.fire(cue.id)
    write(HEAD)
    assert main(["plan", "shop.py", "--prune"]) == 0
    assert "its history goes with it: 2 executions" in capsys.readouterr().out
    assert main(["plan", "shop.py", "--prune", "--markdown"]) == 0
    assert "Its history goes with it: 2 executions." in capsys.readouterr().out
    assert main(["plan", "shop.py", "--prune", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"][0]["history"] == 2
    assert deploy("--prune", "--allow-empty") == 0
    assert statuses(client) == {}


def test_list_shows_what_is_declared_beside_what_is_there(client: CueAPI, write: Write, capsys: Output) -> None:
    assert main(["list", "shop.py"]) == 0
    assert "not deployed" in capsys.readouterr().out
    assert deploy() == 0
    write(HEAD + "@cue.schedule(transport='worker', at='2020-01-01T00:00Z')\ndef over(): ...\n")
    capsys.readouterr()
    assert main(["list", "shop.py", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["cues"]}
    assert [(row["declared"], row["transport"], row["status"], row["action"]) for row in rows.values()] == [
        (True, "worker", "not deployed", "keep: its moment has passed"),
        (False, "webhook", "active", "pause"),
    ]
    assert rows[NAME]["next_run"].endswith("09:00:00Z")
    assert statuses(client) == {NAME: "active"}


def test_next_merges_the_coming_runs_and_asks_no_server(write: Write, capsys: Output) -> None:
    write(
        HEAD
        + "@cue.schedule(cron='0 9 * * *')\ndef nine(): ...\n@cue.schedule(cron='0 10 * * *')\ndef ten(): ...\n"
        + "@cue.schedule(cron='* * * * *', paused=True)\ndef paused(): ...\n"
        + "@cue.schedule(cron='0 0 1 1 * 0 2024-2025')\ndef over(): ...\n"
    )
    assert main(["next", "shop.py", "--json", "--count", "4"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert sorted(run["name"] for run in runs) == ["billing/nine"] * 2 + ["billing/ten"] * 2
    assert [run["at"] for run in runs] == sorted(run["at"] for run in runs)
    assert main(["next", "shop.py", "--count", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_destroy_removes_what_the_app_owns_in_one_environment_with_its_code_or_without(
    client: CueAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.cues.create("of others", cron="0 1 * * *", callback="https://x.test")
    assert deploy() == 0
    with monkeypatch.context() as staging:
        staging.setenv("CUEAPI_ENVIRONMENT", "staging")
        assert deploy() == 0
    assert main(["destroy", "shop.py", "--yes"]) == 0
    assert {*statuses(client)} == {"of others", "billing@staging/report"}
    assert main(["destroy", "--app", "billing", "--yes"]) == 0
    assert {*statuses(client)} == {"of others", "billing@staging/report"}
    assert main(["destroy", "--app", "billing", "--environment", "staging", "--yes"]) == 0
    assert {*statuses(client)} == {"of others"}
