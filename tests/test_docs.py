"""The README cannot lie: its blocks run, its output is real, and what exists is in it."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cueapi_tasks
from cueapi_tasks.cli.main import cli
from cueapi_tasks.config import APP_VARIABLE, VARIABLES
from cueapi_tasks.server.main import Server, make_credentials

from .support import ROOT

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
QUICKSTART, *PYTHON = [text for kind, text in BLOCKS if kind == "python"]
CONSOLE = [text for kind, text in BLOCKS if kind == "console"]
VOLATILE = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]{3}"), "MOMENT"),
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"in \d+\.\d+ s"), "in N s"),
    (re.compile(r"over \d+ days"), "over N days"),
    (re.compile(r"about [\d,]+ of"), "about N of"),
    (re.compile(r" +$", re.MULTILINE), ""),
)


def steady(text: str) -> list[str]:
    for pattern, name in VOLATILE:
        text = pattern.sub(name, text)
    return text.splitlines()


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "cueapi_tasks", *shlex.split(command)[1:]]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "quickstart.py").write_text(QUICKSTART)
    return tmp_path


def test_the_quickstart_is_the_example() -> None:
    assert (ROOT / "examples" / "quickstart.py").read_text("utf-8") == QUICKSTART


def test_dev_prints_what_the_readme_shows(folder: Path) -> None:
    shown = CONSOLE[0]
    command, *lines = shown.splitlines()
    done = run(f"{command.removeprefix('$ ')} --exit", folder)
    assert done.returncode == 0, done.stderr
    printed = steady(done.stdout)
    assert sorted(printed[:-1]) == sorted(steady("\n".join(lines))[:-1])
    assert printed[:8] == steady("\n".join(lines))[:8]  # the steps of two runs may mix; what comes before may not


def test_the_three_settings_are_enough_for_plan_and_deploy(folder: Path) -> None:
    (settings,) = [text for kind, text in BLOCKS if kind == "bash" and "export" in text]
    names = re.findall(r"^export (\w+)=", settings, re.MULTILINE)
    assert names == ["CUEAPI_API_KEY", "CUEAPI_WEBHOOK_SECRET", "CUEAPI_CALLBACK_URL"]
    credentials = make_credentials()
    server = Server(data=folder / "data", credentials=credentials)
    server.start()
    values = [credentials.api_key, credentials.webhook_secret, "https://your-app.example/cueapi"]
    environment = dict(zip(names, values, strict=True)) | {"CUEAPI_BASE_URL": server.url}
    plan, deploy = re.findall(r"^cueapi-tasks .*$", settings, re.MULTILINE)
    assert "2 to create" in run(plan, folder, **environment).stdout
    assert run(f"{deploy} --yes", folder, **environment).returncode == 0
    assert "2 to keep" in run(plan, folder, **environment).stdout
    server.stop()


def test_next_plan_and_deploy_print_what_the_readme_shows(folder: Path) -> None:
    credentials = make_credentials()
    server = Server(data=folder / "data", credentials=credentials)
    server.start()
    settings = {
        "CUEAPI_API_KEY": credentials.api_key,
        "CUEAPI_BASE_URL": server.url,
        "CUEAPI_CALLBACK_URL": "https://your-app.example/cueapi",
    }
    for shown in CONSOLE[1:]:
        command, *lines = shown.splitlines()
        if " deploy " in command:  # of what was deployed before, one task loses its decorator
            assert run(f"{command.removeprefix('$ ')}", folder, **settings).returncode == 0
            (folder / "quickstart.py").write_text(QUICKSTART.replace('@cue.schedule(every="15m")\n', ""))
        done = run(command.removeprefix("$ "), folder, **settings)
        said = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
        assert [*steady(done.stdout), *said] == steady("\n".join(lines))
    server.stop()


def test_the_python_blocks_run_and_print_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sdk = PYTHON.pop()
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), namespace)
    (printed,) = [text for kind, text in BLOCKS if kind == "text"]
    assert capsys.readouterr().out == printed
    ast.parse(sdk)  # it calls the hosted service


def test_every_command_and_option_is_in_the_readme() -> None:
    for name, command in cli.commands.items():
        assert f"`cueapi-tasks {name}" in README
        shown = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
        options = [option for each in shown for option in each.opts]
        assert [option for option in options if f"`{option}`" not in README] == []


def test_every_setting_and_every_reason_is_in_the_readme() -> None:
    assert [name for name in (*VARIABLES.values(), APP_VARIABLE) if f"`{name}`" not in README] == []
    package = ROOT / "cueapi_tasks"
    paths = [package / "config.py", *(package / "run").glob("*.py"), *(package / "run" / "ledger").glob("*.py")]
    sources = "".join(path.read_text("utf-8") for path in paths)
    reasons = re.findall(r'Refused\(\d+, "(\w+)"\)|reason="(\w+)"|(?:Configuration|Ledger)Error\(\s*"(\w+)"', sources)
    assert [reason for pair in reasons for reason in pair if reason and f"`{reason}`" not in README] == []


def test_the_changelog_has_a_place_for_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in changelog or f"## [{cueapi_tasks.__version__}]" in changelog


def test_the_public_names_are_those_that_are_listed() -> None:
    public = {name for name, value in vars(cueapi_tasks).items() if not name.startswith("_") and not is_module(value)}
    assert public - {"annotations"} == {*cueapi_tasks.__all__}


def is_module(value: object) -> bool:
    return type(value) is type(ast)
