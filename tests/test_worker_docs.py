"""The worker's pages cannot lie: their blocks run, their commands parse, and every event is explained."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from cueapi import CueAPI
from cueapi_tasks.cli.main import cli
from cueapi_tasks.config import sqlite_path
from cueapi_tasks.server.main import Server

from .support import API_KEY, ROOT

PAGES = {path.stem: path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")}
WORKER, MOVING = PAGES["worker"], PAGES["moving-from-cueapi-worker"]
PATIENCE = 60.0
SCRIPT = """
test "$1 $REGION" = "db eu" || exit 4
test "$CUEAPI_CUE_ID" -a "$CUEAPI_EXECUTION_ID" -a "$CUEAPI_PAYLOAD" || exit 5
echo "backed up $1"
printf '{"external_id": "b1", "summary": "one backup", "odd": 1}' > "$CUEAPI_OUTCOME_FILE"
"""


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def check_command(words: list[str]) -> str:
    """Return the name of the command that these words call, or raise if it would refuse them."""
    name = words[1]
    with cli.commands[name].make_context(name, words[2:]):
        return name


def run(command: str, folder: Path, server: Server) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "CUEAPI_API_KEY": API_KEY,
        "CUEAPI_BASE_URL": server.url,
        "CUEAPI_LEDGER": f"sqlite:///{folder / 'ledger.db'}",
    }
    words = [sys.executable, "-m", "cueapi_tasks", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


def outcome(client: CueAPI, execution_id: str) -> dict[str, Any]:
    """Return an outcome and its evidence."""
    execution = client.executions.get(execution_id)
    assert execution.outcome is not None
    extra = execution.model_extra or {}
    evidence = {key: value for key, value in extra.items() if key.startswith("evidence_") and value is not None}
    return {"status": execution.status, "result": execution.outcome.result, **evidence}


def test_the_first_task_is_deployed_and_run_by_the_commands_beside_it(
    tmp_path: Path, server: Server, client: CueAPI
) -> None:
    code, _ = blocks(WORKER, "python")
    (tmp_path / "billing.py").write_text(code)
    deploy, worker = re.findall(r"^cueapi-tasks .*$", blocks(WORKER, "bash")[0], re.MULTILINE)
    run(f"{deploy} --yes", tmp_path, server)
    fired = client.cues.fire(next(iter(client.cues.iter())).id).id
    run(f"{worker} --once", tmp_path, server)
    assert outcome(client, fired) == {"status": "success", "result": "closed, attempt 1"}


def test_the_program_of_yours_runs_what_waits(
    tmp_path: Path, server: Server, client: CueAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUEAPI_API_KEY", API_KEY)
    monkeypatch.setenv("CUEAPI_BASE_URL", server.url)
    monkeypatch.setenv("CUEAPI_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    namespace: dict[str, Any] = {"__name__": "billing"}
    for block in blocks(WORKER, "python"):
        exec(compile(block, "worker.md", "exec"), namespace)
    (tmp_path / "billing.py").write_text(blocks(WORKER, "python")[0])
    run("cueapi-tasks deploy billing.py --yes", tmp_path, server)
    fired = client.cues.fire(next(iter(client.cues.iter())).id).id

    def serve() -> None:
        deadline = time.monotonic() + PATIENCE
        while client.executions.get(fired).outcome is None and time.monotonic() < deadline:
            time.sleep(0.02)

    namespace["serve"] = serve
    namespace["main"]()
    assert outcome(client, fired)["status"] == "success"


def test_the_systemd_unit_is_one_and_starts_the_worker(tmp_path: Path) -> None:
    (unit,) = blocks(WORKER, "ini")
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit)
    service = parser["Service"]
    assert check_command(shlex.split(service["ExecStart"])) == "worker"
    assert sqlite_path(service["Environment"].partition("=")[2]) == Path("/var/lib/billing/ledger.db")
    assert float(service["TimeoutStopSec"]) > default_of("worker", "grace")
    if shutil.which("systemd-analyze"):
        (tmp_path / "billing-worker.service").write_text(
            unit.replace("/srv/billing/.venv/bin/cueapi-tasks", "/bin/true")
        )
        command = ["systemd-analyze", "verify", str(tmp_path / "billing-worker.service")]
        assert "Unknown" not in subprocess.run(command, capture_output=True, text=True).stderr


def default_of(command: str, option: str) -> float:
    return next(float(str(each.default)) for each in cli.commands[command].params if each.name == option)


def test_the_container_and_the_crontab_start_the_worker() -> None:
    (container,), (crontab,) = blocks(WORKER, "dockerfile"), blocks(WORKER, "cron")
    (start,) = re.findall(r"^CMD (.*)$", container, re.MULTILINE)
    assert check_command(json.loads(start)) == "worker"
    assert check_command(shlex.split(crontab.rpartition("&& ")[2])) == "worker"
    (url,) = re.findall(r"^ENV CUEAPI_LEDGER=(.*)$", container, re.MULTILINE)
    assert sqlite_path(url) == Path("/data/ledger.db")


def test_every_option_and_every_event_of_the_worker_is_explained() -> None:
    shown = [each for each in cli.commands["worker"].params if isinstance(each, click.Option)]
    assert [name for each in shown for name in each.opts if f"| `{name}` |" not in WORKER] == []
    names = ("worker", "intake", "holder", "claims", "link", "runner", "report")
    sources = "".join((ROOT / "cueapi_tasks" / "run" / f"{name}.py").read_text("utf-8") for name in names)
    logged = {*re.findall(r'log\.event\(\s*logger,\s*"(\w+)"', sources)} - {"slow_run"}  # of webhooks alone
    watched = {
        f"{what}_{state}"
        for what in ("api", "queue", "ledger", "ledger_writing")
        for state in ("unavailable", "available_again")
    }
    assert [event for event in logged | watched if f"`{event}`" not in WORKER] == []


def test_the_moving_pages_module_is_the_example() -> None:
    assert blocks(MOVING, "python") == [(ROOT / "examples" / "shell_handlers.py").read_text("utf-8")]
    assert [check_command(shlex.split(line)) for line in blocks(MOVING, "bash")[0].splitlines()] == ["deploy", "worker"]


def test_the_moving_pages_commands_adopt_the_cue_and_run_the_command(
    tmp_path: Path, server: Server, client: CueAPI
) -> None:
    cue_id = prepared(tmp_path, client)
    deploy, worker = blocks(MOVING, "bash")[0].splitlines()
    run(f"{deploy} --yes", tmp_path, server)
    assert client.cues.get(cue_id).name == "handlers/backup"
    fired = client.cues.fire(cue_id).id
    run(f"{worker} --once", tmp_path, server)
    assert outcome(client, fired) == {
        "status": "success",
        "result": "backed up db\n",
        "evidence_external_id": "b1",
        "evidence_summary": "one backup",
    }


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo broken >&2; exit 3", "RuntimeError: broken\n"),
        ('printf \'{"success": false, "error": "no disk"}\' > "$CUEAPI_OUTCOME_FILE"', "RuntimeError: no disk"),
        ("exit 7", "RuntimeError: exit code 7"),
    ],
)
def test_a_command_that_fails_is_a_failure(
    tmp_path: Path, server: Server, client: CueAPI, script: str, error: str
) -> None:
    cue_id = prepared(tmp_path, client, script)
    run("cueapi-tasks deploy shell_handlers.py --adopt --yes", tmp_path, server)
    fired = client.cues.fire(cue_id).id
    run("cueapi-tasks worker shell_handlers.py --once", tmp_path, server)
    failure = client.executions.get(fired).outcome
    assert failure is not None
    assert (failure.success, failure.error) == (False, error)


@pytest.mark.slow
def test_cueapi_worker_does_with_the_pages_yaml_what_the_module_does(
    tmp_path: Path, server: Server, client: CueAPI, install: Callable[[str], Path]
) -> None:
    cue_id = prepared(tmp_path, client)
    (config,) = blocks(MOVING, "yaml")
    head = f"api_key: {API_KEY}\napi_base: {server.url}\n"
    (tmp_path / "worker.yaml").write_text(head + config.replace("/srv/billing", str(tmp_path)))
    theirs, deadline = client.cues.fire(cue_id).id, time.monotonic() + PATIENCE
    command = [install("cueapi-worker==0.3.0") / "cueapi-worker", "start", "--config", "worker.yaml"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [*map(str, command)], cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}, stdout=quiet, stderr=quiet
    ) as daemon:
        while client.executions.get(theirs).outcome is None and time.monotonic() < deadline:
            time.sleep(0.1)
        daemon.kill()
    run("cueapi-tasks deploy shell_handlers.py --adopt --yes", tmp_path, server)
    ours = client.cues.fire(cue_id).id
    run("cueapi-tasks worker shell_handlers.py --once", tmp_path, server)
    assert outcome(client, ours) == outcome(client, theirs)


def prepared(folder: Path, client: CueAPI, script: str = SCRIPT) -> str:
    """Make what somebody who moves over has: a cue, and the command that handles it."""
    module = (ROOT / "examples" / "shell_handlers.py").read_text("utf-8")
    (folder / "shell_handlers.py").write_text(module.replace("/srv/billing", str(folder)))
    (folder / "backup.sh").write_text(script)
    payload = {"task": "backup", "target": "db", "region": "eu"}
    return client.cues.create("nightly backup", cron="0 2 * * *", transport="worker", payload=payload).id
