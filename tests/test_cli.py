"""The command line: every bad input is one clear message and exit 1, and nothing is written remotely."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cueapi import CueAPI
from cueapi_tasks.cli.main import main
from cueapi_tasks.cli.state import State, read_state, write_state
from cueapi_tasks.errors import ServerStartError
from cueapi_tasks.server.main import Server, make_credentials

APP = """
from cueapi_tasks import CueTasks
cue = CueTasks("billing")

@cue.schedule(cron="0 9 * * *")
def report() -> None: ...
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CueAPI]:
    """Run an embedded server that the environment's settings name."""
    credentials = make_credentials()
    server = Server(data=tmp_path / "data", credentials=credentials)
    server.start()
    monkeypatch.setenv("CUEAPI_API_KEY", credentials.api_key)
    monkeypatch.setenv("CUEAPI_BASE_URL", server.url)
    monkeypatch.setenv("CUEAPI_CALLBACK_URL", "https://example.com/cueapi")
    with CueAPI() as made:
        yield made
    server.stop()


@pytest.mark.parametrize("command", ["dev", "plan", "deploy"])
@pytest.mark.parametrize(
    ("app", "source", "code", "says"),
    [
        ("nope", "", "module_not_found", "no module 'nope'"),
        ("nope.py", "", "file_not_found", "no file nope.py"),
        ("broken.py", "1 / 0", "import_failed", "ZeroDivisionError"),
        ("broken.py", "import nothing_like_it", "import_failed", "No module named 'nothing_like_it'"),
        ("broken.py", "def f(:", "import_failed", "SyntaxError"),
        ("app:report", APP, "not_an_app", "has a Task there; did you mean app:cue"),
        ("app.py:cues", APP, "not_an_app", "no such attribute; did you mean app.py:cue"),
        ("none.py", "x = 1", "no_app_in_module", "make one: cue = CueTasks"),
        ("two.py", APP + "other = CueTasks('b')", "several_apps", "two.py:cue or two.py:other"),
        ("bad.py", APP.replace("0 9", "61 9"), "import_failed", "out of range"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_one_clear_message(
    project: Path, capsys: pytest.CaptureFixture[str], command: str, app: str, source: str, code: str, says: str
) -> None:
    if source and app.partition(":")[0].endswith(".py"):
        (project / app.partition(":")[0]).write_text(source)
    assert main([command, app]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error [{code}]" in captured.err
    assert says in captured.err
    assert "cueapi_tasks/cli" not in captured.err


def test_a_declaration_that_cannot_be_is_one_line_with_its_place(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "bad.py").write_text(APP.replace("0 9", "61 9"))
    assert main(["plan", "bad.py"]) == 1
    first, last = capsys.readouterr().err.splitlines()[-2:]
    assert first.startswith(f"{project / 'bad.py'}:5: [bad_cron] cron '61 9 * * *'")
    assert last.startswith("error [import_failed]")


def test_django_is_set_up_before_the_app_is_imported(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "app.py").write_text(f"from django.apps import apps\nassert apps.ready\n{APP}")
    (project / "site_settings.py").write_text("INSTALLED_APPS = []")
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "site_settings"}
    command = [sys.executable, "-m", "cueapi_tasks", "next", "app"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "no_such_settings")
    broken = subprocess.run(command, cwd=project, env=os.environ, capture_output=True, text=True)
    assert broken.returncode == 1
    assert "what DJANGO_SETTINGS_MODULE names could not be imported" in broken.stderr


@pytest.mark.parametrize("command", [["dev", "app", "--data"], ["server", "--port", "0", "--data"]])
def test_a_directory_that_cannot_be_written_is_one_clear_message(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([*command, "/proc/none"]) == 1
    assert "error [data_unusable]: /proc/none cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["dev", "app", "--exit"], "give --now too"),
        (["server", "--port", "99999"], "99999 is not in the range"),
        (["server", "--credentials", "app.json"], "it has neither of the two keys"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], command: list[str], says: str
) -> None:
    (project / "app.json").write_text('{"key": 1}')
    assert main(command) == 1
    assert says in capsys.readouterr().err


def test_an_app_is_named_by_argument_environment_or_pyproject(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan"]) == 1
    assert "error [no_app]" in capsys.readouterr().err
    (project / "pyproject.toml").write_text('[tool.cueapi-tasks]\napp = "from_pyproject"')
    assert main(["plan"]) == 1
    assert "no module 'from_pyproject'" in capsys.readouterr().err
    monkeypatch.setenv("CUEAPI_APP", "from_environment")
    assert main(["plan"]) == 1
    assert "no module 'from_environment'" in capsys.readouterr().err
    (project / "pyproject.toml").write_text("[")
    monkeypatch.delenv("CUEAPI_APP")
    assert main(["plan"]) == 1
    assert "error [bad_pyproject]" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["plan", "app"], ["deploy", "app", "--yes"]])
def test_a_missing_setting_a_wrong_key_and_a_server_that_is_down_say_what_to_do(
    client: CueAPI, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    for variable, value, says in (
        ("CUEAPI_CALLBACK_URL", "", "set CUEAPI_CALLBACK_URL"),
        ("CUEAPI_API_KEY", "wrong", "check CUEAPI_API_KEY"),
        ("CUEAPI_API_KEY", "", "set CUEAPI_API_KEY"),
        ("CUEAPI_BASE_URL", "http://127.0.0.1:9", "check CUEAPI_BASE_URL"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(variable, value)
            assert main(command) == 1
        captured = capsys.readouterr()
        assert says in captured.err
        assert "Traceback" not in captured.err
    assert client.cues.list().total == 0


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "plan", "nope"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["plan", "--bogus"], ["bogus"], ["server", "--port", "x"]])
def test_a_usage_error_is_1_since_2_says_that_a_plan_holds_changes(arguments: list[str]) -> None:
    assert main(arguments) == 1


def test_plan_and_deploy_agree_and_the_exit_code_says_whether_there_are_changes(
    client: CueAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "app"]) == 0
    assert main(["plan", "app", "--exit-code"]) == 2
    assert client.cues.list().total == 0
    assert main(["deploy", "app", "--yes"]) == 0
    assert client.cues.list().total == 1
    assert main(["plan", "app", "--exit-code"]) == 0
    assert "+ create billing/report" in capsys.readouterr().out


def test_json_is_the_only_thing_on_standard_output(client: CueAPI, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["plan", "app", "--json"], ["deploy", "app", "--yes", "--json"]):
        assert main(command) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["summary"]["create"] == 1
        assert "account local@localhost" in captured.err


def test_without_a_terminal_and_without_yes_nothing_is_written(
    client: CueAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "app"]) == 1
    assert "add --yes" in capsys.readouterr().err
    assert client.cues.list().total == 0


def test_a_foreign_cue_of_a_wanted_name_stops_the_deploy(
    client: CueAPI, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.cues.create("billing/report", cron="0 1 * * *", callback="https://x.test")
    (project / "app.py").write_text(APP + "\n@cue.schedule(cron='0 9 * * *')\ndef other() -> None: ...\n")
    assert main(["deploy", "app.py", "--yes"]) == 1
    assert "error [conflict]" in capsys.readouterr().err
    assert client.cues.list().total == 1


@pytest.mark.parametrize("command", [["deploy", "empty.py", "--yes"], ["dev", "empty.py", "--exit"]])
def test_an_app_without_tasks_is_refused(client: CueAPI, project: Path, command: list[str]) -> None:
    (project / "empty.py").write_text("from cueapi_tasks import CueTasks\ncue = CueTasks('empty')")
    assert main(command) == 1


def test_kept_state_is_private_and_one_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    state = State(api_key="k", webhook_secret="s", server_port=1)
    write_state(tmp_path / "new", state)
    assert read_state(tmp_path / "new") == state
    assert (tmp_path / "new" / "state.json").stat().st_mode & 0o077 == 0
    assert "k" not in repr(state)
    (tmp_path / "new" / "state.json").write_text("{")
    with pytest.raises(ServerStartError, match="delete it"):
        read_state(tmp_path / "new")
